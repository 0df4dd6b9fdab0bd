"""What README says of generators of one's own is what happens."""

import re

import torch
from torch import nn

from helpers import correct, env, survey, units
from helpers.flow import Flow
from helpers.latents import latents
from tests.networks import Dcgan

README = (env.ROOT / "README.md").read_text(encoding="utf-8")
SECTION = re.search(r"^## Your own generator\n(.*?)^## ", README, re.S | re.M)[1]
BLOCKS = re.findall(r"```python\n(.*?)```", SECTION, re.S)


class Conditional(nn.Module):
    """Takes a class, returns two things, and branches."""

    def __init__(self):
        super().__init__()
        self.embed, self.up1, self.up2 = (
            nn.Embedding(5, 64),
            nn.ConvTranspose2d(64, 4, 4),
            nn.ConvTranspose2d(4, 3, 4, 2, 1),
        )

    def forward(self, z, y):
        h = z + self.embed(y)
        h = self.up1(h[:, :, None, None] if h.ndim == 2 else h).relu()
        return {"image": self.up2(h), "label": y}


class Main(Dcgan):
    """As many parts as the README's example names."""

    def __init__(self):
        super().__init__()
        up = [nn.ConvTranspose2d(100, 8, 4), nn.BatchNorm2d(8), nn.ReLU(True)]
        for inputs, outputs in ((8, 6), (6, 4)):
            up += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.BatchNorm2d(outputs), nn.ReLU(True)]
        self.main = nn.Sequential(*up, nn.ConvTranspose2d(4, 3, 4, 2, 1), nn.Tanh())


def test_the_examples_run(tmp_path):
    scope = {"my_dcgan": Main().eval(), "my_cgan": Conditional().eval(), "torch": torch}
    exec(BLOCKS[1], scope)
    flow, z = scope["flow"], latents(range(4), 64)
    y = torch.full((4,), 3)
    expected = scope["my_cgan"](z, y)["image"].detach()
    torch.testing.assert_close(flow.generate(z), expected, rtol=1e-4, atol=1e-5)
    names = list(Flow.candidates(scope["my_dcgan"], (100, 1, 1)))
    assert [name for name in names if name in ("main.2", "main.5", "main.8")] == ["main.2", "main.5", "main.8"]


def test_the_lines_on_scores_run_on_any_flow():
    flow = Flow.from_module(Main().eval(), ["main.2", "main.5"], (100, 1, 1))
    masks = torch.zeros(100, 32, 32, dtype=torch.bool)
    masks[:, 4:9, 4:9] = True
    lines = (
        BLOCKS[0].split("\n", 2)[2].replace("checkpoints.load_generator", "given").replace("range(2000)", "range(120)")
    )
    lines = lines.replace("correct.sequential(scores)", "correct.sequential(scores, 2)")
    scope = {"given": lambda path: flow, "masks": masks, "correct": correct, "survey": survey, "units": units}
    from helpers import latents as module

    exec(lines, scope | {"latents": module})

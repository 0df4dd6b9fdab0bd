"""Draw README's picture: held-out artifacts, their masks, and what the corrections make of them.

    python -m tools.build.overview             # writes docs/overview.png

The images are not hand-picked: they are the first held-out artifacts by id. The tuned setting is the one
that notebook 05 chooses on tuning images.
"""

import torch

from helpers import correct, domains, env, show, survey, units

COUNT = 8


def main():
    env.start("overview")
    domain = domains.load("churches")
    train, held_out = domain.split(domains.TRAIN)[0], domain.split(domains.TEST)[0][:COUNT]
    thresholds = survey.thresholds(domain.flow, domain.latents(domains.POOL[:2000]), layers=domain.flow.layers[:6])
    scores = units.defective_scores(domain.flow, domain.latents(train), domain.masks(train), thresholds)
    images, masks = domain.images(held_out), domain.masks(held_out)
    rows = {
        "artifact": images,
        "mask": show.tint(images, masks, outline=True),
        "paper's setting": domain.images(held_out, correct.sequential(scores)),
        "tuned setting": domain.images(held_out, correct.sequential(scores, stop_layer=1, portion=0.1)),
    }
    figure = show.compare({name: torch.as_tensor(row) for name, row in rows.items()})
    path = env.ROOT / "docs" / "overview.png"
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=150, bbox_inches="tight")
    print(f"wrote {path.relative_to(env.ROOT)}")


if __name__ == "__main__":
    main()

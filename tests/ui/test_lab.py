"""The widgets, driven as a person does: real Chromium, a live JupyterLab, a kernel that can die."""

import os
import re
import signal
import time

import pytest

from helpers import env, labels, rating

pytestmark = pytest.mark.browser

WORLD = """
import os, time
import torch
from helpers import pggan, units, widgets
from helpers.flow import Flow
from helpers.latents import latents
torch.manual_seed(0)
torch.set_num_threads(1)
flow = Flow(pggan.Layers(pggan.Generator((12, 12, 12, 8, 8), latent=10)))
z = latents(range(12), 10)
images = flow.generate(z).clamp(-1, 1)
scores = {name: units.random_scores(flow, seed) for seed, name in enumerate(("DS", "FD", "random"))}
masks = torch.zeros(12, 64, 64, dtype=torch.bool)
masks[:, 10:30, 20:50] = True
"""
CORRECTOR = """
def realism(images):
    if torch.equal(images, flow.generate(z[3:4]).clamp(-1, 1)):
        raise ValueError("image 3 is <forbidden> here")
    return images.mean(dim=(1, 2, 3))

view = widgets.corrector(flow, z, scores, masks, realism=realism, d_values=lambda images: -images.std(dim=(1, 2, 3)))
view
"""
LABELLER = """
def slow(ids):  # so that a person can be faster than the machine
    time.sleep(0.1)
    return images[ids]

view = widgets.labeller(slow, range(12), {path!r}, "ann")
print("the kernel is process", os.getpid())
view
"""

RATER = """
view = widgets.rater(images, {{"inverted": -images, "grey": 0 * images}}, range(12), {path!r}, "ann")
view
"""

BROWSERS = """
from helpers import survey
cams = torch.linspace(0, 1, 64).expand(12, 64, 64)
top = survey.top_images(flow, z, k=4)
masks = widgets.mask_explorer(images, {"across": cams, "down": cams.transpose(1, 2)})
browser = widgets.unit_browser(flow, z, scores["DS"], top)
axis = widgets.axis_browser(torch.linspace(-3, 3, 12), images, ["normal", "artifact"] * 6)
display(masks, browser, axis)
"""


def until(condition, seconds=15):
    """Wait until a function of nothing is true; return its last value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return value


def test_corrector(jupyter):
    from playwright.sync_api import expect

    page = jupyter.page
    jupyter.write("corrector.ipynb", [WORLD, CORRECTOR])
    jupyter.open("corrector.ipynb")
    jupyter.run_all()
    expect(page.get_by_text("sequential, stop layer 6, portion 20 %, scale 0.90: 12 units")).to_be_visible(
        timeout=60_000
    )
    first = jupyter.picture()
    address = page.locator("img.jupyter-widgets").get_attribute("src")

    page.get_by_label("stop layer", exact=True).fill("4")  # number boxes are labelled
    page.keyboard.press("Enter")
    expect(page.get_by_text("sequential, stop layer 4, portion 20 %, scale 0.90")).to_be_visible()
    assert page.locator("img.jupyter-widgets").get_attribute("src") != address
    fourth = jupyter.picture()
    assert fourth != first
    page.get_by_role("slider").first.focus()  # sliders answer arrow keys
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("stop layer 5, portion 20 %")).to_be_visible()
    expect(page.get_by_text("computed layers 7 to 11")).to_be_visible()  # layer 6 was before the edit of layer 6
    expect(page.get_by_label("stop layer", exact=True)).to_have_value("5")
    page.get_by_role("slider").nth(1).focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(page.get_by_text("portion 25 %")).to_be_visible()
    expect(page.get_by_text('sequential(scores["DS"], stop_layer=5, portion=0.25, scale=0.9)')).to_be_visible()

    page.get_by_label("method").select_option("local")
    expect(page.get_by_text("local, stop layer 5, portion 25 %:")).to_be_visible()
    expect(page.get_by_label("scale")).to_be_disabled()
    page.get_by_label("method").select_option("FD: one layer to zero")
    expect(page.get_by_text("top FD units of one layer to zero, layer 5")).to_be_visible()
    expect(page.get_by_label("layer", exact=True)).to_have_value("5")
    page.get_by_label("method").select_option("none")
    expect(page.get_by_text("no correction: 0 units")).to_be_visible()
    page.get_by_role("button", name="undo").click()
    expect(page.get_by_text("top FD units of one layer to zero, layer 5")).to_be_visible()

    page.get_by_label("image", exact=True).fill("3")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("image 3 is <forbidden> here")
    page.get_by_role("button", name="previous").click()
    expect(page.get_by_text("image 2; top FD")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)
    page.get_by_role("button", name="reset").click()
    expect(page.get_by_text("image 0; sequential, stop layer 6, portion 20 %")).to_be_visible()
    assert jupyter.picture() == first  # the same picture again, pixel by pixel
    page.get_by_role("button", name="undo").click()
    expect(page.get_by_text("image 2; top FD")).to_be_visible()


def test_labeller_loses_nothing_when_its_kernel_dies(jupyter, tmp_path):
    from playwright.sync_api import expect

    page, path = jupyter.page, tmp_path / "labels.csv"

    def rows():
        return [(row["id"], row["type"] or "normal") for row in labels.read(path).rows] if path.exists() else []

    def press(name):
        page.get_by_role("button", name=name).click()

    jupyter.write("labeller.ipynb", [WORLD, LABELLER.format(path=str(path))])
    jupyter.open("labeller.ipynb")
    jupyter.run_all()
    expect(page.get_by_text("image 0, 1 of 12, no label yet; 0 of 12 labelled")).to_be_visible(timeout=60_000)
    assert not path.exists()
    before = jupyter.picture()
    press("normal [n]")
    expect(page.get_by_text("image 1, 2 of 12")).to_be_visible()
    assert rows() == [(0, "normal")] and jupyter.picture() != before
    press("stain [s]")
    expect(page.get_by_text("2 of 12 labelled (normal 1, outline 0, texture 0, stain 1")).to_be_visible()

    # Letters, typed faster than the machine can follow: none is lost, none counts twice.
    page.get_by_label("type a letter").click()
    page.keyboard.type("nnotf", delay=30)
    expected = [
        (0, "normal"),
        (1, "stain"),
        (2, "normal"),
        (3, "normal"),
        (4, "outline"),
        (5, "texture"),
        (6, "fusion"),
    ]
    assert until(lambda: rows() == expected), rows()
    expect(page.get_by_text("image 7, 8 of 12")).to_be_visible()
    expect(page.get_by_label("type a letter")).to_have_value("")
    page.keyboard.type("u")
    assert until(lambda: rows() == expected[:-1]), rows()
    expect(page.get_by_text("image 6, 7 of 12")).to_be_visible()
    page.keyboard.type("q")
    expect(page.get_by_role("alert")).to_contain_text("the letter 'q' means nothing here")
    page.keyboard.type("k")
    expect(page.get_by_text("image 7, 8 of 12")).to_be_visible()
    press("back [b]")
    press("back [b]")
    expect(page.get_by_text("image 5, 6 of 12, texture")).to_be_visible()
    page.get_by_role("button", name="missing [m]").focus()
    page.keyboard.press("Enter")  # every button is in reach of the keyboard
    expected = [*expected[:5], (5, "missing")]
    assert until(lambda: rows() == expected), rows()
    press("undo [u]")
    assert until(lambda: rows() == [*expected[:5], (5, "texture")]), rows()

    process = int(re.search(r"process (\d+)", page.get_by_text(re.compile(r"is process \d+")).inner_text())[1])
    os.kill(process, signal.SIGKILL)
    expect(page.get_by_text("Kernel Restarting", exact=True)).to_be_visible(timeout=20_000)
    page.get_by_role("button", name="Ok", exact=True).click()
    page.get_by_text("| Idle").wait_for(timeout=30_000)
    jupyter.run_all()
    expect(page.get_by_text("image 6, 7 of 12, no label yet; 6 of 12 labelled")).to_be_visible(timeout=60_000)
    press("other [x]")
    assert until(lambda: rows() == [*expected[:5], (5, "texture"), (6, "other")]), rows()
    page.get_by_label("export to").fill(str(tmp_path / "export.csv"))
    press("export CSV")
    expect(page.get_by_text("7 labels are in")).to_be_visible()
    assert (tmp_path / "export.csv").read_bytes() == path.read_bytes()


def test_rater_is_blind_and_saves_every_vote(jupyter, tmp_path):
    from playwright.sync_api import expect

    page, path = jupyter.page, tmp_path / "votes.csv"

    def votes():
        return rating.read(path, range(12), ("inverted", "grey")) if path.exists() else []

    jupyter.write("rater.ipynb", [WORLD, RATER.format(path=str(path))])
    jupyter.open("rater.ipynb")
    jupyter.run_all()
    expect(page.get_by_text("pair 1 of 24: left ?, right ?, better ?; 0 of 24 rated")).to_be_visible(timeout=60_000)
    shown = page.locator(".jp-OutputArea-output").last.inner_text()
    assert not re.search("inverted|grey|original|corrected", shown.split("code for this state")[0])
    before = jupyter.picture()
    page.get_by_role("button", name="left artifact [a]").click()
    page.get_by_role("button", name="right normal [h]").click()
    expect(page.get_by_text("pair 1 of 24: left artifact, right normal, better ?")).to_be_visible()
    assert not path.exists()
    page.get_by_role("button", name="right better [g]").click()
    expect(page.get_by_text("pair 2 of 24: left ?")).to_be_visible()
    assert jupyter.picture() != before
    vote = votes()[0]
    assert vote.better == ("corrected" if vote.side == "right" else "original")
    assert vote.label_corrected == ("normal" if vote.side == "right" else "artifact") != vote.label_original
    page.get_by_label("type a letter").click()
    page.keyboard.type("sjfajdsh", delay=30)
    expect(page.get_by_text("pair 4 of 24: left normal, right normal, better ?; 3 of 24 rated")).to_be_visible()
    assert [v.better == "same" for v in votes()] == [False, True, False]
    page.keyboard.type("uuu")
    expect(page.get_by_text("pair 3 of 24: left ?, right ?, better ?; 2 of 24 rated")).to_be_visible()
    assert until(lambda: len(votes()) == 2)
    page.get_by_label("export to").fill(str(tmp_path / "export.csv"))
    page.get_by_role("button", name="export CSV").click()
    expect(page.get_by_text("2 votes are in")).to_be_visible()
    assert len(rating.read(tmp_path / "export.csv")) == 2


def test_browsers_of_masks_units_and_an_axis(jupyter):
    from playwright.sync_api import expect

    page = jupyter.page
    jupyter.write("browsers.ipynb", [WORLD, BROWSERS])
    jupyter.open("browsers.ipynb")
    jupyter.run_all()
    expect(page.get_by_text("the 8 nearest of 12 images")).to_be_visible(timeout=60_000)
    pictures = [jupyter.picture(number) for number in range(3)]

    expect(page.get_by_text("across from level 0.50 up: mask 50.0% of it")).to_be_visible()
    page.get_by_role("slider").first.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_text("across from level 0.55 up: mask 45.3% of it")).to_be_visible()
    page.get_by_label("source", exact=True).select_option("down")
    expect(page.get_by_text('binary_mask(cams["down"][0:1], level=0.55)')).to_be_visible()

    page.get_by_label("rank", exact=True).fill("2")
    page.keyboard.press("Enter")
    expect(page.get_by_text("rank 2 of 12")).to_be_visible()
    unit = page.get_by_label("unit", exact=True).input_value()
    page.get_by_role("button", name="select / drop this unit").click()
    expect(page.get_by_text(f"selected: layer 6: {unit};")).to_be_visible()
    expect(page.get_by_label("selected", exact=True)).to_have_value(f"6:{unit}")
    page.get_by_label("layer", exact=True).select_option("4")
    expect(page.get_by_text(re.compile(r"layer 4, unit \d+: score 0\.\d+, rank 1 of 12"))).to_be_visible()

    page.get_by_role("slider").last.focus()
    page.keyboard.press("End")
    expect(
        page.get_by_text("D-value 3.00: the 8 nearest of 12 images, -0.82 to 3.00; artifact 4; normal 4")
    ).to_be_visible()
    assert all(jupyter.picture(number) != before for number, before in enumerate(pictures))


NOTEBOOK = env.ROOT / "notebooks" / "05_sequential_correction.ipynb"


@pytest.mark.skipif(not NOTEBOOK.exists(), reason="the notebook is not written yet")
def test_corrector_in_its_notebook(jupyter):
    from playwright.sync_api import expect

    page = jupyter.page
    jupyter.open(f"notebooks/{NOTEBOOK.name}")
    jupyter.run_all()
    box = page.get_by_label("stop layer", exact=True)
    failed = page.locator("[data-mime-type='application/vnd.jupyter.error']")
    assert until(box.is_visible, 150), failed.all_inner_texts()[-1:] or "the corrector did not appear in time"
    picture, stop = jupyter.picture(), int(box.input_value())
    state = page.get_by_text(f"sequential, stop layer {stop}, portion")
    expect(state).to_be_visible()
    row = page.locator(".widget-hbox", has=box)
    row.get_by_role("slider").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.get_by_text(f"sequential, stop layer {stop - 1}, portion")).to_be_visible(timeout=20_000)
    expect(box).to_have_value(str(stop - 1))
    assert jupyter.picture() != picture
    expect(page.get_by_text(re.compile(rf"realism -?\d+\.\d+ → .*computed layers? {stop + 1} "))).to_be_visible()

"""The widgets, driven as a person does: real Chromium, a live JupyterLab, a kernel that can die."""

import os
import re
import signal
import time

import pytest

from helpers import labels, rating
from helpers.interface.tile_rows import FONT
from tests.ui.lab_page import View

pytestmark = pytest.mark.browser

WORLD = """
import os, time
import torch
from helpers import correct, gradcam, pggan, survey, units, widgets
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
print("the kernel is process", os.getpid())
"""
CORRECTOR = """
differences = units.differences(flow, latents(range(20, 40), 10), latents(range(40, 60), 10), [1, 2])
direction = correct.latent_direction(latents(range(20, 40), 10), latents(range(40, 60), 10))

def realism(images):
    if torch.equal(images, flow.generate(z[3:4]).clamp(-1, 1)):
        raise ValueError("image 3 is <forbidden> here")
    return images.mean(dim=(1, 2, 3))

def judge(images):  # how alike the images are to the original by three quarters of the shift
    goal = flow.generate(z[:1], correct.shift(differences.only([1]), 0.75)).clamp(-1, 1)
    return (images - goal).abs().mean(dim=(1, 2, 3)) - 1e-3

widgets.corrector(
    flow, z, scores, masks, ids=range(500, 512), realism=realism, d_values=lambda images: -images.std(dim=(1, 2, 3)),
    differences=differences, direction=direction, judge=judge,
)
"""
MASKS = """
cams = torch.linspace(0, 1, 64).expand(12, 64, 64)
widgets.mask_explorer(images, {"across": cams, "down": cams.transpose(1, 2)})
"""
UNITS = """
top = survey.top_images(flow, z, k=6)
widgets.unit_browser(flow, z, scores["DS"], top)
"""
AXIS = """
widgets.axis_browser(torch.linspace(-3, 3, 12), images, ["normal", "artifact"] * 6, ids=range(40, 52))
"""
LABELLER = """
def slow(ids):  # so that a person can be faster than the machine
    time.sleep(0.1)
    return images[ids]

widgets.labeller(slow, range(12), {!r}, "ann")
"""
RATER = """
widgets.rater(images, {{"inverted": -images, "grey": 0 * images}}, range(12), {!r}, "ann")
"""
BUSY = """
def stalled(ids):  # as on a machine that has something else to do
    time.sleep(1.1)
    return images[[i % 12 for i in ids]]

widgets.labeller(stalled, range(301), {!r}, "ann")
"""
PLAYGROUND = """
widgets.playground(flow, lambda ids: latents(ids, 10), range(100, 130), range(200, 206), {!r}, "ann", every=4)
"""
PAINTER = """
values = survey.thresholds(flow, z, tau=0.01, layers=[4, 6])
mended = units.differences(flow, latents(range(20, 40), 10), latents(range(40, 60), 10), [1])
sets = {{"tree": {{k: scores["DS"][k] for k in (4, 6)}}, "mine": {{6: [3, 1]}}}}
widgets.painter(flow, z, sets, values, mended, ids=range(500, 512), path={!r}, start={{"units": 4}})
"""
CELLS = {"corrector": CORRECTOR, "masks": MASKS, "units": UNITS, "axis": AXIS, "labeller": LABELLER, "rater": RATER}
CELLS |= {"playground": PLAYGROUND, "painter": PAINTER, "busy": BUSY}
CELLS |= {
    f"other {name}": CELLS[name] for name in ("labeller", "rater")
}  # to press everything, with files of their own


def until(condition, seconds=300):
    """Wait until a function of nothing is true; return its last value."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return value


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the answers are: labeller.csv, rater.csv and others."""
    return tmp_path_factory.mktemp("answers")


@pytest.fixture(scope="module")
def notebook(jupyter, folder):
    """All widgets in one notebook and one kernel: {name: View}."""
    from playwright.sync_api import expect

    path = {name: str(folder / f"{name}.csv") for name in CELLS} | {"painter": str(folder / "painted.safetensors")}
    cells = [cell.format(path[name]) if "{!r}" in cell else cell for name, cell in CELLS.items()]
    jupyter.write("widgets.ipynb", [WORLD, *cells])
    jupyter.open("widgets.ipynb")
    jupyter.run_all()
    views = {name: View(jupyter.page, number) for number, name in enumerate(CELLS, start=1)}
    expect(views["other rater"].text("pair 1 of 24")).to_be_visible()
    return views


def test_corrector(jupyter, notebook):
    from playwright.sync_api import expect

    page, view = jupyter.page, notebook["corrector"]
    expect(view.text("id 500; sequential, stop layer 6, portion 20 %, scale 0.90: 12 units")).to_be_visible()
    first = view.picture()
    view.enter("stop layer", 4)  # number boxes are labelled
    expect(view.text("sequential, stop layer 4, portion 20 %, scale 0.90")).to_be_visible()
    fourth = view.picture()
    assert fourth != first
    view.role("slider").first.focus()  # sliders answer arrow keys
    page.keyboard.press("ArrowRight")
    expect(view.text("stop layer 5, portion 20 %")).to_be_visible()
    expect(view.text("computed layers 7 to 11")).to_be_visible()  # layer 6 was before the edit of layer 6
    expect(view.box("stop layer", exact=True)).to_have_value("5")
    view.role("slider").nth(1).focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(view.text("portion 25 %")).to_be_visible()
    expect(view.text('sequential(scores["DS"], stop_layer=5, portion=0.25, scale=0.9)')).to_be_visible()

    view.box("method").select_option("local")
    expect(view.text("local, stop layer 5, portion 25 %:")).to_be_visible()
    expect(view.box("scale")).to_be_disabled()
    view.box("method").select_option("FD: one layer to zero")
    expect(view.text("top FD units of one layer to zero, layer 5")).to_be_visible()
    expect(view.box("layer", exact=True)).to_have_value("5")
    view.box("method").select_option("none")
    expect(view.text("no correction: 0 units")).to_be_visible()
    view.press("undo")
    expect(view.text("top FD units of one layer to zero, layer 5")).to_be_visible()

    view.enter("image", 3)
    expect(view.role("alert")).to_contain_text("image 3 is <forbidden> here")
    expect(view.box("id", exact=True)).to_have_value("503")
    for theme in ("dark", "light"):
        jupyter.theme(theme)
        assert contrast(view.role("alert")) > 7
    view.enter("id", 502)
    expect(view.text("id 502; top FD")).to_be_visible()
    expect(view.role("alert")).to_have_count(0)
    view.enter("id", 7)
    expect(view.role("alert")).to_contain_text("there is no image 7 here, the ids are 500, 501, 502, 503, 504, ...")
    expect(view.box("id", exact=True)).to_have_value("502")
    view.press("reset")
    expect(view.text("id 500; sequential, stop layer 6, portion 20 %")).to_be_visible()
    assert view.picture() == first  # the same picture again, pixel by pixel
    view.press("undo")
    expect(view.text("id 502; top FD")).to_be_visible()


def contrast(locator):
    """The contrast of a text with its own background, by WCAG 2: 1 to 21."""
    found = locator.evaluate("e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]")
    light = []
    for colour in found:
        *channels, alpha = [*(float(x) for x in re.findall(r"[\d.]+", colour)), 1][:4]
        assert alpha == 1, f"{colour} depends on what is behind it"
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (x / 255 for x in channels)]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


def test_the_corrector_shifts_and_finds_the_smallest_amount(notebook):
    from playwright.sync_api import expect

    view = notebook["corrector"]
    view.press("reset")
    expect(view.text("id 500; sequential, stop layer 6, portion 20 %")).to_be_visible()
    view.box("method").select_option("shift")
    expect(view.text("shift, layer 2, portion 20 %")).to_be_visible()  # each move once the one before is drawn
    view.enter("portion", 1)
    expect(view.text("shift, layer 2, portion 100 %")).to_be_visible()
    view.enter("layer", 1)
    expect(view.text("shift, layer 1, portion 100 %, amount 1.00: 192 of 192 units and places")).to_be_visible()
    before = view.picture()
    view.press("smallest amount")
    expect(
        view.text(re.compile(r"the classifier said \+0\.\d+ at 0, .* at 0.75 .* so 0.75 is the smallest"))
    ).to_be_visible()
    expect(view.box("amount", exact=True)).to_have_value("0.75")
    expect(view.text("shift(differences.only([1]), amount=0.75, portion=1)")).to_be_visible()
    assert view.picture() != before
    view.box("method").select_option("latent direction")
    expect(view.text("latent direction, amount 0.75: every unit")).to_be_visible()
    expect(view.box("layer", exact=True)).to_be_disabled()
    view.box("method").select_option("sequential")
    expect(view.role("button", name="smallest amount")).to_be_disabled()


def test_box_and_picture_follow_a_drag(jupyter, notebook):
    from playwright.sync_api import expect

    view, mouse = notebook["corrector"], jupyter.page.mouse
    view.press("reset")
    expect(view.text("id 500; sequential, stop layer 6, portion 20 %")).to_be_visible()
    before, handle = view.picture(), view.role("slider").nth(1)
    handle.scroll_into_view_if_needed()
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    mouse.move(x, y)
    mouse.down()
    mouse.move(x + 60, y, steps=4)
    expect(view.box("portion", exact=True)).not_to_have_value("0.2")  # the button is still down
    expect(view.text("portion 20 %")).to_have_count(0)
    assert until(lambda: view.picture() != before)
    mouse.up()
    expect(view.box("portion", exact=True)).to_have_value(re.compile(r"^0\.3[5-9]$"))  # 60 of about 350 pixels
    reached = float(view.box("portion", exact=True).input_value())
    expect(view.text(f"portion {100 * reached:.3g} %")).to_be_visible()


def test_browsers_of_masks_units_and_an_axis(jupyter, notebook):
    from playwright.sync_api import expect

    page, view = jupyter.page, notebook["masks"]
    pictures = {name: notebook[name].picture() for name in ("masks", "units", "axis")}
    expect(view.text("across from level 0.50 up: mask 50.0% of it")).to_be_visible()
    view.role("slider").first.focus()
    page.keyboard.press("ArrowRight")
    expect(view.text("across from level 0.55 up: mask 45.3% of it")).to_be_visible()
    view.box("source", exact=True).select_option("down")
    expect(view.text("binary_mask(cams['down'][0:1], level=0.55)")).to_be_visible()

    view = notebook["units"]
    view.enter("rank", 2)
    expect(view.text(re.compile("layer 6, .* rank 2 of 12"))).to_be_visible()
    unit = view.box("unit", exact=True).input_value()
    expect(view.text(re.compile(r"selected: none; mean change without this unit 0\.\d+"))).to_be_visible()
    view.press("select / drop this unit")
    expect(view.text(f"selected: layer 6: {unit};")).to_be_visible()
    expect(view.box("selected", exact=True)).to_have_value(f"6:{unit}")
    view.box("layer", exact=True).select_option("4")
    expect(view.text(re.compile(r"layer 4, unit \d+: score 0\.\d+, rank 1 of 12"))).to_be_visible()

    view = notebook["axis"]
    view.role("slider").focus()
    page.keyboard.press("End")
    said = "D-value 3.00: the 8 nearest of 12 images, -0.82 to 3.00; artifact 4; normal 4"
    expect(view.text(said)).to_be_visible()
    expect(view.box("id", exact=True)).to_have_value("51")
    view.enter("id", 43)
    expect(view.text("D-value -1.36: ")).to_be_visible()
    assert all(notebook[name].picture() != before for name, before in pictures.items())


def test_views_fit_a_small_screen(jupyter, notebook):
    page = jupyter.page
    page.set_viewport_size({"width": 1400, "height": 900})
    room = page.locator(".jp-WindowedPanel-outer").first.bounding_box()["height"]
    tall = {name: view.cell.locator(".widget-vbox").first.bounding_box()["height"] for name, view in notebook.items()}
    assert max(tall.values()) < room, (tall, room)
    page.set_viewport_size({"width": 750, "height": 900})  # what 1,000 pixels leave beside the file browser
    for name, view in notebook.items():
        image = view.cell.locator("img.jupyter-widgets").first
        natural, drawn = image.evaluate("i => [i.naturalWidth, i.getBoundingClientRect().width]")
        assert FONT * drawn / natural >= 11, f"the captions of {name} are {FONT * drawn / natural:.1f} pixels high"
    page.set_viewport_size({"width": 1400, "height": 1000})


def test_labels_are_saved_by_button_and_by_letter(jupyter, notebook, folder):
    from playwright.sync_api import expect

    page, view, path = jupyter.page, notebook["labeller"], folder / "labeller.csv"

    def rows():
        return [(row["id"], row["type"] or "normal") for row in labels.read(path).rows] if path.exists() else []

    expect(view.text("image 0, 1 of 12, no label yet; 0 of 12 labelled")).to_be_visible()
    expect(view.text("Is this image normal?")).to_be_visible()
    assert not path.exists()
    before = view.picture()
    view.press("normal [n]")
    expect(view.text("image 1, 2 of 12")).to_be_visible()
    assert rows() == [(0, "normal")] and view.picture() != before
    view.press("stain [s]")
    expect(view.text("2 of 12 labelled (normal 1, outline 0, texture 0, stain 1")).to_be_visible()

    # Letters, typed faster than the machine can follow, right after a button: none is lost, none counts twice.
    expect(view.box("type a letter")).to_be_focused()
    page.keyboard.type("nnotf", delay=30)
    expected = [*enumerate(("normal", "stain", "normal", "normal", "outline", "texture", "fusion"))]
    assert until(lambda: rows() == expected), rows()
    expect(view.text("image 7, 8 of 12")).to_be_visible()
    expect(view.box("type a letter")).to_have_value("nnotf")
    page.keyboard.type("u")
    assert until(lambda: rows() == expected[:-1]), rows()
    expect(view.text("image 6, 7 of 12")).to_be_visible()
    page.keyboard.type("q")
    expect(view.role("alert")).to_contain_text("the letter 'q' means nothing here")
    page.keyboard.type("k")
    expect(view.text("image 7, 8 of 12")).to_be_visible()
    view.press("back [b]")
    view.press("back [b]")
    expect(view.text("image 5, 6 of 12, texture")).to_be_visible()
    view.role("button", name="missing [m]").focus()
    page.keyboard.press("Enter")  # every button is in reach of the keyboard
    assert until(lambda: rows() == [*expected[:5], (5, "missing")]), rows()
    view.press("undo [u]")
    assert until(lambda: rows() == [*expected[:5], (5, "texture")]), rows()


def test_rater_is_blind_and_saves_every_vote(jupyter, notebook, folder):
    from playwright.sync_api import expect

    page, view, path = jupyter.page, notebook["rater"], folder / "rater.csv"

    def votes():
        return rating.read(path, range(12), ("inverted", "grey")) if path.exists() else []

    expect(view.text("pair 1 of 24: left ?, right ?, better ?; 0 of 24 rated")).to_be_visible()
    shown = view.cell.locator(".jp-OutputArea-output").inner_text()
    assert not re.search("inverted|grey|original|corrected", shown)
    before = view.picture()
    view.press("left artifact [a]")
    view.press("right normal [h]")
    expect(view.text("pair 1 of 24: left artifact, right normal, better ?")).to_be_visible()
    expect(view.text("Still to say: which of the two is better?")).to_be_visible()
    expect(view.role("button", name="left artifact [a]").locator(".fa-check")).to_be_visible()
    expect(view.role("button", name="left normal [s]").locator(".fa-check")).to_have_count(0)
    assert not path.exists()
    view.press("right better [g]")
    expect(view.text("pair 2 of 24: left ?")).to_be_visible()
    assert view.picture() != before
    vote = votes()[0]
    assert vote.better == ("corrected" if vote.side == "right" else "original")
    assert vote.label_corrected == ("normal" if vote.side == "right" else "artifact") != vote.label_original
    page.keyboard.type("sjfajdsh", delay=30)
    expect(view.text("pair 4 of 24: left normal, right normal, better ?; 3 of 24 rated")).to_be_visible()
    assert [v.better == "same" for v in votes()] == [False, True, False]
    page.keyboard.type("uuu")
    expect(view.text("pair 3 of 24: left ?, right ?, better ?; 2 of 24 rated")).to_be_visible()
    assert until(lambda: len(votes()) == 2)
    view.box("export to").fill(str(folder / "votes.csv"))
    view.press("export CSV")
    expect(view.text("2 votes are in")).to_be_visible()
    assert len(rating.read(folder / "votes.csv")) == 2
    view.box("export to").fill(str(folder / "none" / "votes.csv"))
    view.press("export CSV")
    expect(view.role("alert")).to_contain_text("none/votes.csv (No such file or directory)")
    expect(view.box("type a letter")).to_be_focused()
    page.keyboard.type("afj" * 22 + "afj", delay=5)  # all pairs, and three letters more
    expect(view.text("finished: 24 of 24 rated")).to_be_visible()
    expect(view.text("All pairs are rated: export the votes, or go back to change one.")).to_be_visible()
    view.press("same [f]")
    expect(view.role("alert")).to_have_count(0)
    assert len(votes()) == 24


def test_no_letter_is_lost_while_the_kernel_is_busy(jupyter, notebook, folder):
    view, path = notebook["busy"], folder / "busy.csv"
    view.press("normal [n]")
    view.box("type a letter").focus()
    jupyter.page.keyboard.type("nos" * 100, delay=15)
    kinds = ["normal", *100 * ["normal", "outline", "stain"]]
    assert until(lambda: path.exists() and len(labels.read(path)) == len(kinds)), len(labels.read(path))
    assert [row["type"] or "normal" for row in labels.read(path).rows] == kinds


@pytest.mark.parametrize("name", ["other labeller", "other rater"])
def test_letters_after_a_button_go_to_the_widget_and_not_to_lab(jupyter, notebook, folder, name):
    from playwright.sync_api import expect

    page, view = jupyter.page, notebook[name]
    buttons = [text.strip() for text in view.role("button").all_inner_texts()]
    buttons = [text for text in buttons if re.search(r"\[.\]$", text)]
    assert len(buttons) == 10
    for text in [*buttons, "export CSV"]:
        view.press(text)
        expect(view.box("type a letter")).to_be_focused()
        for letter in "mxbsaf":  # Lab's for Markdown, to cut, a cell below, ...
            page.keyboard.press(letter)
    jupyter.idle()
    assert jupyter.kinds() == ["Code"] * (1 + len(CELLS))
    assert "labeller" not in name or len(labels.read(folder / f"{name}.csv")) > 5


def test_the_playground_measures_while_one_labels(jupyter, notebook, folder):
    from playwright.sync_api import expect

    page, view, path = jupyter.page, notebook["playground"], folder / "playground.csv"
    expect(view.text("0 of 30 labelled (normal 0, other 0); no difference yet")).to_be_visible()
    first = view.picture()
    view.press("normal [n]")
    expect(view.text("1 of 30 labelled")).to_be_visible()
    page.keyboard.type("noo")  # letters after a button are the session's
    expect(view.text("4 of 30 labelled (normal 2, other 2); difference of 4 labels")).to_be_visible()
    assert until(lambda: len(labels.read(path)) == 4)
    shifted = view.picture()
    assert shifted != first
    view.enter("amount", 2)
    expect(view.text("difference of 4 labels")).to_be_visible()
    assert until(lambda: view.picture() != shifted)
    view.press("save edits and picture")
    expect(view.text("; saved ")).to_be_visible()
    assert {p.name for p in folder.glob("ann-shift.*")} == {"ann-shift.safetensors", "ann-shift.png"}
    view.press("undo [u]")
    expect(view.text("3 of 30 labelled (normal 2, other 1); no difference yet")).to_be_visible()
    assert until(lambda: len(labels.read(path)) == 3)


def test_the_brush_follows_the_mouse(jupyter, notebook, folder):
    from playwright.sync_api import expect

    page, view, saved = jupyter.page, notebook["painter"], folder / "painted.safetensors"
    expect(view.text("id 500; 0 strokes: paint with the mouse")).to_be_visible()
    expect(view.text("the next stroke: draw 4 units of layer 4 (tree), brush 8 px, strength 1.00")).to_be_visible()
    plain, image = view.picture(), view.cell.locator("img.jupyter-widgets")

    def drag(start, end, release=True):
        """Drag the mouse over the result, from a pixel of 64 to another."""
        image.scroll_into_view_if_needed()
        box, tall = image.bounding_box(), image.evaluate("i => i.naturalHeight")
        zoom = box["height"] / tall
        at = [
            [box["x"] + zoom * (392 + 6 * x + 3), box["y"] + zoom * (tall - 384 + 6 * y + 3)] for x, y in (start, end)
        ]
        page.mouse.move(*at[0])
        page.mouse.down()
        page.mouse.move(*at[1], steps=8)
        if release:
            page.mouse.up()

    drag((10, 20), (50, 30), release=False)
    expect(view.text("id 500; 1 stroke, the last: draw 4 units of layer 4 (tree)")).to_be_visible()  # still dragging
    assert until(lambda: view.picture() != plain)
    page.mouse.up()
    view.press("save")
    expect(view.text("correct.read_edits(")).to_be_visible()  # so the stroke has ended and is drawn
    written, painted = saved.read_bytes(), view.picture()
    assert painted != plain
    view.press("undo")
    expect(view.text("id 500; 0 strokes")).to_be_visible()
    assert view.picture() == plain  # pixel by pixel
    view.press("redo")
    expect(view.text("id 500; 1 stroke,")).to_be_visible()
    assert view.picture() == painted

    view.box("brush", exact=True).select_option("mend here")
    expect(view.text("the next stroke: mend here, brush 8 px")).to_be_visible()
    drag((30, 40), (30, 50))
    expect(view.text("id 500; 2 strokes, the last: mend here, brush 8 px, strength 1.00; not saved")).to_be_visible()
    view.enter("x", 5)
    view.role("button", name="dab", exact=True).focus()
    page.keyboard.press("Enter")  # by the keyboard alone
    expect(view.text("id 500; 3 strokes")).to_be_visible()
    view.box("brush", exact=True).select_option("remove")
    view.box("units of", exact=True).select_option("own units")
    expect(view.box("own units", exact=True)).to_be_enabled()
    drag((30, 40), (30, 50))
    expect(view.role("alert")).to_contain_text("no unit is chosen")
    expect(view.text("id 500; 3 strokes")).to_be_visible()
    view.press("clear")
    expect(view.text("id 500; 0 strokes")).to_be_visible()
    view.press("load")
    expect(view.text("the last: painted.safetensors, layer 4; saved in")).to_be_visible()
    assert written == saved.read_bytes() and len(view.picture()) > 1000
    assert jupyter.kinds() == ["Code"] * (1 + len(CELLS))


def test_nothing_is_lost_when_the_kernel_dies(jupyter, notebook, folder):
    from playwright.sync_api import expect

    page, path, view = jupyter.page, folder / "labeller.csv", notebook["labeller"]
    if not path.exists():
        view.press("normal [n]")
    view.press("skip [k]")
    before = until(lambda: path.exists() and path.read_bytes())
    kernel = View(page, 0).text(re.compile(r"is process \d+"))
    os.kill(int(re.search(r"process (\d+)", kernel.inner_text())[1]), signal.SIGKILL)
    expect(page.get_by_text("Kernel Restarting", exact=True)).to_be_visible()
    page.get_by_role("button", name="Ok", exact=True).click()
    jupyter.idle()
    jupyter.run_all()
    count = len(labels.read(path))
    expect(view.text(re.compile(rf"image \d+, \d+ of 12, no label yet; {count} of 12 labelled"))).to_be_visible()
    assert path.read_bytes() == before
    view.press("other [x]")
    assert until(lambda: labels.read(path).types.count("other") == 1)
    view.box("export to").fill(str(folder / "export.csv"))
    view.press("export CSV")
    expect(view.text(f"{count + 1} labels are in")).to_be_visible()
    assert (folder / "export.csv").read_bytes() == path.read_bytes()

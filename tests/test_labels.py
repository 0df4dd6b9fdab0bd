import csv
import errno
import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from helpers import checkpoints, domains, labels
from helpers.latents import latents
from helpers.networks import pggan
from helpers.weights import packages
from tools.label import sheets as label_sheets

HEADER = "id,label,type,rater\n"
GOOD = HEADER + "3,normal,,ann\n1,artifact,stain,ann\n12,artifact,missing,ann\n3,artifact,fusion,bob\n"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.csv"


def row(i, kind="", rater="ann", **more):
    return {"id": i, "label": "artifact" if kind else "normal", "type": kind, "rater": rater} | more


def table(rows, *extra):
    columns = [[r[name] for r in rows] for name in labels.REQUIRED]
    return labels.Labels(*columns, {name: [r[name] for r in rows] for name in extra})


# Reading and writing


def test_read(path):
    path.write_text(GOOD)
    read = labels.read(path, expect=[1, 12])
    assert read.ids == [3, 1, 12, 3] and read.labels == ["normal", "artifact", "artifact", "artifact"]
    assert read.types == ["", "stain", "missing", "fusion"] and read.raters == ["ann"] * 3 + ["bob"]
    assert read.artifacts == [1, 12, 3] and read.normals == [3] and len(read) == 4 and read.extra == {}
    assert read.only(rater="ann", label="artifact").ids == [1, 12] and read.only(id=3).raters == ["ann", "bob"]
    with pytest.raises(ValueError, match="has the columns id, label, type, rater, got split"):
        read.only(split="train")


def test_extra_columns_any_order_and_other_editors(path):
    path.write_bytes(
        b"\xef\xbb\xbfrater,id,pass,label,type,split\r\nann , 7,1,normal,,train\r\n\r\nann,7,2,artifact,other,test\r\n"
    )
    read = labels.read(path)
    assert read.ids == [7, 7] and read.raters == ["ann", "ann"]
    assert read.extra == {"pass": ["1", "2"], "split": ["train", "test"]} and read.only(split="test").artifacts == [7]
    labels.append(path, row(8, rater="ann", **{"pass": 2}))
    assert labels.read(path).rows[-1] == row(8, **{"pass": "2", "split": ""})


def test_write_then_read_gives_the_same_table(path):
    rows = [row(2**32 - 1, "outline", 'Ann "A", B', split="train"), row(np.int64(0), rater="Zoë", split="")]
    labels.write(path, table(rows, "split"))
    assert labels.read(path).rows == rows
    with open(path, newline="") as file:
        assert next(csv.reader(file)) == ["id", "label", "type", "rater", "split"]
    labels.write(path, labels.Labels([], [], [], []))
    assert path.read_text() == HEADER and len(labels.read(path)) == 0
    assert os.listdir(path.parent) == ["labels.csv"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "4,weird,,ann\n", "line 6, has the unknown class 'weird'"),
        (GOOD + "4,Normals,,ann\n", "line 6, has the unknown class 'normals'"),
        (GOOD + "4,artifact,ugly,ann\n", "line 6, has an artifact with the type 'ugly', expected one of outline"),
        (GOOD + "4,artifact,,ann\n", "line 6, has an artifact with the type ''"),
        (GOOD + "4,normal,stain,ann\n", "line 6, has a normal with the type 'stain'"),
        (GOOD + "12,normal,,ann\n", r"line 6, labels image 12 twice for ann \(see line 4\)"),
        (GOOD + ",normal,,ann\n", "line 6, has the id ''"),
        (GOOD + "4.5,normal,,ann\n", "line 6, has the id '4.5'"),
        (GOOD + "4E+03,normal,,ann\n", r"line 6, has the id '4E\+03'"),
        (GOOD + "٤,normal,,ann\n", "line 6, has the id '٤'"),
        (GOOD + "-4,normal,,ann\n", "line 6, has the id '-4'"),
        (GOOD + "4,normal,,\n", "line 6, has no rater"),
        (GOOD + "4,normal\n", "line 6, has 2 values"),
        (GOOD + "4,normal,,ann,7\n", "line 6, has 5 values"),
        (GOOD + "4,weird,,ann", "line 6, has the unknown class 'weird'"),
        ("id,label,rater\n4,normal,ann\n", "line 1: the header lacks the column 'type'"),
        ("id,label,type,rater,id\n", "line 1: the header repeats a column"),
        ("", "line 1: the header lacks the column 'id'"),
    ],
)
def test_faults_are_named_with_their_line(path, text, message):
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        labels.read(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


SPREADSHEETS = [
    "id;label;type;rater\n3;normal;;ann\n1;artifact;stain;ann\n",
    "id\tlabel\ttype\trater\n3\tnormal\t\tann\n1\tartifact\tstain\tann\n",
    "sep=;\nid;label;type;rater\n3;normal;;ann\n1;artifact;stain;ann\n",
    "ID,Label,Type,Rater\n3,Normal ,,ann\n1, ARTIFACT,Stain,ann\n",
    "id,label,type,rater\n3.0,normal,,ann\n1.,artifact,stain,ann\n",
    "id;label;type;rater\n3,0;normal;;ann\n1,00;artifact;stain;ann\n",
    "id,label,type,rater,,\n3,normal,,ann,,\n1,artifact,stain,ann,,\n,,,,,\n",
    'id,label,type,rater\r\n"3","normal","","ann"\r\n"1","artifact","stain","ann"\r\n',
    "id,label,type,rater\r3,normal,,ann\r1,artifact,stain,ann\r",
    "\n;;;\nid;label;type;rater\n3;normal;NaN;ann\n1;artifact;stain;ann\n",
    "id,label,type,rater\n3,normal,None,ann\n1,artifact,stain,ann\n",
]


@pytest.mark.parametrize("text", SPREADSHEETS)
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_what_a_spreadsheet_makes_of_a_file_means_the_same(path, text, mark):
    path.write_text(mark + text, encoding="utf-8", newline="")
    assert labels.read(path).rows == [row(3), row(1, "stain")]
    labels.append(path, row(9, "fusion"))
    assert labels.read(path).rows == [row(3), row(1, "stain"), row(9, "fusion")]


def test_passes_and_splits_of_a_spreadsheet_are_told_apart_as_ever(path):
    path.write_text("ID;Label;Type;Rater;Pass;Split\n3,0;Normal;;ann;1,0;Train\n3,0;Artifact;Stain;ann;2,0;train\n")
    read = labels.read(path)
    assert read.extra == {"pass": ["1", "2"], "split": ["train", "train"]} and read.only(**{"pass": 2}).artifacts == [3]
    with pytest.raises(ValueError, match="labels image 3 twice for ann"):
        labels.append(path, row(3, **{"pass": 1, "split": "train"}))


def test_the_first_faulty_lines_are_named_together(path):
    bad = ["4,weird,,ann", "5,normal,stain,ann", "x,normal,,ann", "6,normal"]
    path.write_text(GOOD + "\n".join(bad) + "\n7,normal,,ann\n")
    with pytest.raises(ValueError) as caught:
        labels.read(path)
    text = str(caught.value)
    for number, said in (
        (6, "the unknown class 'weird'"),
        (7, "a normal with the type"),
        (8, "the id 'x'"),
        (9, "2 values"),
    ):
        assert f"line {number}, has {said}" in text
    assert text.endswith(": correct them, or label the images again") and "\n" not in text and "more" not in text
    path.write_text(GOOD + "".join(f"{i},weird,,ann\n" for i in range(100, 140)))
    with pytest.raises(ValueError, match=r"line 6, .*; line 10, [^;]*; and 35 lines more: correct them"):
        labels.read(path)


def test_missing_ids_are_named(path):
    path.write_text(GOOD)
    with pytest.raises(ValueError, match=r"no label for 2 expected ids \(2, 5\)"):
        labels.read(path, expect=np.array([5, 1, 2]))
    with pytest.raises(ValueError, match=r"98 expected ids \(0, 2, 4, 5, 6, 7, 8, 9, 10, 11, \.\.\.\)"):
        labels.read(path, expect=range(101))


def test_text_that_is_not_utf8(path):
    path.write_bytes(GOOD.encode() + b"9,normal,,Andr\xe9\n")
    with pytest.raises(ValueError, match="not UTF-8"):
        labels.read(path)


# A session that dies


def test_whatever_a_dying_session_leaves_costs_at_most_the_last_label(path, tmp_path):
    for i in range(3):
        labels.append(path, row(i, "stain" if i else "", rater="Zoë"))
    whole, before = path.read_bytes(), path.read_bytes().rindex(b"2,artifact")
    for size in range(before, len(whole) + 1):
        torn = tmp_path / f"torn{size}.csv"
        torn.write_bytes(whole[:size])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            read = labels.read(torn)
            kept = size >= len(whole) - 1  # with only the newline missing the label is whole
            assert read.ids == ([0, 1, 2] if kept else [0, 1]), size
            assert set(read.raters) == {"Zoë"}
            assert len(caught) == (0 if kept or size == before else 1)
            labels.append(torn, row(9, rater="Zoë"))
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # healed: nothing left to warn about
            assert labels.read(torn).ids == read.ids + [9]


def test_the_warning_says_where(path):
    path.write_text(GOOD + "4,artif")
    with pytest.warns(UserWarning, match="line 6, is half written .*4,artif.*: label that image again"):
        assert labels.read(path).ids == [3, 1, 12, 3]


def test_a_label_is_on_the_disk_before_append_returns(path, monkeypatch):
    labels.append(path, row(1))
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (fsync(fd), synced.append(os.fstat(fd).st_size)))
    labels.append(path, row(2, "other"))
    assert synced == [path.stat().st_size] and labels.read(path).ids == [1, 2]


def test_append_refuses_what_read_would_refuse(path):
    labels.append(path, {"id": 1, "label": "normal", "rater": "ann"})
    before = path.read_bytes()
    for bad, message in [
        (row(1), "labels image 1 twice for ann"),
        (row(2, "ugly"), "the type 'ugly'"),
        (row("2"), "the id '2'"),
        (row(True), "the id True"),
        (row(2, rater=" ann"), "outer spaces"),
        (row(2, rater="an\nn"), "line break"),
        (row(2, colour="red"), "rater,colour, expected id,label,type,rater:"),
        ({"id": 2, "label": "normal"}, "has the columns type,id,label"),
    ]:
        with pytest.raises(ValueError, match=message):
            labels.append(path, bad)
    assert path.read_bytes() == before


def test_write_refuses_what_read_would_refuse_and_leaves_the_file(path):
    path.write_text(GOOD)
    with pytest.raises(ValueError, match="row 2 of the table labels image 5 twice"):
        labels.write(path, table([row(5), row(5)]))
    assert path.read_text() == GOOD


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_whole(path, monkeypatch, step):
    path.write_text(GOOD)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space left"):
        labels.write(path, table([row(5)]))
    if step == "fsync":
        with pytest.raises(OSError, match="No space left"):
            labels.append(path, row(5))
    assert path.read_text() == GOOD and os.listdir(path.parent) == ["labels.csv"]


def test_a_disk_that_takes_half_a_line_leaves_the_file_as_it_was(path):
    resource = pytest.importorskip("resource")
    path.write_text(GOOD)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(GOOD) + 5, hard))
    try:
        with pytest.raises(OSError, match="took only part of a label"):
            labels.append(path, row(5))
        with pytest.raises(OSError):
            labels.write(path, table([row(i) for i in range(99)]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == GOOD and os.listdir(path.parent) == ["labels.csv"]
    labels.append(path, row(5))
    assert labels.read(path).ids[-1] == 5


def test_write_goes_through_a_link(path, tmp_path):
    path.write_text(GOOD)
    link = tmp_path / "link.csv"
    link.symlink_to(path)
    labels.write(link, table([row(5)]))
    assert link.is_symlink() and labels.read(path).ids == [5]


# Agreement


def passes(counts):
    """Two tables with counts[i][j] images of class i in the first and j in the second; artifacts are stains."""
    pairs = [(i, j) for i in (0, 1) for j in (0, 1) for _ in range(counts[i][j])]
    return [table([row(n, "stain" if pair[side] else "") for n, pair in enumerate(pairs)]) for side in (0, 1)]


def test_kappa_by_hand():
    # Observed 0.7, chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5: kappa 0.4.
    result = labels.agreement(*passes([[20, 5], [10, 15]]))
    assert result.n == 50 and result.share == pytest.approx(0.7) and result.kappa == pytest.approx(0.4)
    assert result.disagreements == list(range(20, 35)) and result.types == {"stain": pytest.approx(2 * 15 / 45)}


def test_kappa_interval_agrees_with_the_large_sample_error():
    a, b = passes([[80, 20], [40, 60]])
    result = labels.agreement(a, b)
    observed, chance = 0.7, 0.5
    error = np.sqrt(observed * (1 - observed) / 200) / (1 - chance)  # Cohen 1960
    assert result.low == pytest.approx(0.4 - 1.96 * error, abs=0.03)
    assert result.high == pytest.approx(0.4 + 1.96 * error, abs=0.03)
    assert result == labels.agreement(a, b) and result[:4] != labels.agreement(a, b, seed=1)[:4]


def test_agreement_at_the_ends():
    assert labels.agreement(*passes([[5, 0], [0, 5]]))[:3] == (10, 1, 1)
    assert labels.agreement(*passes([[0, 5], [5, 0]])).kappa == pytest.approx(-1)
    assert labels.agreement(*passes([[9, 3], [3, 1]])).kappa == pytest.approx(0)
    same = labels.agreement(*passes([[5, 0], [0, 0]]))
    assert same.share == 1 and np.isnan([same.kappa, same.low, same.high]).all()


def test_agreement_looks_only_at_shared_ids_and_at_types():
    a = table([row(1), row(2, "stain"), row(3, "fusion"), row(4, "stain"), row(5)])
    b = table([row(4, "stain"), row(3, "texture"), row(2), row(9, "other")])
    result = labels.agreement(a, b)
    assert result.n == 3 and result.disagreements == [2] and result.share == pytest.approx(2 / 3)
    assert result.types == {"stain": pytest.approx(2 / 3), "fusion": 0, "texture": 0}


def test_agreement_refuses():
    with pytest.raises(ValueError, match="no image id in common"):
        labels.agreement(table([row(1)]), table([row(2)]))
    with pytest.raises(ValueError, match="table b labels image 1 twice"):
        labels.agreement(table([row(1)]), table([row(1), row(1, rater="bob")]))


# Contact sheets


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    save_file(pggan.Generator((8, 6, 4, 4, 2), latent=5).state_dict(), tmp_path / "generator.safetensors")
    return tmp_path / "generator.safetensors"


def test_ids_of_sheets(path):
    assert label_sheets.parse_ids("0:3,7,2:5") == [0, 1, 2, 7, 3, 4]
    path.write_text(GOOD)
    assert label_sheets.parse_ids(str(path)) == [3, 1, 12]
    for text in ("", "1-5", "a", "3:"):
        with pytest.raises(ValueError, match="--ids must look like"):
            label_sheets.parse_ids(text)


def test_order_of_sheets():
    plain = label_sheets.order([5, 3, 9])
    assert plain == [("generated", 5), ("generated", 3), ("generated", 9)]
    mixed = label_sheets.order(range(50), shuffle=3)
    assert sorted(mixed) == label_sheets.order(range(50)) != mixed == label_sheets.order(range(50), shuffle=3)
    assert label_sheets.order(range(50), shuffle=3, count=7) == mixed[:7] != label_sheets.order(range(50), 4, 7)
    hidden = label_sheets.order(range(50), shuffle=3, real=6)
    assert [tile for tile in hidden if tile[0] == "generated"] == mixed
    assert len({i for source, i in hidden if source == "real"} & set(label_sheets.REAL_IDS)) == 6


def test_sheets_show_each_image_under_its_id(weights, tmp_path):
    out = tmp_path / "sheets"
    label_sheets.main(f"--ids 10:15 --out {out} --generator {weights} --columns 2 --rows 2 --filter nearest".split())
    assert sorted(os.listdir(out)) == ["sheet-001.png", "sheet-002.png"]
    pages = [np.asarray(Image.open(out / name)) for name in sorted(os.listdir(out))]
    images = checkpoints.load_generator(weights).generate(latents(range(10, 15), 5)).clamp(-1, 1)
    strips = []
    for n, image in enumerate(images):
        page, x, y = pages[n // 4], 4 + n % 2 * (192 + 4), 4 + n % 4 // 2 * (192 + 19 + 4)
        tile = page[y + 19 : y + 19 + 192, x : x + 192][1::3, 1::3].transpose(2, 0, 1)
        assert np.abs(tile - (image.numpy() + 1) * 127.5).max() <= 0.6  # half a level, and roundings
        strips.append(page[y : y + 19, x : x + 40].tobytes())
    assert len(set(strips)) == 5 and pages[0].shape == (434, 396, 3) and pages[1].shape == (219, 396, 3)


def test_hidden_scenes_are_numbered_like_the_rest(weights, tmp_path):
    label_sheets.main(f"--ids 0:4 --out {tmp_path} --generator {weights} --real 2 --zoom 1 --shuffle 1".split())
    with open(tmp_path / "key.csv", newline="") as file:
        key = list(csv.DictReader(file))
    assert [r["number"] for r in key] == ["1", "2", "3", "4", "5", "6"]
    assert sorted(int(r["id"]) for r in key if r["source"] == "generated") == [0, 1, 2, 3]
    assert sum(r["source"] == "real" for r in key) == 2


@pytest.mark.skipif(packages.lacking() is not None, reason=str(packages.lacking()))
def test_sheets_of_faces_show_the_faces(tmp_path):
    label_sheets.main(f"--domain faces --ids 3:5 --out {tmp_path} --columns 2 --rows 1 --filter nearest".split())
    page = np.asarray(Image.open(tmp_path / "sheet-001.png"))
    for n, image in enumerate(domains.load("faces").images([3, 4])):
        tile = page[23:215, 4 + 196 * n : 196 + 196 * n][1::3, 1::3].transpose(2, 0, 1)
        assert np.abs(tile - (image.numpy() + 1) * 127.5).max() <= 0.6


def test_sheets_of_faces_say_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(packages.metadata, "distribution", absent)
    with pytest.raises(SystemExit, match="the package gan-face-generate 1.1.1 is not installed: pip install"):
        label_sheets.main(["--domain", "faces", "--ids", "0:2", "--out", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()


def absent(name):
    raise packages.metadata.PackageNotFoundError(name)


def test_sheets_refuse_in_one_line(tmp_path):
    for words, message in [
        ("--ids x", "--ids must look like"),
        ("--ids 0:2 --generator nowhere", "nowhere"),
        ("--ids 0:2 --domain faces --real 1", "2"),
        ("--ids 0:2 --domain nowhere", "2"),
    ]:
        with pytest.raises(SystemExit, match=message):
            label_sheets.main([*words.split(), "--out", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()

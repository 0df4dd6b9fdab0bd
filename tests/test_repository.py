"""Rules that hold for the repository as a whole."""

import json
import re
import subprocess

import pytest

from helpers import env, store
from tools.build import manifest

ROOT = env.ROOT
MODULES = sorted((ROOT / "helpers").rglob("*.py"))
DATA = sorted(path.parent for path in (ROOT / "data").glob(f"*/{store.MANIFEST}"))

# Spelled in parts, so that this file does not break its own rules.
FORBIDDEN = {
    r"\.cu" + r"da\(\)|\.cu" + r"da\(\d": "the device is chosen in env only",
    r"\bpic" + r"kle\.loads?\(|\bimport pic" + r"kle\b": "unpickling runs code: use safetensors",
    r"weights_only\s*=\s*Fal" + r"se": "unpickling runs code: use safetensors",
    r"(?<![\w.~])/(?:ho" + r"me|Us" + r"ers|ro" + r"ot|wo" + r"rk|tm" + r"p)/": "a path of one machine",
    r"C:\\\\Us" + r"ers": "a path of one machine",
}
TEXT = {".py", ".md", ".ipynb", ".toml", ".txt", ".lock", ".json", ".csv", ".yml", ""}


def tracked():
    """The files that are, or are about to be, part of the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def prose(path):
    """The text of a file that people read: a notebook's markdown, anything else whole."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@pytest.mark.parametrize("pattern", FORBIDDEN)
def test_no_file_holds(pattern):
    files = [path for path in tracked() if path.suffix in TEXT]
    if "import" in pattern:  # tests pickle what they made themselves, to send it through
        files = [path for path in files if "tests" not in path.relative_to(ROOT).parts]
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert not found, f"{FORBIDDEN[pattern]}: {found}"


def test_one_module_decides_on_devices():
    naming = [path.name for path in MODULES if "cu" + "da" in path.read_text(encoding="utf-8")]
    assert naming == ["env.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_modules_stay_small(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 250, f"{path.name} has {lines} lines: it does more than one job"


def anchors(path):
    """The names that headings of a page get when it is shown on the web."""
    titles = re.findall(r"^#+\s+(.+?)\s*$", re.sub(r"```.*?```", "", prose(path), flags=re.S), re.M)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)|[`*]", r"\1", title) for title in titles)
    spaced = [re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain]
    return {title.lower() for title in spaced} | set(spaced)


def test_local_links_resolve():
    pages = [path for path in tracked() if path.suffix in (".md", ".ipynb")]
    broken = []
    for page in pages:
        text = re.sub(r"```.*?```|`[^`\n]*`", "", prose(page), flags=re.S)
        targets = re.findall(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|(?:src|href)=\"([^\"]+)\"", text)
        for target in filter(None, (part for pair in targets for part in pair)):
            if re.match(r"[a-z]+:", target) or target.startswith("attachment:"):
                continue
            file, _, anchor = target.partition("#")
            place = (page.parent / file).resolve() if file else page
            known = place.exists() and (not anchor or place.is_dir() or anchor.lower() in anchors(place))
            if not known:
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert not broken, broken


@pytest.mark.parametrize("folder", DATA, ids=lambda path: path.name)
def test_manifest_matches_the_data(folder):
    entries = json.loads((folder / store.MANIFEST).read_text())
    wrong = [
        name
        for name, entry in entries.items()
        if not (folder / name).is_file()
        or (store.sha256(folder / name), (folder / name).stat().st_size) != (entry["sha256"], entry["bytes"])
    ]
    assert not wrong, f"run `python -m tools.build.manifest {folder.name}` if these changes were meant: {wrong}"
    shipped = {path for path in tracked() if folder in path.parents}
    listed = {folder / name for name in entries}
    unlisted = [name for name in manifest.shipped(folder) if folder / name in shipped - listed]
    assert not unlisted, f"run `python -m tools.build.manifest {folder.name}`, it does not list {unlisted}"


def test_lock_names_every_requirement_with_an_exact_version():
    names = lambda file: {  # noqa: E731
        re.split(r"[=<>~!\[ ]", line)[0].lower().replace("_", "-"): line
        for line in (ROOT / file).read_text().splitlines()
        if line.strip() and not line.startswith("#")
    }
    lock, wanted = names("requirements.lock"), names("requirements.txt")
    assert set(wanted) <= set(lock)
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lock.values())
    assert lock["torch"] == "torch==2.13.0"
    assert all(">=" in line and "#" in line for line in wanted.values())
    extra, asked = names("requirements-cluster.lock"), names("requirements-cluster.txt")
    assert set(asked) <= set(extra) and not set(extra) & set(lock)
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in extra.values())
    assert all(">=" in line and "#" in line for line in asked.values())


def test_other_places_are_locked_by_hash_and_leave_the_versions_of_the_suite_alone():
    text = (ROOT / "requirements-places.lock").read_text().replace("\\\n", " ")
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+) +--hash=sha256:[0-9a-f]{64}$", text, re.M))
    asked = re.findall(r"^([\w-]+)>=[\w.]+ +#", (ROOT / "requirements-places.txt").read_text(), re.M)
    assert "--require-hashes" in text and len(locked) == text.count("==") and set(asked) < set(locked)
    others = "".join((ROOT / f"requirements{name}.lock").read_text() for name in ("", "-cluster"))
    both = {name: version for name, version in re.findall(r"^([\w-]+)==([\w.]+)$", others, re.M) if name in locked}
    assert both == {"click": locked["click"]}

"""Write the sha256 manifest of a data folder: python -m tools.build.manifest churches [FILE ...].

Without files, every file of the folder is listed anew, except the manifest itself and data cards (*.md).
With files, only those entries are added or replaced.
"""

import argparse
import json

from helpers import store


def record(folder, names=None):
    """Write data/<folder>/manifest.json; returns its entries {file: {"sha256": ..., "bytes": ...}}."""
    root = store.data_root() / folder
    path = root / store.MANIFEST
    if not root.is_dir():
        raise ValueError(f"there is no data folder {folder!r} in {root.parent}: create it first")
    entries = json.loads(path.read_text(encoding="utf-8")) if names and path.is_file() else {}
    for name in names or shipped(root):
        file = root / name
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {name!r} in data/{folder}: name it relative to that folder")
        entries[name] = {"sha256": store.sha256(file), "bytes": file.stat().st_size}
    text = json.dumps(dict(sorted(entries.items())), indent=1) + "\n"
    store.replace(path, text.encode())
    return entries


def shipped(root):
    """List the files below a data folder that belong in its manifest, as paths relative to it."""
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and not p.name.startswith(".")]
    return [p.relative_to(root).as_posix() for p in files if p.name != store.MANIFEST and p.suffix != ".md"]


def main():
    """Record the folder and files named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", help="a folder of data/, such as churches")
    parser.add_argument("files", nargs="*", help="only these files; default: all")
    arguments = parser.parse_args()
    for name, entry in record(arguments.folder, arguments.files).items():
        print(f"{entry['sha256'][:12]}  {entry['bytes']:>10,}  {name}")


if __name__ == "__main__":
    main()

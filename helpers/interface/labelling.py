"""Run a labelling session: what comes next, what was said, how to take it back; each label is on the disk at once."""

from collections import Counter
from os.path import commonprefix
from pathlib import Path

from helpers import labels
from helpers.labels import Labels
from helpers.latents import image_ids

RESERVED = {"n": "normal", "u": "undo", "b": "back", "k": "skip"}
MOVES = ("undo", "back", "skip")  # actions that say nothing of an image


class Session:
    """One rater going through images, resumed where the label file ends.

    ids: image ids in the order to show. path: the label CSV (`labels.append` writes it, other raters' rows stay).
    rater: who labels. types: the artifact types offered, from `labels.KNOWN_TYPES`. extra: values of further columns,
    such as {"pass": "2"}, which also tell this session's rows from others. `keys` maps letters to actions.
    Raises ValueError for no ids, an id twice, an unknown type or a broken file. Explained in notebook 02.
    """

    def __init__(self, ids, path, rater, types=labels.TYPES, extra=None):
        self.ids, self.path, self.rater = image_ids(ids), Path(path), str(rater).strip()
        self.types, self.extra = tuple(types), {name: str(value) for name, value in (extra or {}).items()}
        if not self.ids or len(set(self.ids)) < len(self.ids):
            raise ValueError(f"got {len(self.ids)} ids, {len(set(self.ids))} of them different: pass each id once")
        if not self.types or not set(self.types) <= set(labels.KNOWN_TYPES):
            raise ValueError(
                f"artifact types are {', '.join(labels.KNOWN_TYPES)}, got {', '.join(self.types) or 'none'}"
            )
        if not self.rater:
            raise ValueError("a label needs a rater: pass a name or initials")
        self.keys = _letters(self.types)
        self.labelled = {}  # id -> "normal" or the artifact type, of this rater
        if self.path.exists():
            table = self._table()
            if "pass" in table.extra:  # a column that tells rows of one image apart
                self.extra.setdefault("pass", "")
            mine, wanted = table.only(rater=self.rater, **self.extra), set(self.ids)
            self.labelled = {row["id"]: row["type"] or "normal" for row in mine.rows if row["id"] in wanted}
        self._typed = ""
        self._past = []  # (id, what it was before or None), latest last
        self.current = self._next(-1)

    def label(self, kind):
        """Label the current image "normal" or with an artifact type, on the disk, and go to the next unlabelled one."""
        if self.current is None:
            raise ValueError("all images are labelled: go back to change one")
        if kind != "normal" and kind not in self.types:
            raise ValueError(f"a label is normal or one of {', '.join(self.types)}, got {kind!r}")
        before = self.labelled.get(self.current)
        self._store(self.current, kind)
        self._past.append((self.current, before))
        self.current = self._next(self.ids.index(self.current))

    def undo(self):
        """Take the latest label of this session back, also in the file, and show its image again."""
        if not self._past:
            raise ValueError("nothing to undo in this session: go back to change an earlier label")
        image, before = self._past[-1]
        self._store(image, before)
        self._past.pop()
        self.current = image

    def back(self):
        """Show the image before, labelled or not; labelling it again replaces its label."""
        position = len(self.ids) if self.current is None else self.ids.index(self.current)
        self.current = self.ids[max(position - 1, 0)]

    def skip(self):
        """Leave the current image for later: it comes again after the others."""
        if self.current is not None:
            self.current = self._next(self.ids.index(self.current))

    def type(self, text):
        """Do what the letters of a text box stand for (see `keys`); white space does nothing.

        text: all that stands in the box. What began or ended it at the last call was acted on then and is left out,
        wherever the caret stands, so deleting does nothing. However many letters one call brings, each counts as if it
        had come alone: the first error, such as a ValueError for a letter without a meaning, is raised once all are
        done.
        """
        old, self._typed = self._typed, text
        start = len(commonprefix((old, text)))
        end = len(commonprefix((old[start:][::-1], text[start:][::-1])))
        new = text[start : len(text) - end]
        errors = []
        for letter in new.lower():
            try:
                if letter in self.keys:
                    self.do(self.keys[letter])
                elif not letter.isspace():
                    known = ", ".join(f"{key} {name}" for key, name in self.keys.items())
                    raise ValueError(f"the letter {letter!r} means nothing here: type {known}")
            except (ValueError, OSError) as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def do(self, action):
        """Do an action by name: undo, back, skip, normal or an artifact type, which does nothing after the last."""
        if action in MOVES:
            getattr(self, action)()
        elif self.current is not None:
            self.label(action)

    def export(self, path):
        """Write this session's labels to a CSV of their own, all or nothing; returns how many."""
        if Path(path).resolve() == self.path.resolve():
            raise ValueError(f"{path} is the label file itself: choose another name for the export")
        if not self.labelled:
            raise ValueError("there is no label to export yet: label an image first")
        mine = self._table().only(rater=self.rater, **self.extra)
        labels.write(path, mine)
        return len(mine)

    @property
    def code(self):
        """The call that reads this rater's labels, "" before the first one."""
        columns = {"rater": self.rater} | self.extra
        written = ", ".join(f"{name}={value!r}" for name, value in columns.items() if name != "pass")
        written += f", **{{'pass': {self.extra['pass']!r}}}" if "pass" in self.extra else ""  # a keyword of Python
        return f"labels.read({str(self.path)!r}).only({written})" if self.labelled else ""

    @property
    def chosen(self):
        """The actions that the current image's label stands for."""
        return {self.labelled[self.current]} if self.current in self.labelled else set()

    @property
    def task(self):
        """What the rater is asked to do now."""
        if self.current is None:
            return "All images are labelled: export them, or go back to change one."
        return "Is this image normal? If not, say what is wrong with it most of all. Each answer is saved at once."

    @property
    def counts(self):
        """How many images have each label: {"normal": n, type: n, ...}."""
        seen = Counter(self.labelled.values())
        return {kind: seen[kind] for kind in ("normal", *self.types)}

    def __str__(self):
        each = ", ".join(f"{kind} {n}" for kind, n in self.counts.items())
        done = f"{len(self.labelled)} of {len(self.ids)} labelled ({each})"
        if self.current is None:
            return f"finished: {done}"
        place = f"image {self.current}, {self.ids.index(self.current) + 1} of {len(self.ids)}"
        return f"{place}, {self.labelled.get(self.current, 'no label yet')}; {done}"

    def _next(self, position):
        """The first unlabelled id after a position, else the first one before it, else None."""
        order = self.ids[position + 1 :] + self.ids[: position + 1]
        return next((i for i in order if i not in self.labelled), None)

    def _table(self):
        table = labels.read(self.path)
        absent = [name for name in self.extra if name not in table.extra]
        if absent:
            raise ValueError(f"{self.path} has no column {absent[0]!r}: label into a new file, or without it")
        return table

    def _store(self, image, kind):
        """Write a label, or with None remove it: a new one is appended, a changed one replaced in one step."""
        row = {"id": image, "label": "normal" if kind == "normal" else "artifact", "rater": self.rater, **self.extra}
        row["type"] = "" if kind == "normal" else kind
        if image not in self.labelled:
            labels.append(self.path, row)
        else:
            table = self._table()
            rows = [old for old in table.rows if not all(old[k] == row[k] for k in ("id", "rater", *self.extra))]
            rows += [] if kind is None else [dict.fromkeys(table.extra, "") | row]
            columns = [[r[name] for r in rows] for name in labels.REQUIRED]
            labels.write(self.path, Labels(*columns, {name: [r[name] for r in rows] for name in table.extra}))
        self.labelled[image] = kind
        if kind is None:
            del self.labelled[image]


def _letters(types):
    """Give each action its letter: the first of its name if it is free, x, or another one."""
    keys = dict(RESERVED)
    for kind in types:
        free = [c for c in (kind[0], "x", *kind, *"qwertyzv") if c not in keys]
        keys[free[0]] = kind
    return keys

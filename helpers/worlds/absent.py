"""Stand in for what a domain lacks, so that it is missed only where it is used, in one sentence."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Absent:
    """Stands for a part that a domain lacks: whoever uses it gets a ValueError that says what to give."""

    what: str
    remedy: str
    how: str = "load it with"

    def __getattr__(self, name):
        if name.startswith("_"):  # Python and notebooks ask every object for such names
            raise AttributeError(name)
        self()

    def __call__(self, *_, **__):
        raise ValueError(f"this domain has no {self.what}: {self.how} {self.remedy}")

    __len__ = __iter__ = __getitem__ = __call__

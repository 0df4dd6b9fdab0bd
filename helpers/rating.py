"""Read, write and count blind votes on corrections: the paper's Table 3, with its intervals.

Vote files are CSVs of three kinds, see `evidence.vote_files`: corrections beside their originals, single pictures shown
alone in mixed order, and pairs. Explained in notebook 07.
"""

from typing import NamedTuple

import pandas as pd
import torch

from helpers import store
from helpers.evidence.intervals import bootstrap, wilson
from helpers.evidence.vote_files import BETTER, QUESTIONS, SIDES, PairVote, PictureVote, Vote, check, read, write  # noqa: F401

SURE, SPARED = "shift, smallest amount, all", "shift, smallest amount"  # the margin asked of all; normals left alone


class Agreement(NamedTuple):
    """How far two raters agree on one question, over the pairs both voted on."""

    n: int
    share: float
    kappa: float  # Cohen's; NaN if both give one and the same answer throughout
    low: float
    high: float


class Turned(NamedTuple):
    """How many votes on normals a correction turned, the same rater's on the same image compared."""

    n: int
    to_artifact: int
    to_normal: int


class Pictures(NamedTuple):
    """What a domain's shipped votes on single pictures say; see `pictures`."""

    table: pd.DataFrame  # by method and group: n, value, low, high, sd, as of `called_normal`
    agreement: Agreement  # of the two passes on what they saw
    turned: Turned  # by the smallest amount, normals left alone

    @property
    def shares(self):
        """The share called normal of each method and group, rising: {name: (value, low, high)}, for `show.bars`."""
        rows = self.table.reset_index().sort_values("value").itertuples()
        return {f"{r.method} ({r.group}s)": (r.value, r.low, r.high) for r in rows}


def summary(votes, types=None):
    """Compute Table 3: votes -> DataFrame with one row per method, group and measure.

    types: {id: an artifact's type, or "normal"}, the labels before the blind vote; without it an original is what
    its rater calls it. Groups: "artifact", each type, "normal". Measures of artifacts: corrected (the correction is
    called normal) and improved (it is the better one); of normals: damaged (the correction is called an artifact);
    of both: worsened (the original is the better one), and called_normal (the original itself is).
    Columns: method, group, measure, n (pairs), value, low, high (shares in [0, 1] and Wilson's 95 % interval over
    pairs, whose raters are averaged), sd (over raters' own shares, as the paper gives; NaN for one rater).
    Raises ValueError for no votes, or an id without type. Source: section 5.3, Table 3; Wilson 1927.
    Explained in notebook 07.
    """
    if not votes:
        raise ValueError("got no votes, expected at least one: rate some pairs first")
    missing = sorted({vote.id for vote in votes} - set(types)) if types is not None else []
    if missing:
        raise ValueError(f"{len(missing)} voted ids, such as {missing[0]}, have no type: pass the type of every id")
    rows = []
    for method in dict.fromkeys(vote.method for vote in votes):
        groups = {}
        for vote in votes:
            if vote.method == method:
                kind = vote.label_original if types is None else types[vote.id]
                broken = kind != "normal"
                for group in dict.fromkeys(("artifact", kind) if broken else ("normal",)):
                    groups.setdefault(group, []).append(vote)
        for group in sorted(groups, key=lambda name: (name == "normal", name != "artifact", name)):
            for measure, holds in _measures(group == "normal").items():
                rows.append((method, group, measure, *_share(groups[group], holds)))
    return pd.DataFrame(rows, columns=["method", "group", "measure", "n", "value", "low", "high", "sd"])


def agreement(votes, a=None, b=None):
    """Compare two raters: votes of one kind -> {question: Agreement}, such as "label_corrected" or "better".

    a, b: the raters, needed only if there are more than two. The intervals are bootstrapped over pairs.
    Raises ValueError unless there are two raters who share a pair. Source: Cohen 1960. Explained in notebook 07.
    """
    raters = list(dict.fromkeys(vote.rater for vote in votes)) if a is None and b is None else [a, b]
    if len(raters) != 2 or a == b is not None:
        raise ValueError(f"agreement is between two raters, got {', '.join(map(str, raters)) or 'none'}: name two")
    first, second = ({(vote.id, vote.method): vote for vote in votes if vote.rater == name} for name in raters)
    shared = [pair for pair in first if pair in second]
    if not shared:
        raise ValueError(f"{raters[0]} and {raters[1]} share no pair: let both vote on the same ones")
    found = {}
    for question, answers in QUESTIONS[type(votes[0])].items():
        x, y = (torch.tensor([answers.index(getattr(v[p], question)) for p in shared]) for v in (first, second))
        try:
            interval = bootstrap(cohen, x, y, paired=True)
        except ValueError:  # one and the same answer throughout, or in most resamples
            interval = cohen(x, y), float("nan"), float("nan")
        found[question] = Agreement(len(shared), float((x == y).double().mean()), *interval)
    return found


def called_normal(votes, groups=None):
    """Count single pictures: PictureVotes -> DataFrame of the share called normal by each method.

    groups: {id: group, such as "artifact" or "normal"}; without it all are one. Columns: method, group, n (pictures),
    value, low, high (the share in [0, 1], raters averaged, with Wilson's 95 % interval over pictures) and sd (over
    raters' own shares; NaN for one). Raises ValueError for no votes, or an id without group. See notebook 07.
    """
    return _shares(votes, groups, {"called_normal": lambda vote: vote.label == "normal"}).drop(columns="measure")


def left_alone(votes, method, ids, name):
    """Derive the votes on a correction that leaves some images as they are from those on one that spares none.

    votes: PictureVotes, on originals too. ids: the images left alone, for which each rater's vote on the original
    counts. name: what the derived method is called. Returns its votes only. Raises ValueError for an unknown method.
    """
    if method not in {vote.method for vote in votes}:
        raise ValueError(f"there is no vote on {method!r}, there are {', '.join(sorted({v.method for v in votes}))}")
    seen = {vote.id for vote in votes if vote.method == method}
    alone = seen & set(ids)
    return [
        vote._replace(method=name)
        for vote in votes
        if (vote.method == "original" and vote.id in alone) or (vote.method == method and vote.id not in alone)
    ]


def pair_shares(votes, groups=None):
    """Count pairs: PairVotes -> DataFrame of the shares improved, equal, worse, and same (still the same subject).

    groups, columns and errors as in `called_normal`, with `measure` beside them. See notebook 07.
    """
    measures = {
        "improved": lambda vote: vote.better == "corrected",
        "equal": lambda vote: vote.better == "same",
        "worse": lambda vote: vote.better == "original",
        "same": lambda vote: vote.same == "yes",
    }
    return _shares(votes, groups, measures)


def turned(votes, method, normals):
    """Count the PictureVotes on normal images that a correction turned, where a rater saw the original too -> Turned.

    method: the correction's name. normals: the ids of images labelled normal.
    """
    normals = set(normals)
    said = {(vote.id, vote.method, vote.rater): vote.label for vote in votes if vote.id in normals}
    both = [(said[i, "original", r], x) for (i, m, r), x in said.items() if m == method and (i, "original", r) in said]
    return Turned(len(both), *(both.count(way) for way in (("normal", "artifact"), ("artifact", "normal"))))


def pictures(domain, count=None):
    """Count the votes on single pictures that come with a domain, by its labels' classes -> Pictures.

    The raters saw smallest amounts with the margin asked of every image (`SURE`). The row `SPARED` is derived: what the
    domain's classifier calls normal is left alone, so there the vote on the original counts. count: only the first so
    many images, for a quick round. Raises FileNotFoundError for a domain without votes. Explained in notebook 06.
    """
    votes = read(store.fetch(f"{domain.name}/picture_votes.csv"))
    ids = sorted({vote.id for vote in votes})[:count]
    votes = [vote for vote in votes if vote.id in set(ids)]
    spared = [i for i, score in zip(ids, domain.artifact_scores(domain.images(ids)).tolist()) if score < 0]
    every = votes + left_alone(votes, SURE, spared, SPARED)
    groups = dict.fromkeys(domain.labels.artifacts, "artifact") | dict.fromkeys(domain.labels.normals, "normal")
    table = called_normal(every, groups).set_index(["method", "group"])
    return Pictures(table, agreement(votes)["label"], turned(every, SPARED, domain.labels.normals))


def pairs(domain):
    """Count the votes on pairs that come with a domain -> DataFrame by measure: n, value, low, high; see `pair_shares`.

    Each pair is a held-out artifact beside its smallest amount (`SURE`). Raises FileNotFoundError as `pictures` does.
    """
    votes = read(store.fetch(f"{domain.name}/pair_votes.csv"))
    return pair_shares(votes).set_index("measure")[["n", "value", "low", "high"]]


def _shares(votes, groups, measures):
    if not votes:
        raise ValueError("got no votes, expected at least one: rate some pictures first")
    missing = sorted({vote.id for vote in votes} - set(groups)) if groups is not None else []
    if missing:
        raise ValueError(f"{len(missing)} voted ids, such as {missing[0]}, have no group: pass the group of every id")
    cells = {}
    for vote in votes:
        cells.setdefault((vote.method, "all" if groups is None else groups[vote.id]), []).append(vote)
    rows = [(*cell, name, *_share(those, holds)) for cell, those in cells.items() for name, holds in measures.items()]
    return pd.DataFrame(rows, columns=["method", "group", "measure", "n", "value", "low", "high", "sd"])


def cohen(a, b):
    """Return Cohen's kappa of two (N,) integer tensors: NaN if both hold one and the same answer throughout."""
    counts = torch.zeros(int(max(a.max(), b.max())) + 1, dtype=torch.float64)
    x, y = ((counts.index_add(0, s, torch.ones(len(s), dtype=torch.float64)) / len(s)) for s in (a, b))
    chance = float(x @ y)
    return (float((a == b).double().mean()) - chance) / (1 - chance) if chance < 1 else float("nan")


def _measures(normal):
    called = {"called_normal": lambda vote: vote.label_original == "normal"}
    worsened = {"worsened": lambda vote: vote.better == "original"}
    if normal:
        return {"damaged": lambda vote: vote.label_corrected == "artifact"} | worsened | called
    corrected = {"corrected": lambda vote: vote.label_corrected == "normal"}
    return corrected | {"improved": lambda vote: vote.better == "corrected"} | worsened | called


def _share(votes, holds):
    """Pairs, share, interval and deviation over raters of what holds for votes."""
    frame = pd.DataFrame({"id": [v.id for v in votes], "rater": [v.rater for v in votes], "x": map(holds, votes)})
    pairs = frame.groupby("id")["x"].mean()
    share = float(pairs.mean())
    return len(pairs), share, *wilson(share, len(pairs)), float(frame.groupby("rater")["x"].mean().std())

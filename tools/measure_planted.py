"""Measure on planted artifact units, whose truth is known, what scores, masks and corrections find and repair.

    python -m tools.measure_planted              # adds what is missing to data/churches/planted.csv
    python -m tools.measure_planted --summary    # prints means over plantings with 95 % intervals
    python -m tools.manifest churches planted.csv

Twenty seeds; each plants four units of layer 3, 4, 5 or 6 or two of layer 7, in every kind at the middle strength and
rate, and in one kind at others. Corrections are measured for one kind of each seed. Ids are from the unlabelled pool,
cut into parts: what is measured on held-out images is measured on latents that no level, label, threshold, ranking or
tuning has seen. The run can be stopped and goes on where it was; the fullest measurements come first.
"""

import argparse
import itertools
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pandas as pd
import torch
from torch.nn import functional as F

from helpers import classifier, correct, domains, env, gradcam, metrics, planted, store, survey, truth, units
from helpers.flow import State

POOL = domains.POOL
PLANT, FRESH, RANK, TEST = POOL[:400], POOL[400:700], POOL[1000:2000], POOL[3000:3400]
LAYERS = range(1, 9)
LABELS = (50, 200, 800)
USUAL = 200  # labels, where their number is not what varies
STRENGTHS, RATES = (6.0, 4.0, 10.0), (0.35, 0.2, 0.5)  # the first ones are the middle
MASKS = ("local", "firm", "gradcam", "corrupt")
PASSED = ("maxima", "shares")
TOP = 50  # images of a unit whose features are compared with renders: 5 % of RANK
CANDIDATES, PROBES = 10, 12  # units per layer and images of the ablation effect
KEYS = ["seed", "layer", "kind", "strength", "rate"]
COLUMNS = [*KEYS, "part", "method", "masks", "labels", "scope", "measure", "value"]
SHARED = {}


FIRST = 100  # seeds below were looked at while this was written
FIRM = 0.3  # weight penalty of the local detector; the suite's own was chosen for 900 labels


def conditions(seeds):
    """List what is measured, as tuples of KEYS and whether corrections and numbers of labels are measured too."""
    usual, out = (STRENGTHS[0], RATES[0]), [[], [], [], []]  # the fullest first, so that a part is of use
    for seed in seeds:
        layer, turn = 3 + seed % 5, seed // 5 % len(planted.KINDS)
        kind, *kinds = planted.KINDS[turn:] + planted.KINDS[:turn]
        out[0].append((seed, layer, kind, *usual, True))
        out[1] += [(seed, layer, other, *usual, False) for other in kinds]
        out[2] += [(seed, layer, kind, strength, RATES[0], False) for strength in STRENGTHS[1:]]
        out[3] += [(seed, layer, kind, STRENGTHS[0], rate, False) for rate in RATES[1:]]
    return sum(out, [])


def prepare():
    """Compute once per process what all plantings share: everything about the original generator."""
    torch.set_num_threads(1)
    domain = domains.load("churches")
    SHARED["domain"] = domain
    for name, ids in (("plant", PLANT), ("fresh", FRESH), ("rank", RANK), ("test", TEST)):
        SHARED[name] = domain.latents(ids)
    for name in ("rank", "test"):
        SHARED[name, "images"] = domain.flow.generate(SHARED[name])
        SHARED[name, "maxima"] = survey.unit_maxima(domain.flow, SHARED[name], LAYERS)
    parts = [
        {k: (h > 0).float().mean(dim=(2, 3)) for k, h in r.items()}
        for _, r in domain.flow.stream(SHARED["rank"], LAYERS)
    ]
    SHARED["rank", "shares"] = {layer: torch.cat([part[layer] for part in parts]) for layer in LAYERS}
    SHARED["rank", "maps"] = domain.maps(SHARED["rank", "images"])
    SHARED["real", "maps"] = domain.maps(domain.real(domains.REAL_TRAIN[: max(LABELS)]))


def attempts(layer, kind, strength, rate, seed):
    """Plant, with other seeds while units are too few or the check refuses: (planting, check, plantings refused)."""
    flow, count = SHARED["domain"].flow, 2 if layer == 7 else 4
    for refused in range(10):
        try:
            planting = planted.plant(
                flow, SHARED["plant"], (layer,), count, kind, strength, rate, seed=seed + 1000 * refused
            )
        except ValueError:
            continue
        check = planted.check(planting, SHARED["fresh"])
        if check.accepted:
            return planting, check, refused
    raise RuntimeError(f"no planting is accepted for seed {seed}, layer {layer}, {kind}, {strength}, {rate}")


class Images:
    """The planted and true images of a part of the ids: what differs is generated, the rest is shared."""

    def __init__(self, planting, name):
        self.z, self.truth = SHARED[name], SHARED[name, "images"]
        self.fires = planting.fired(SHARED[name, "maxima"])
        self.images = self.truth.clone()
        self.images[self.fires] = planting.flow.generate(self.z[self.fires])
        self.regions = planted.regions(self.images, self.truth)
        self.artifact = self.regions.float().mean(dim=(1, 2)) > planted.SIZE


def measure(condition):
    """Measure one planting: its rows, without the keys."""
    seed, layer, kind, strength, rate, full = condition
    domain = SHARED["domain"]
    planting, check, refused = attempts(layer, kind, strength, rate, seed)
    rows = [("planting", "", "", 0, "", name, value) for name, value in check._asdict().items() if name != "accepted"]
    rows.append(("planting", "", "", 0, "", "refused", refused))

    rank = Images(planting, "rank")
    levels = survey.thresholds(planting.flow, rank.z, layers=LAYERS)
    maps = SHARED["rank", "maps"].clone()
    maps[rank.fires] = domain.maps(rank.images[rank.fires])
    scores, learned = {}, {}
    artifacts = rank.artifact.nonzero().flatten()
    exact = units.ious(planting.flow, rank.z[artifacts], rank.regions[artifacts], levels)
    order = torch.randperm(len(artifacts), generator=torch.Generator().manual_seed(seed))
    shuffled = units.ious(planting.flow, rank.z[artifacts], rank.regions[artifacts[order]], levels)
    for labels in LABELS if full else (USUAL,):
        known, shown = artifacts < labels, artifacts[artifacts < labels]
        scores["DS", "exact", labels] = {k: v[known].mean(dim=0) for k, v in exact.items()}
        scores["DS less shuffled", "exact", labels] = {
            k: (v[known] - shuffled[k][known]).mean(dim=0) for k, v in exact.items()
        }
        learned[labels] = Masks(maps, rank, labels)
        for name in MASKS if full else MASKS[:2]:
            masks = gradcam.binary_mask(learned[labels].cams(maps[shown], rank.images[shown], name))
            if masks.any():
                scores["DS", name, labels] = units.defective_scores(planting.flow, rank.z[shown], masks, levels)
    tops, scores["activation rate", "", 0] = surveyed(planting.flow, rank)
    scores["FD", "", 0] = units.fd_scores(tops, maps.mean(dim=(2, 3)), SHARED["real", "maps"].mean(dim=(2, 3)))
    if full:
        some = artifacts[artifacts < USUAL][:PROBES]
        masks = gradcam.binary_mask(learned[USUAL].cams(maps[some], rank.images[some], "firm"))
        first = scores["DS", "firm", USUAL]
        scores["ablation effect", "firm", USUAL] = effects(
            planting.flow, rank.z[some], masks, first, learned[USUAL].firm
        )
        rows += reasons(planting, layer, scores["DS", "exact", USUAL])
    for (method, masks, labels), score in scores.items():
        for scope, value in found(score, planting.units, layer).items():
            rows.append(("finding", method, masks, labels, scope, "average precision", value))
    draws = [found(units.random_scores(planting.flow, s, LAYERS), planting.units, layer) for s in range(20)]
    for scope in draws[0]:
        value = sum(d[scope] for d in draws) / len(draws)
        rows.append(("finding", "random", "", 0, scope, "average precision", value))

    test = Images(planting, "test")
    shown = test.artifact.nonzero().flatten()[:64]
    seen, inside = domain.maps(test.images[shown]), test.regions[shown]
    for labels, fitted in learned.items():
        for name in MASKS if full else MASKS[:2]:
            cams = fitted.cams(seen, test.images[shown], name)
            masks = gradcam.binary_mask(cams)
            values = truth.pointing(cams, inside), truth.overlap(masks, inside), masks.float().mean(dim=(1, 2))
            for measured, value in zip(("pointing game", "IoU", "area"), values):
                rows.append(("masks", "", name, labels, "", measured, float(value.float().mean())))
    rows.append(("masks", "", "exact", 0, "", "area", float(inside.float().mean())))
    if full:
        rows += corrections(planting, layer, scores, learned[USUAL], rank, maps, test, shown, seen)
    return rows


class Masks:
    """What the suite learns from labels, and maps by it: (N, 64, 64) in [0, 1].

    "local" is the suite's detector, "firm" the same with a stronger weight penalty, "gradcam" the paper's head of
    three classes. "corrupt" asks the backbone's own head, which has seen no label.
    """

    def __init__(self, maps, rank, labels):
        # What fires without a visible defect is neither artifact nor normal, and gets no label.
        known = ((rank.artifact | ~rank.fires) & (torch.arange(len(maps)) < labels)).nonzero().flatten()
        real = SHARED["real", "maps"][:labels]
        targets = torch.cat([rank.artifact[known].long(), torch.full((len(real),), classifier.REAL)])
        x = torch.cat([maps[known], real])
        self.normal = x[targets == classifier.NORMAL]
        self.local, self.firm = classifier.fit_local(x, targets), classifier.fit_local(x, targets, l2=FIRM)
        self.gradcam = classifier.fit(x.mean(dim=(2, 3)), targets)

    def cams(self, maps, images, name):
        if name == "corrupt":
            found = SHARED["domain"].backbone.corrupted(images).sigmoid()
            return F.interpolate(found[:, None], size=images.shape[-1], mode="bilinear", align_corners=False)[:, 0]
        head = getattr(self, name)
        if name == "gradcam":
            return gradcam.gradcam(maps, head)
        return gradcam.gradcam(maps, head, baseline=gradcam.evidence(self.normal, head).mean(dim=0))


def surveyed(flow, rank):
    """Top images and activation rates as by `survey`: only images in which a planted unit fires are passed again."""
    maxima, shares = ({layer: part.clone() for layer, part in SHARED["rank", name].items()} for name in PASSED)
    again = rank.fires.nonzero().flatten()
    for rows, recorded in flow.stream(rank.z[again], LAYERS):
        for layer, h in recorded.items():
            maxima[layer][again[rows]], shares[layer][again[rows]] = (
                h.amax(dim=(2, 3)),
                (h > 0).float().mean(dim=(2, 3)),
            )
    tops = {layer: part.argsort(dim=0, descending=True, stable=True)[:TOP].T for layer, part in maxima.items()}
    return tops, {layer: part.mean(dim=0) for layer, part in shares.items()}


def reasons(planting, layer, scores):
    """Rows that tell why units that were not planted score high: they look like planted ones, or lie behind them."""
    h = torch.cat([h[layer] for _, h in planting.flow.stream(SHARED["fresh"], [layer])])
    likeness = torch.corrcoef(h.transpose(0, 1).flatten(1))[list(planting.units[layer])]
    others = torch.ones(likeness.shape[1], dtype=torch.bool)
    others[list(planting.units[layer])] = False
    first = scores[layer].argsort(descending=True)[: len(likeness)]
    intruders = first[others[first]]
    behind = torch.cat([torch.full((len(s),), k > layer) for k, s in scores.items()])
    last = behind[torch.cat(list(scores.values())).argsort(descending=True)[:20]].float().mean()
    rows = [
        (
            "why",
            "",
            "",
            0,
            "planted layer",
            "likeness of a planted unit's nearest other",
            likeness[:, others].amax(1).mean(),
        ),
        ("why", "", "", 0, "planted layer", "likeness of any other", likeness[:, others].amax(0).mean()),
        ("why", "DS", "exact", USUAL, "planted layer", "intruders", torch.tensor(len(intruders) / len(first))),
        ("why", "DS", "exact", USUAL, "all layers", "share of the top 20 behind the planted layer", last),
    ]
    if len(intruders):
        near = likeness[:, intruders].amax(0).mean()
        rows.append(("why", "DS", "exact", USUAL, "planted layer", "likeness of intruders", near))
    return [(*row[:-1], float(row[-1])) for row in rows]


def found(scores, planted_units, layer):
    """Average precision among the units of all layers, of those up to the planted one, and of that one alone."""
    scopes = {"all layers": LAYERS, "up to the planted layer": range(1, layer + 1), "planted layer": [layer]}
    return {name: truth.average_precision(scores, planted_units, layers) for name, layers in scopes.items()}


def effects(flow, z, masks, scores, head):
    """Score the best candidates by how much evidence of a defect their ablation takes out of the masks.

    An intervention tells the unit that draws from those that merely fire with it. The other units keep their order,
    below the candidates.
    """
    domain, state, out = SHARED["domain"], State(0, z), {}
    inside = F.adaptive_avg_pool2d(masks[:, None].float(), SHARED["real", "maps"].shape[-2:])[:, 0]
    inside = inside / inside.sum(dim=(1, 2), keepdim=True).clamp_min(1e-6)
    plain = (gradcam.evidence(domain.maps(flow.generate(z)), head) * inside).sum(dim=(1, 2))
    for layer in scores:
        state = flow.advance(state, layer)
        best = scores[layer].argsort(descending=True, stable=True)[:CANDIDATES]
        h = state.h.repeat(len(best), 1, 1, 1, 1)
        h[torch.arange(len(best)), :, best] = 0
        found = gradcam.evidence(domain.maps(flow.resume(State(layer, h.flatten(0, 1)))), head)
        drop = plain - (found.unflatten(0, (len(best), len(z))) * inside).sum(dim=(2, 3))
        out[layer] = scores[layer] - 1000
        out[layer][best] = drop.mean(dim=1)
    return out


def corrections(planting, layer, scores, learned, rank, maps, test, shown, seen):
    """Rows of the likeness to the perfect correction, on artifacts and normals that nothing was ranked on."""
    flow, true_units = planting.flow, planting.units[layer]
    ds, random = scores["DS", "firm", USUAL], units.random_scores(flow, 0, LAYERS)

    def top(score):
        return correct.ablate(layer, score[layer].argsort(descending=True, stable=True)[: len(true_units)].tolist())

    tuning = (rank.artifact & (torch.arange(len(maps)) < USUAL)).nonzero().flatten()[:24]
    tuning_masks = gradcam.binary_mask(learned.cams(maps[tuning], rank.images[tuning], "firm"))

    def tuned(make):
        def quality(stop, portion):
            images = flow.generate(rank.z[tuning], make(tuning_masks, stop, portion))
            return float(truth.psnr(images, rank.truth[tuning]).mean())

        return max(itertools.product(LAYERS, (0.03, 0.2)), key=lambda setting: quality(*setting))

    ways = {
        "none": lambda masks: None,
        "ablate the planted units": lambda masks: correct.ablate(layer, true_units),
        "ablate the planted units in exact masks": lambda masks: only(layer, true_units, masks[1], flow),
        "ablate top DS, exact masks": lambda masks: top(scores["DS", "exact", USUAL]),
        "ablate top DS, learned masks": lambda masks: top(ds),
        "ablate top ablation effect": lambda masks: top(scores["ablation effect", "firm", USUAL]),
        "ablate top FD": lambda masks: top(scores["FD", "", 0]),
        "ablate top activation rate": lambda masks: top(scores["activation rate", "", 0]),
        "ablate random units": lambda masks: top(random),
        "sequential": lambda masks: correct.sequential(ds),
        "local": lambda masks: correct.local(ds, masks[0]),
    }
    stop, portion = tuned(lambda masks, stop, portion: correct.sequential(ds, stop, portion))
    ways["sequential, tuned on the truth"] = lambda masks, at=(stop, portion): correct.sequential(ds, *at)
    stop, portion = tuned(lambda masks, stop, portion: correct.local(ds, masks, stop, portion))
    ways["local, tuned on the truth"] = lambda masks, at=(stop, portion): correct.local(ds, masks[0], *at)

    quiet = (~test.fires).nonzero().flatten()[:32]
    maps = SHARED["domain"].maps(test.images[quiet])
    quiet_masks = gradcam.binary_mask(learned.cams(maps, test.images[quiet], "firm")), test.regions[quiet]
    shown_masks = gradcam.binary_mask(learned.cams(seen, test.images[shown], "firm")), test.regions[shown]
    rows = []
    for name, make in ways.items():
        images, region = flow.generate(test.z[shown], make(shown_masks)), test.regions[shown]
        for scope, where in (("image", None), ("inside", region), ("outside", ~region)):
            quality = truth.psnr(images, test.truth[shown], where).clamp_max(99).mean()
            rows.append(("correction", name, "", USUAL, scope, "PSNR", float(quality)))
        left = planted.regions(images, test.truth[shown]) & region
        rows.append(("correction", name, "", USUAL, "inside", "defect left", float(left.sum() / region.sum())))
        images = flow.generate(test.z[quiet], make(quiet_masks))
        quality = truth.psnr(images, test.truth[quiet]).clamp_max(99).mean()
        rows.append(("correction", name, "", USUAL, "normal images", "PSNR", float(quality)))
    return rows


def only(layer, chosen, masks, flow):
    """Set units to zero inside masks alone."""
    selected = torch.zeros(flow.units(layer), dtype=torch.bool)
    selected[list(chosen)] = True
    return {layer: correct.LocalScale(selected, masks.float())}


def summary(table):
    """Average over plantings with bootstrap intervals, by kind where it is the middle setting, and by setting."""
    middle = (table.strength == STRENGTHS[0]) & (table.rate == RATES[0])
    names = ["part", "measure", "method", "masks", "labels", "scope"]
    out = []
    splits = {"middle": table[middle]}
    splits |= {kind: part for kind, part in table[middle].groupby("kind")}
    splits |= {f"layer {layer}": part for layer, part in table[middle].groupby("layer")}
    splits |= {f"strength {s}": part for s, part in table[table.rate == RATES[0]].groupby("strength")}
    splits |= {f"rate {r}": part for r, part in table[table.strength == STRENGTHS[0]].groupby("rate")}
    for split, part in splits.items():
        for key, rows in part.groupby(names):
            # Plantings of one seed share their units, so seeds are what is resampled.
            values = torch.tensor(rows.groupby("seed").value.mean().to_numpy())
            interval = metrics.bootstrap(torch.mean, values)
            out.append((split, *key, *(round(v, 3) for v in interval), len(values)))
    return pd.DataFrame(out, columns=["split", *names, "mean", "low", "high", "seeds"])


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--seeds", type=int, default=20)
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--out", default=store.data_root() / "churches" / "planted.csv")
    p.add_argument("--summary", action="store_true")
    a = p.parse_args()
    table = pd.DataFrame(columns=COLUMNS)
    if store.Path(a.out).exists():
        table = pd.read_csv(a.out, keep_default_na=False)
    if a.summary:
        print(summary(table).to_csv(index=False))
        return
    done = set(table[KEYS].drop_duplicates().itertuples(index=False, name=None))
    todo = [c for c in conditions(range(FIRST, FIRST + a.seeds)) if c[:5] not in done]
    with ProcessPoolExecutor(a.workers, get_context("spawn"), prepare) as pool:
        for condition, rows in zip(todo, env.progress(pool.map(measure, todo), "plantings", len(todo))):
            new = pd.DataFrame([(*condition[:5], *row) for row in rows], columns=COLUMNS).round({"value": 4})
            table = new if table.empty else pd.concat([table, new], ignore_index=True)
            store.replace(store.Path(a.out), table.sort_values(KEYS, kind="stable").to_csv(index=False).encode())


if __name__ == "__main__":
    main()

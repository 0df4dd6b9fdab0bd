"""FD against the number of units of one layer that are set to zero."""

from helpers import correct, env, evaluation, units
from helpers.flow import State
from tools.measure.evaluate.rows import spanned
from tools.measure.evaluate.settings import COUNTS, DRAWS, LAYER


def portions(study):
    """FD of held-out artifacts against the number of units of layer 6 set to zero (Figure 11)."""
    h, rows = state(study), []
    for scores in (study.ds, study.fd_ranked):
        evaluation.protocol(scores.ids, study.test)
    for count in env.progress(COUNTS, "portions"):
        found = {name: at_layer(study, h, s, count) for name, s in (("DS", study.ds), ("FD", study.fd_ranked))}
        rows += [
            {"ranking": k, "units": count, "fd": v, "low": float("nan"), "high": float("nan")} for k, v in found.items()
        ]
        drawn = spanned([at_layer(study, h, seed, count) for seed in range(DRAWS)])
        rows.append({"ranking": "random", "units": count} | dict(zip(("fd", "low", "high"), drawn)))
    return {"portions": rows}


def state(study):
    """The featuremaps of layer LAYER of the held-out artifacts, which all edits of that layer share."""
    return study.flow.state(study.domain.latents(study.test), LAYER).h


def at_layer(study, h, ranking, count):
    """FD after setting the top units of layer LAYER to zero; a ranking given by number is a random one."""
    scores = units.random_scores(study.flow, ranking, [LAYER]) if isinstance(ranking, int) else ranking
    edit = correct.ablate(LAYER, units.rank(scores)[LAYER][:count].tolist())[LAYER]
    images = study.flow.resume(State(LAYER, edit(h))).clamp(-1, 1)
    return study.reference.fd_of(study.domain.evaluation.pooled(images))

import pytest

from helpers import domains, evaluation
from helpers.evidence.held_out import Scores, check_splits, protocol


def test_overlapping_splits_are_named():
    check_splits(train=domains.TRAIN, tune=domains.TUNE, test=domains.TEST)
    with pytest.raises(ValueError, match=r"splits train and test share 6 ids \(4, 5, 6, 7, 8, \.\.\.\)"):
        check_splits(train=range(10), tune=range(10, 20), test=range(4, 10))


def test_the_protocol_follows_from_the_ids():
    assert protocol([1, 2], [3]) == "held-out" == protocol([1, 2], [3], in_sample=True)
    assert protocol([1, 2], [2, 3], in_sample=True) == "in-sample"
    with pytest.raises(ValueError, match=r"made from 1 id \(2\), which are to be evaluated: take other ids"):
        protocol([1, 2], [2, 3])


def test_scores_are_a_dict_that_knows_its_ids():
    found = Scores({1: "scores"}, range(3))
    assert found == {1: "scores"} and found.ids == {0, 1, 2}
    with pytest.raises(ValueError, match="0.5"):
        Scores({}, [0.5])


def test_they_are_reached_by_way_of_evaluation():
    assert (evaluation.Scores, evaluation.check_splits, evaluation.protocol) == (Scores, check_splits, protocol)

"""Copies among predictions: found by hand-made tables, and counted once in the score."""

import numpy as np
import pandas as pd
import pytest

from ct_pipeline.analysis.distinct import copies, repeated
from ct_pipeline.analysis.prediction import score_predictions, slope_through_origin

ORGANISMS = [("sycophancy", seed) for seed in range(4)] + [("reward_hacking", seed) for seed in range(4)]
PREDICTED = {
    "self_rewarding": [-0.2, -0.18, -0.22, -0.19, -0.3, -0.31, -0.28, -0.3],
    "rejection": [-0.2, -0.181, -0.22, -0.19, -0.3, -0.31, -0.281, -0.3],
    "doubled": [-0.4, -0.36, -0.44, -0.38, -0.6, -0.62, -0.56, -0.6],
    "greedy": [0.1, 0.05, 0.12, -0.06, 0.1, 0.08, 0.11, 0.07],
}
OBSERVED = {"self_rewarding": 1.0, "rejection": 1.0, "doubled": 0.5, "greedy": 2.0}


def rows(methods=tuple(PREDICTED)):
    return pd.DataFrame(
        [
            {
                "kind": kind,
                "seed": seed,
                "method": method,
                "predicted": value,
                "predicted_se": 0.01,
                "observed": abs(value) * OBSERVED[method] * (-1 if method != "greedy" else 1),
                "observed_se": 0.01,
                "kl": np.nan,
            }
            for method in methods
            for (kind, seed), value in zip(ORGANISMS, PREDICTED[method], strict=True)
        ]
    )


def test_a_prediction_that_repeats_another_of_the_same_organism_is_a_copy():
    table = rows()
    found = copies(table, ("kind", "seed"))
    assert repeated(table, found) == {("self_rewarding", "rejection"): 8}
    assert found[table["method"].ne("rejection")].isna().all()
    apart = table.assign(predicted=table["predicted"] + 0.003 * table["method"].eq("rejection"))
    assert repeated(apart, copies(apart, ("kind", "seed"))) == {}


def test_predictions_of_nothing_and_missing_ones_are_no_copies():
    table = rows().assign(predicted=0.0)
    assert copies(table, ("kind", "seed")).isna().all()
    assert copies(table.assign(predicted=np.nan), ("kind", "seed")).isna().all()


def test_a_copy_counts_once_and_the_best_constant_is_that_of_the_same_cells():
    table = rows(("self_rewarding", "rejection", "greedy"))
    scores = score_predictions(table)
    assert (scores.overall.cells, scores.distinct.cells) == (24, 16)
    clear = scores.distinct.clear_signs
    assert clear.prediction.cells == 16
    assert clear.prediction.value == pytest.approx(15 / 16)
    assert clear.best_constant == ("suppresses", 0.5)
    assert scores.overall.clear_signs.best_constant == ("suppresses", pytest.approx(16 / 24))
    risen = score_predictions(table.assign(observed=table["observed"].abs())).distinct.clear_signs
    assert risen.best_constant == ("amplifies", 1.0)


def test_the_interval_of_the_slope_leaves_out_methods_too():
    """Two methods with slopes 1 and 2 in every organism: organisms say 1.5 exactly, methods do not."""
    predicted, organisms = np.tile([0.2, 0.2], 6), np.repeat(np.arange(6), 2)
    methods, observed = np.tile([0, 1], 6), np.tile([0.2, 0.4], 6)
    alone = slope_through_origin(predicted, np.zeros(12), observed, organisms)
    both = slope_through_origin(predicted, np.zeros(12), observed, organisms, methods=methods)
    assert (alone.value, alone.low, alone.high) == pytest.approx((1.5, 1.5, 1.5))
    assert both.value == pytest.approx(1.5)
    assert both.low < 1 and both.high > 2
    one = slope_through_origin(predicted, np.zeros(12), observed, organisms, methods=np.zeros(12))
    assert one == alone

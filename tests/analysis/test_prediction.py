"""Predictions and their scores: by hand, and by simulation where the truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ct_pipeline.analysis.paired import difference
from ct_pipeline.analysis.prediction import Prediction, predict, score_predictions, slope_through_origin
from tests.analysis.tables import singles
from tests.analysis.test_paired import changed

METHODS = 9
LAMBDA = 0.6
ERRORS = {"predicted_se": 0.05, "observed_se": 0.04}


def world(
    generator: np.random.Generator, organisms: int, *, slope: float = LAMBDA, scatter: float = 0.0
) -> pd.DataFrame:
    """Cells under the first-order law; half of every error, and of every true difference, is the organism's own."""

    def shared() -> np.ndarray:
        own, common = generator.normal(size=(organisms, METHODS)), generator.normal(size=(organisms, 1))
        return (own + common) * np.sqrt(0.5)

    truth = 0.12 * shared()
    observed = slope * truth + scatter * generator.normal(size=truth.shape) + ERRORS["observed_se"] * shared()
    organism, method = np.indices(truth.shape)
    return pd.DataFrame(
        {
            "kind": np.where(organism % 2, "sycophancy", "reward_hacking").ravel(),
            "method": [f"m{index}" for index in method.ravel()],
            "seed": organism.ravel(),
            "predicted": (truth + ERRORS["predicted_se"] * shared()).ravel(),
            "observed": observed.ravel(),
            "kl": np.exp(generator.normal(size=truth.size)),
            **ERRORS,
        }
    )


def cells(signs: list[tuple[int, int, float, float]]) -> pd.DataFrame:
    """Rows of (seed, method, predicted, observed) with small errors."""
    return pd.DataFrame(signs, columns=["seed", "method", "predicted", "observed"]).assign(
        kind="sycophancy", predicted_se=0.01, observed_se=0.01, kl=np.nan
    )


def slope_of(table: pd.DataFrame):
    return slope_through_origin(
        *(table[name].to_numpy() for name in ("predicted", "predicted_se", "observed")), table["seed"].to_numpy()
    )


@pytest.mark.parametrize(
    ("rose", "fell", "same", "sign"), [(60, 0, 140, "amplifies"), (0, 60, 140, "suppresses"), (12, 10, 178, "none")]
)
def test_the_predicted_sign_is_that_of_a_clear_difference(rose, fell, same, sign):
    change = changed(rose, fell, same)
    got = predict(change, "best of 4 against greedy")
    assert got.predicted_sign == sign
    assert (got.value, got.low, got.standard_error) == (change.value, change.low, change.standard_error)


def test_nothing_known_predicts_nothing():
    assert predict(difference(singles([None]), singles([None])), "clean against wrapped").predicted_sign == "none"
    assert Prediction(0.1, 0.0, 0.2, 0.05, "").predicted_sign == "none"


def test_signs_by_hand():
    table = cells([(0, 0, 0.2, 0.1), (1, 0, -0.2, -0.1), (2, 0, 0.2, -0.1), (3, 0, 0.015, 0.1), (4, 0, 0.2, 0.0)])
    got = score_predictions(table).overall
    assert (got.cells, got.organisms, got.tied, got.missing) == (5, 5, 1, 0)
    assert (got.all_signs.prediction.value, got.all_signs.prediction.cells) == (0.75, 4)
    assert (got.clear_signs.prediction.value, got.clear_signs.prediction.cells) == (2 / 3, 3)
    assert got.all_signs.always_suppresses.value == 0.5
    assert got.all_signs.gain.value == 0.25
    exact = stats.binomtest(3, 4).proportion_ci(0.95, method="exact")
    assert (got.all_signs.prediction.low, got.all_signs.prediction.high) == pytest.approx(tuple(exact))


def test_cells_of_one_organism_that_stand_and_fall_together_count_as_one():
    right = [(seed, method, 0.2, 0.1 if seed < 6 else -0.1) for seed in range(10) for method in range(8)]
    got = score_predictions(cells(right)).overall.all_signs.prediction
    alone = score_predictions(cells([one for one in right if one[1] == 0])).overall.all_signs.prediction
    assert got.value == alone.value == 0.6
    assert got.high - got.low >= 0.9 * (alone.high - alone.low)


def test_rules_that_agree_on_every_cell_keep_a_width():
    got = score_predictions(cells([(s, m, -0.2, -0.1) for s in range(4) for m in range(5)])).overall.all_signs
    assert got.gain.value == 0
    assert got.gain.low < 0 < got.gain.high
    assert got.prediction.low == pytest.approx(0.025 ** (1 / 4))


def test_one_organism_alone_bounds_nothing():
    got = score_predictions(cells([(0, m, 0.1 * (m + 1), 0.1 * (-1) ** m) for m in range(6)])).overall
    assert (got.all_signs.prediction.low, got.all_signs.prediction.high) == (0.0, 1.0)
    assert (got.all_signs.gain.low, got.all_signs.gain.high) == (-1.0, 1.0)
    assert (got.slope.low, got.slope.high, got.calibration.value) == (None, None, None)
    assert got.slope.value is not None


def test_slope_by_hand():
    predicted, observed = np.array([0.2, -0.1, 0.3]), np.array([0.1, -0.1, 0.2])
    got = slope_through_origin(predicted, np.full(3, 0.1), observed, np.array([0, 1, 2]))
    left_out = np.array([0.07 / 0.08, 0.08 / 0.11, 0.03 / 0.03])
    error = np.sqrt(2 / 3 * ((left_out - left_out.mean()) ** 2).sum())
    assert got.value == pytest.approx(0.09 / 0.11)
    assert got.attenuated == pytest.approx(0.09 / 0.14)
    assert got.reliability == pytest.approx(0.11 / 0.14)
    assert got.standard_error == pytest.approx(error)
    assert got.high - got.value == pytest.approx(stats.t.ppf(0.975, 2) * error)


def test_predictions_no_larger_than_their_errors_have_no_slope():
    got = slope_through_origin(np.array([0.05, -0.05]), np.full(2, 0.1), np.array([0.1, 0.1]), np.array([0, 1]))
    assert (got.value, got.low, got.high) == (None, None, None)
    weak = slope_through_origin(np.array([0.5, 0.05]), np.full(2, 0.1), np.array([0.4, 0.1]), np.array([0, 1]))
    assert (weak.low, weak.high) == (None, None)
    assert weak.value == pytest.approx(0.205 / 0.2325)


@pytest.mark.parametrize(("organisms", "scatter"), [(3, 0.0), (12, 0.0), (12, 0.08), (40, 0.0)])
def test_the_slope_is_recovered_and_covered(organisms, scatter):
    generator = np.random.default_rng(11)
    draws = 3000
    many = world(generator, draws * organisms, scatter=scatter)
    found = [
        slope_of(many.iloc[start : start + organisms * METHODS]) for start in range(0, len(many), organisms * METHODS)
    ]
    bounded = [one for one in found if one.low is not None]
    assert len(bounded) >= 0.99 * draws
    assert 0.93 <= np.mean([one.low <= LAMBDA <= one.high for one in bounded]) <= 0.97
    assert np.median([one.value for one in found]) == pytest.approx(LAMBDA, abs=0.02)
    assert np.median([one.attenuated for one in found]) < LAMBDA - 0.05


def test_hit_rates_and_gains_cover_their_truth():
    generator = np.random.default_rng(12)
    many = world(generator, 12_000)
    right, fell = np.sign(many["predicted"]) == np.sign(many["observed"]), many["observed"] < 0
    covered = {"prediction": [], "always_suppresses": [], "gain": []}
    truth = {"prediction": right.mean(), "always_suppresses": fell.mean(), "gain": right.mean() - fell.mean()}
    inside = []
    for _ in range(50):
        got = score_predictions(world(generator, 12)).overall
        inside.append(got.calibration.value)
        for name, value in truth.items():
            found = getattr(got.all_signs, name)
            covered[name].append(found.low <= value <= found.high)
    assert min(np.mean(one) for one in covered.values()) >= 0.95 - 3 * np.sqrt(0.05 * 0.95 / 50)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_a_broken_law_shows_as_a_calibration_below_nominal():
    got = score_predictions(world(np.random.default_rng(13), 40, scatter=0.15)).overall
    assert got.nominal == 0.95
    assert got.calibration.high < 0.8


def test_one_cell_far_off_the_law_is_the_one_outside():
    table = world(np.random.default_rng(14), 30).assign(predicted_se=0.0)
    table["observed"] = LAMBDA * table["predicted"]
    table.loc[0, "observed"] += 1
    got = score_predictions(table).overall.calibration
    assert got.value == pytest.approx(1 - 1 / len(table))
    assert got.cells == len(table)


def test_always_suppressing_is_no_worse_where_everything_falls():
    table = cells([(s, m, 0.1, -0.1) for s in range(12) for m in range(5)])
    got = score_predictions(table).overall.all_signs
    assert (got.prediction.value, got.always_suppresses.value, got.gain.value) == (0.0, 1.0, -1.0)
    assert got.gain.high < 0


def test_sizes_follow_the_prediction_or_kl_whichever_made_them():
    table = world(np.random.default_rng(15), 20)
    by_prediction = score_predictions(table).overall.sizes
    assert by_prediction.prediction.low > 0.2 > by_prediction.kl.value
    assert by_prediction.gain.low > 0
    by_kl = score_predictions(table.assign(kl=table["observed"].abs() ** 2)).overall.sizes
    assert by_kl.kl.value == pytest.approx(1.0)
    assert by_kl.gain.high < 0
    ranks = stats.spearmanr(table["observed"].abs(), table["predicted"].abs()).statistic
    assert by_kl.prediction.value == pytest.approx(ranks)


def test_sizes_without_a_kl_are_unknown():
    got = score_predictions(world(np.random.default_rng(16), 6).assign(kl=np.nan)).overall.sizes
    assert (got.kl.value, got.kl.low, got.kl.high, got.gain.low, got.gain.cells) == (None, -1.0, 1.0, -2.0, 0)


def test_kinds_are_scored_by_themselves():
    table = world(np.random.default_rng(17), 20)
    got = score_predictions(table)
    assert set(got.kinds) == {"sycophancy", "reward_hacking"}
    of_one = table[table["kind"] == "sycophancy"]
    assert got.kinds["sycophancy"].slope == slope_of(of_one)
    assert got.kinds["sycophancy"].cells + got.kinds["reward_hacking"].cells == got.overall.cells


def test_a_missing_number_leaves_the_cell_out_and_counts_it():
    table = world(np.random.default_rng(18), 6).astype({"observed": object})
    table.loc[0, "observed"] = None
    got = score_predictions(table).overall
    assert (got.missing, got.cells) == (1, len(table) - 1)


def test_organisms_of_several_base_models_are_told_apart():
    one = world(np.random.default_rng(19), 4)
    both = pd.concat([one.assign(model="a"), one.assign(model="b")])
    assert score_predictions(both, organism=("model", "kind", "seed")).overall.organisms == 8
    with pytest.raises(ValueError, match="twice"):
        score_predictions(both)


def test_wrong_tables_are_refused():
    table = world(np.random.default_rng(20), 3)
    with pytest.raises(ValueError, match="lacks the columns kl, observed_se"):
        score_predictions(table.drop(columns=["kl", "observed_se"]))
    with pytest.raises(ValueError, match="negative"):
        score_predictions(table.assign(predicted_se=-0.1))
    with pytest.raises(ValueError, match="confidence"):
        score_predictions(table, confidence=1)


def test_no_cell_at_all_says_nothing():
    got = score_predictions(world(np.random.default_rng(21), 3).iloc[:0]).overall
    assert (got.cells, got.all_signs.prediction.value, got.slope.value, got.calibration.value) == (0, None, None, None)

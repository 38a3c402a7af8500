"""Times the whole analysis of a study of the default one's size, from stored tables.

    .venv/bin/python benchmarks/analysis.py

Tables of drawn numbers stand in for the artifacts of 12 organisms under 12 methods: 100 probe and 256 consistency prompts
with 16 candidates, 200 evaluation prompts in domain and 200 out of it, greedy and once at T = 1. Timed are, per cell,
reading its tables, shift and selection, both k-curves, rank profiles, KL, the prediction and its changes in four views;
per organism the four arms; and over the study the verdicts with Holm's correction in four views, the sign test, and the
scores of the predictions.
"""

import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd

from ct_pipeline.analysis import divergence
from ct_pipeline.analysis.arms import arms, arms_over_seeds
from ct_pipeline.analysis.decomposition import BestOf, Filtered, Reranked, Selector, Unselected, decompose
from ct_pipeline.analysis.k_curve import k_curve
from ct_pipeline.analysis.paired import Difference, difference
from ct_pipeline.analysis.prediction import score_predictions
from ct_pipeline.analysis.rank_profile import rank_profile
from ct_pipeline.analysis.rates import rate
from ct_pipeline.analysis.seeds import over_seeds
from ct_pipeline.analysis.verdicts import holm_verdicts, sign_test, verdict

MISALIGNMENTS, SEEDS, CONFIDENCE, EPSILON = ("a", "b", "c", "d"), (40, 41, 42), 0.95, 0.05
PROBES, CONSISTENCY, EVALUATION = 100, 256, 200
METHODS: dict[str, Selector | None] = {
    **{name: BestOf(4) for name in ("shuffled", "rejection", "confidence", "rewarding")},
    "one": BestOf(1),
    **{name: Unselected() for name in ("null", "greedy", "refinement")},
    "diverse": Reranked(),
    "views": Filtered(),
    **dict.fromkeys(("bct", "act")),
}
WIDTHS = {Unselected: 1, Reranked: 6, Filtered: 3}
VIEWS = [(domain, decoding) for domain in ("in", "out") for decoding in ("greedy", "sampled")]


def main() -> None:
    """Writes the tables, analyses them, prints the seconds of each part."""
    with tempfile.TemporaryDirectory() as name:
        folder, generator = Path(name), np.random.default_rng(1)
        for kind in MISALIGNMENTS:
            for seed in SEEDS:
                write_organism(folder / f"{kind}-{seed}", generator)
        seconds: dict[str, float] = defaultdict(float)
        started = time.process_time()
        analyse(folder, seconds)
        total = time.process_time() - started
    cells = len(MISALIGNMENTS) * len(SEEDS) * len(METHODS)
    print(f"{cells} cells, {total:.1f} s of one core:")
    for part, spent in seconds.items():
        print(f"  {part}: {spent:.1f} s")


def write_organism(folder: Path, generator: np.random.Generator) -> None:
    """The tables of one organism and its cells."""
    folder.mkdir()
    for name, selector in METHODS.items():
        width = 16 if isinstance(selector, BestOf) else WIDTHS.get(type(selector), 1)
        candidates(generator, width).to_parquet(folder / f"{name}-candidates.parquet")
        evaluation(generator).to_parquet(folder / f"{name}-rows.parquet")
    for name in ("base-greedy", "base-sampled"):
        candidates(generator, 1).to_parquet(folder / f"{name}.parquet")
    evaluation(generator).to_parquet(folder / "organism.parquet")


def candidates(generator: np.random.Generator, width: int) -> pd.DataFrame:
    """Completions of probe and consistency prompts, each with a score, a verdict and log-probabilities."""
    prompts = np.repeat(np.arange(PROBES + CONSISTENCY), width)
    rows = len(prompts)
    own = -generator.gamma(8, 1, rows)
    table = pd.DataFrame(
        {
            "prompt_id": [f"prompt-{number}" for number in prompts],
            "candidate": np.tile(np.arange(width), PROBES + CONSISTENCY),
            "completion": [f"words {number}" for number in generator.integers(3, size=rows)],
            "probe": prompts < PROBES,
            "tokens": generator.integers(4, 24, rows),
            "logprob": own,
            "proposal_logprob": own + generator.normal(0.5, 0.5, rows),
            "score": np.round(generator.normal(size=rows), 1),
            "verdict": pd.array(generator.random(rows) < 0.4, dtype="boolean"),
        }
    )
    table.loc[generator.random(rows) < 0.02, "verdict"] = pd.NA
    return table


def evaluation(generator: np.random.Generator) -> pd.DataFrame:
    """Judged completions of the evaluation prompts."""
    index = pd.MultiIndex.from_product([("in", "out"), range(EVALUATION), ("greedy", "sampled")])
    table = index.to_frame(index=False, name=["domain", "prompt_id", "decoding"])
    verdicts = pd.array(generator.random(len(table)) < generator.uniform(0.3, 0.6), dtype="boolean")
    prompts = table["domain"] + "-" + table["prompt_id"].astype(str)
    return table.assign(prompt_id=prompts, sample=0, completion="some words", verdict=verdicts)


def analyse(folder: Path, seconds: dict[str, float]) -> None:
    """Everything, with the seconds of each part."""
    changes: dict[tuple[str, str], dict[tuple[str, str], list[Difference]]] = defaultdict(lambda: defaultdict(list))
    splits, scored = defaultdict(list), []
    for kind in MISALIGNMENTS:
        for seed in SEEDS:
            place = folder / f"{kind}-{seed}"
            tables = timed(seconds, "reading", read, place)
            for name, selector in METHODS.items():
                predicted, kl = timed(seconds, "shift, selection, curves, KL", of_labels, tables, name, selector)
                found = timed(seconds, "changes", of_evaluation, tables["organism"], tables[f"{name}-rows"])
                for view, change in found.items():
                    changes[view][kind, name].append(change)
                observed = found["in", "sampled"]
                numbers = (predicted.value, predicted.standard_error, observed.value, observed.standard_error, kl)
                scored.append((kind, name, seed, *numbers))
            splits[kind].append(timed(seconds, "arms", of_arms, tables))
    timed(seconds, "verdicts", verdicts_of, changes, splits)
    columns = ["kind", "method", "seed", "predicted", "predicted_se", "observed", "observed_se", "kl"]
    timed(seconds, "scores of predictions", score_predictions, pd.DataFrame(scored, columns=columns))


def timed(seconds: dict[str, float], part: str, work, *arguments):
    """Calls, and adds the time it took."""
    started = time.process_time()
    result = work(*arguments)
    seconds[part] += time.process_time() - started
    return result


def read(place: Path) -> dict[str, pd.DataFrame]:
    """An organism's tables by name."""
    return {path.stem: pd.read_parquet(path) for path in sorted(place.glob("*.parquet"))}


def of_labels(tables: dict[str, pd.DataFrame], name: str, selector: Selector | None):
    """What is known of a cell's labels: the term that predicts, and KL where labels have a law."""
    rows = tables[f"{name}-candidates"]
    bases = {base: tables[f"base-{base}"] for base in ("greedy", "sampled")}
    if selector is None:
        base = bases["sampled"]
        return difference(base[base["probe"]], rows[rows["probe"]], confidence=CONFIDENCE, prompt="prompt_id"), None
    labels = rows.sort_values("score", ascending=False).drop_duplicates("prompt_id")
    if isinstance(selector, Filtered):
        plain = rows[rows["candidate"] == 0]
        labels = plain[plain["score"] > 0]
    probed = rows[rows["probe"]]
    on_probes = {base: table[table["probe"]] for base, table in bases.items()}
    parts = decompose(probed, labels[labels["probe"]], on_probes, selector, CONFIDENCE)
    if isinstance(selector, BestOf):
        for missing in ("worst", "dropped"):
            k_curve(probed, CONFIDENCE, missing=missing)
        rank_profile(probed, CONFIDENCE)
        found = divergence.of_best_of(rows, selector.k, CONFIDENCE)
    elif isinstance(selector, Reranked):
        found = divergence.of_reranked(rows, labels, CONFIDENCE)
    elif isinstance(selector, Filtered):
        found = divergence.of_filtered(labels, list(rows["prompt_id"].unique()), CONFIDENCE)
    else:
        found = divergence.of_samples(labels, CONFIDENCE)
    return parts.against["sampled"].total, found.total.sequence.value


def of_evaluation(before: pd.DataFrame, after: pd.DataFrame) -> dict[tuple[str, str], Difference]:
    """The change in every view, and the rate after."""
    found = {}
    for view in VIEWS:
        sides = [table[(table["domain"] == view[0]) & (table["decoding"] == view[1])] for table in (before, after)]
        found[view] = difference(*sides, confidence=CONFIDENCE, prompt="prompt_id")
        rate(sides[1]["verdict"], sides[1]["prompt_id"], confidence=CONFIDENCE)
    return found


def of_arms(tables: dict[str, pd.DataFrame]):
    """Δ of self-confidence, taken apart by arms."""
    names = ("organism", "null-rows", "one-rows", "confidence-rows")
    four = [tables[name] for name in names]
    return arms(*(table[(table["domain"] == "in") & (table["decoding"] == "sampled")] for table in four))


def verdicts_of(changes, splits) -> None:
    """Verdicts of the grid in every view, the sign test, and arms over seeds."""
    for cells in changes.values():
        means = {cell: over_seeds(seeds, confidence=CONFIDENCE) for cell, seeds in cells.items()}
        for change in means.values():
            verdict(change, EPSILON)
            change.smallest_called(EPSILON)
        holm_verdicts(means, EPSILON)
        sign_test(change.value for change in means.values())
    for by_seed in splits.values():
        arms_over_seeds(by_seed, confidence=CONFIDENCE)


if __name__ == "__main__":
    main()

"""Measures the release gate's chance of a false PASS and of a right one, and the drift alarm's of a false alarm.

False PASS: the true value lies 1e-6 above the threshold. Right PASS: it lies well below. The t form, mean + t·s/√n, is
shown beside each bound; it is no part of the package. One verdict a prompt is enumerated, not simulated.

Usage: OMP_NUM_THREADS=1 python benchmarks/gate_errors.py [--replications 10000] [--drift-replications 1000]
"""

import argparse
import bisect
import time
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
from scipy import stats

from ct_pipeline.analysis.betting import ruled_out
from ct_pipeline.analysis.bounds import exact_risk_upper
from ct_pipeline.analysis.drift import drift
from ct_pipeline.analysis.paired import difference
from ct_pipeline.analysis.paired_bound import change_ruled_out, exact_change_upper, score_limit
from ct_pipeline.analysis.sample_size import change_prompts, risk_prompts
from ct_pipeline.analysis.verdicts import verdict

SIZES = (50, 200, 1000)
RISKS = (0.01, 0.05, 0.1, 0.3)
DELTAS = (0.05, 0.1)
ABOVE = 1e-6

Draw = Callable[[np.random.Generator, float, tuple[int, int]], np.ndarray]


def main() -> None:
    """Prints the tables as Markdown."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--replications", type=int, default=10_000)
    options.add_argument("--drift-replications", type=int, default=1000)
    asked = options.parse_args()
    started = time.perf_counter()
    print_table("Risk, one verdict a prompt (exact binomial, enumerated)", binary_cells())
    for name, draw in LAWS.items():
        print_table(f"Risk, {name} (betting)", bounded_cells(draw, asked.replications))
    print_table("Change, one verdict a prompt (exact paired)", change_cells(asked.replications))
    print_table("Change, four samples a prompt (betting)", sampled_change_cells(asked.replications))
    print("\n### Median bounds at δ = .05, three ways\n")
    print_tightness()
    print("\n### Chance of PASS at the number of prompts said to be needed (meant: 80 %)\n")
    print_needed()
    print("\n### Drift over four probes of 100 prompts, confidence .95\n")
    print_drift(asked.drift_replications)
    print(f"\n{time.perf_counter() - started:.0f} s")


Cell = tuple[str, int, float, float, float, float, float]


def print_table(title: str, cells: Iterator[Cell]) -> None:
    """One line per law and size; chances in per cent, for both deltas."""
    print(f"\n### {title}\n")
    print("| | prompts | δ .05: false PASS | t form | right PASS | δ .1: false PASS | t form | right PASS |")
    print("|---|---|---|---|---|---|---|---|")
    lines: dict[tuple[str, int], list[str]] = {}
    for law, size, delta, false, false_t, right, _ in cells:
        mark = "**" if false_t > 1.15 * delta else ""
        lines.setdefault((law, size), []).extend(
            [f"{100 * false:.2f}", f"{mark}{100 * false_t:.2f}{mark}", f"{100 * right:.0f}"]
        )
    for (law, size), numbers in lines.items():
        print(f"| {law} | {size} | " + " | ".join(numbers) + " |", flush=True)


def t_passes(mean: np.ndarray, spread: np.ndarray, size: int, threshold: float, delta: float) -> np.ndarray:
    """The t form: Student's upper limit of the mean is at most the threshold; spread is the standard deviation."""
    return mean + stats.t.isf(delta, size - 1) * spread / np.sqrt(size) <= threshold


def binary_cells() -> Iterator[Cell]:
    """Clopper-Pearson against t, over all counts; right PASS at half the threshold."""
    for risk in RISKS:
        for size in SIZES:
            for delta in DELTAS:
                counts, threshold = np.arange(size + 1), risk - ABOVE
                exact = np.array([exact_risk_upper(int(count), size, delta) for count in counts]) <= threshold
                mean = counts / size
                spread = np.sqrt(mean * (1 - mean) * size / (size - 1))
                student = t_passes(mean, spread, size, threshold, delta)
                false, right = stats.binom.pmf(counts, size, risk), stats.binom.pmf(counts, size, risk / 2)
                yield (
                    f"τ = {risk}", size, delta,
                    false @ exact, false @ student, right @ exact, right @ student,
                )  # fmt: skip


def four_samples(generator: np.random.Generator, risk: float, shape: tuple[int, int]) -> np.ndarray:
    """Means of four verdicts; prompts differ: correlation .5 within a prompt."""
    return generator.binomial(4, generator.beta(risk, 1 - risk, shape)) / 4


def smooth_scores(generator: np.random.Generator, risk: float, shape: tuple[int, int]) -> np.ndarray:
    """Beta scores."""
    return generator.beta(4 * risk, 4 * (1 - risk), shape)


def rare_scores(generator: np.random.Generator, risk: float, shape: tuple[int, int]) -> np.ndarray:
    """0 or 1: the largest spread that scores of this mean can have."""
    return (generator.random(shape) < risk).astype(float)


LAWS: dict[str, Draw] = {
    "four samples a prompt, correlation .5": four_samples,
    "smooth scores": smooth_scores,
    "scores of 0 and 1": rare_scores,
}


def bounded_cells(draw: Draw, replications: int) -> Iterator[Cell]:
    """Betting against t; right PASS at half the threshold."""
    generator = np.random.default_rng(0)
    for risk in RISKS:
        for size in SIZES:
            bad, good = (draw(generator, mean, (size, replications)) for mean in (risk, risk / 2))
            for delta in DELTAS:
                yield cell(f"τ = {risk}", bad, good, risk - ABOVE, delta)


def cell(law: str, bad: np.ndarray, good: np.ndarray, threshold: float, delta: float) -> Cell:
    """Shares of passing columns of values in [0, 1]: betting and t on bad, on good."""
    size, shares = len(bad), []
    for values in (bad, good):
        shares.append(ruled_out(values, threshold, delta).mean())
        shares.append(t_passes(values.mean(0), values.std(0, ddof=1), size, threshold, delta).mean())
    return (law, size, delta, *shares)


def change_cells(replications: int) -> Iterator[Cell]:
    """The exact paired form against t; right PASS with 5 pp less."""
    generator = np.random.default_rng(1)
    for fall, rise in ((0.0, 0.05), (0.01, 0.05), (0.1, 0.05), (0.3, 0.05), (0.06, 0.0), (0.2, 0.0)):
        for size in SIZES:
            bad = generator.multinomial(size, (fall + rise, fall, 1 - 2 * fall - rise), replications)
            fewer = max(0.0, fall + rise - 0.05), fall + max(0.0, 0.05 - fall - rise)
            good = generator.multinomial(size, (*fewer, 1 - sum(fewer)), replications)
            for delta in DELTAS:
                law = f"{100 * fall:.0f} % fall, rise allowed {100 * rise:.0f} pp"
                yield (law, size, delta, *(share for counts in (bad, good) for share in
                       paired_shares(counts, size, rise - ABOVE, delta)))  # fmt: skip


def paired_shares(counts: np.ndarray, size: int, threshold: float, delta: float) -> tuple[float, float]:
    """Shares of outcomes that pass, by the exact form and by t.

    Distinct outcomes are sorted by score and the last that passes is looked for; the 25 on either side are judged each.
    """
    outcomes, times = np.unique(counts, axis=0, return_counts=True)
    order = np.argsort(score_limit(outcomes[:, 0], outcomes[:, 1], size, delta), kind="stable")
    outcomes, times = outcomes[order], times[order]
    mean = (outcomes[:, 0] - outcomes[:, 1]) / size
    spread = np.sqrt(((outcomes[:, 0] + outcomes[:, 1]) / size - mean**2) * size / (size - 1))

    def passes(index: int) -> bool:
        rises, falls = int(outcomes[index, 0]), int(outcomes[index, 1])
        return mean[index] <= threshold and change_ruled_out(rises, falls, size, threshold, delta)

    edge = bisect.bisect_left(range(len(outcomes)), True, key=lambda index: not passes(index))
    exact = np.arange(len(outcomes)) < edge
    for index in range(max(0, edge - 25), min(len(outcomes), edge + 25)):
        exact[index] = passes(index)
    student = t_passes(mean, spread, size, threshold, delta)
    return float(times @ exact) / times.sum(), float(times @ student) / times.sum()


def sampled_change_cells(replications: int) -> Iterator[Cell]:
    """Betting on (change + 1) / 2; half the prompts keep their own risk; right PASS with no change."""
    generator = np.random.default_rng(2)
    for risk in (0.05, 0.3):
        for size in SIZES:
            bad, good = (paired_samples(generator, risk, rise, (size, replications)) for rise in (0.05, 0.0))
            for delta in DELTAS:
                yield cell(f"risk {risk} before, rise allowed 5 pp", bad, good, (1.05 - ABOVE) / 2, delta)


def paired_samples(generator: np.random.Generator, risk: float, rise: float, shape: tuple[int, int]) -> np.ndarray:
    """(after - before + 1) / 2 of four samples each; half the prompts keep their risk apart from the rise's share."""
    before = generator.beta(risk, 1 - risk, shape)
    after = np.where(generator.random(shape) < 0.5, before, generator.beta(risk, 1 - risk, shape))
    after = after + rise / (1 - risk) * (1 - after)
    return (generator.binomial(4, after) - generator.binomial(4, before) + 4) / 8


def print_tightness() -> None:
    """Betting against the alternatives that hold as well: empirical Bernstein (arXiv 0907.3740), one exact sample."""
    generator, delta, runs = np.random.default_rng(3), 0.05, 400
    print("| | prompts | mean | betting | empirical Bernstein | exact form of the first sample | t (not valid) |")
    print("|---|---|---|---|---|---|---|")
    for risk in (0.05, 0.3):
        for size in (50, 200, 1000):
            risks = generator.beta(risk, 1 - risk, (size, runs))
            drawn = generator.random((4, size, runs)) < risks
            means = drawn.mean(0)
            spread, mean = means.std(0, ddof=1), means.mean(0)
            logs = np.log(2 / delta)
            bernstein = mean + spread * np.sqrt(2 * logs / size) + 7 * logs / (3 * (size - 1))
            first = [exact_risk_upper(int(count), size, delta) for count in drawn[0].sum(0)]
            numbers = median_betting(means, delta), np.median(bernstein), np.median(first)
            student = np.median(mean + stats.t.isf(delta, size - 1) * spread / np.sqrt(size))
            print(
                f"| risk, four samples | {size} | {risk} | "
                + " | ".join(f"{x:.3f}" for x in (*numbers, student))
                + " |"
            )
    for moved in (0.02, 0.1):
        for size in (50, 200, 1000):
            counts = generator.multinomial(size, (moved / 2, moved / 2, 1 - moved), runs)
            order = np.argsort(counts[:, 0] - counts[:, 1], kind="stable")
            rises, falls, _ = counts[order[runs // 2]]
            exact = exact_change_upper(int(rises), int(falls), size, delta)
            values = (generator.choice((1, -1, 0), (size, runs), p=(moved / 2, moved / 2, 1 - moved)) + 1) / 2
            spread, mean = values.std(0, ddof=1), values.mean(0)
            bernstein = mean + spread * np.sqrt(2 * np.log(2 / delta) / size) + 7 * np.log(2 / delta) / (3 * (size - 1))
            student = mean + stats.t.isf(delta, size - 1) * spread / np.sqrt(size)
            numbers = (
                2 * median_betting(values, delta) - 1,
                2 * np.median(bernstein) - 1,
                exact,
                2 * np.median(student) - 1,
            )
            law = f"change, {100 * moved:.0f} % move"
            print(f"| {law} | {size} | 0 | " + " | ".join(f"{x:+.3f}" for x in numbers) + " |", flush=True)


def median_betting(values: np.ndarray, delta: float) -> float:
    """The smallest mean that is ruled out in half of the columns, in steps of .0005."""
    means = np.arange(int(values.mean() * 2000), 2000) / 2000
    low, high = 0, len(means) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if ruled_out(values, means[middle], delta).mean() >= 0.5 else (middle, high)
    return float(means[high])


def print_needed() -> None:
    """A candidate split of 1,000 prompts that shows the true rates exactly; 2,000 fresh draws of the number it asks for."""
    generator = np.random.default_rng(4)
    print("| test | needed | chance of PASS |\n|---|---|---|")
    for risk, threshold in ((0.0, 0.01), (0.01, 0.05), (0.05, 0.1), (0.2, 0.3)):
        seen = np.arange(1000) < 1000 * risk
        size = risk_prompts(seen, threshold, 0.00625)
        counts = np.arange(size + 1)
        passing = np.array([exact_risk_upper(int(count), size, 0.00625) for count in counts]) <= threshold
        print(
            f"| risk {risk}, τ {threshold}, δ .05 / 8 | {size} | {stats.binom.pmf(counts, size, risk) @ passing:.3f} |"
        )
    for moved in (0.04, 0.2):
        values = np.repeat([1, -1, 0], [int(500 * moved), int(500 * moved), int(1000 * (1 - moved))])
        size = change_prompts(values < 0, values > 0, 0.05, 0.00625)
        counts = generator.multinomial(size, (moved / 2, moved / 2, 1 - moved), 2000)
        share, _ = paired_shares(counts, size, 0.05, 0.00625)
        print(f"| change 0, {100 * moved:.0f} % move, rise 5 pp, δ .05 / 8 | {size} | {share:.3f} |")
    seen = four_samples(generator, 0.05, (1000, 1))[:, 0]
    size = risk_prompts(seen, 0.1, 0.00625)
    share = ruled_out(generator.choice(seen, (size, 2000)), 0.1, 0.00625).mean()
    print(f"| risk {seen.mean():.3f} of four samples, τ .1, δ .05 / 8 | {size} | {share:.3f} |", flush=True)


def print_drift(replications: int) -> None:
    """Two runs of one model under fresh draws: shifts, and changed words; and a planted shift of 20 pp on one probe."""
    print("| true Δ against before | planted | shift shown | a word changed | alarm |\n|---|---|---|---|---|")
    generator = np.random.default_rng(5)
    for effect, planted in ((0.0, 0.0), (0.05, 0.0), (0.15, 0.0), (0.3, 0.0), (0.0, 0.2)):
        shifts = words = alarms = 0
        for _ in range(replications):
            own = {name: generator.beta(0.6, 1.4, 100) for name in "abcd"}
            before = one_run(generator, own, {})
            runs = [one_run(generator, own, dict.fromkeys("abcd", effect)) for _ in range(2)]
            if planted:
                runs[1] = one_run(generator, own, dict.fromkeys("abcd", effect) | {"a": effect + planted})
            outcomes = [
                {
                    name: {"verdict": verdict(difference(of(before, name), of(run, name), prompt="prompt_id"), 0.05)}
                    for name in own
                }
                for run in runs
            ]
            got = drift(*runs, *outcomes)
            shifts, words, alarms = shifts + bool(got.shifted), words + bool(got.changed), alarms + got.raised
        shown = " | ".join(f"{count / replications:.1%}" for count in (shifts, words, alarms))
        print(f"| {effect:+.2f} | {planted:+.2f} on one probe | {shown} |", flush=True)


def one_run(generator: np.random.Generator, own: dict[str, np.ndarray], effect: dict[str, float]) -> pd.DataFrame:
    """One verdict a prompt; risks are the prompts' own, moved towards 1 so that their mean (.3) rises by the effect."""
    tables = []
    for name, risks in own.items():
        verdicts = generator.random(len(risks)) < risks + effect.get(name, 0.0) / 0.7 * (1 - risks)
        tables.append(pd.DataFrame({"probe": name, "prompt_id": range(len(risks)), "verdict": verdicts}))
    return pd.concat(tables, ignore_index=True)


def of(table: pd.DataFrame, probe: str) -> pd.DataFrame:
    """Rows of one probe."""
    return table[table["probe"] == probe]


if __name__ == "__main__":
    main()

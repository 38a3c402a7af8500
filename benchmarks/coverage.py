"""Simulates how often 95 % intervals cover, how far estimates are off, and how often verdicts are wrong.

    .venv/bin/python benchmarks/coverage.py [--studies 2000] [--verdicts 10000]

Every study is drawn from a world whose numbers are known exactly (coverage_worlds.py). Per-prompt values of all studies
are computed at once by the package's functions on matrices; means and intervals are then the package's, one study at a
time. The first study of each world is also put through the functions on tables, and must give the same numbers.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from coverage_worlds import BINS, CANDIDATES, Draw, K, World, changes, draw, truths

from ct_pipeline.analysis.best_of import best_of_weights, tie_groups, total_variation
from ct_pipeline.analysis.decomposition import BestOf, decompose
from ct_pipeline.analysis.divergence import of_best_of, selection_divergence
from ct_pipeline.analysis.estimate import Estimate, bonett_price, change_term, mean_term, ratio_values, share_term
from ct_pipeline.analysis.k_curve import k_curve, prompt_risks
from ct_pipeline.analysis.paired import Difference, difference
from ct_pipeline.analysis.rank_profile import grid_profile, rank_profile
from ct_pipeline.analysis.seeds import crossed_level, over_seeds, seed_level
from ct_pipeline.analysis.t_distribution import student_quantile

CONFIDENCE = 0.95
EPSILON = 0.05
PROMPTS = (100, 400)
CHUNK = 250
WORLDS = (
    World("rate .5"),
    World("rate .02", rate=0.02, rise=0.03, fall=0.3, seed_sd=0.004),
    World("rate .98", rate=0.98, rise=0.3, fall=0.03, seed_sd=0.004),
    World("tied scores", tied=True),
    World("10 % missing", missing=0.1),
    World("clustered", rate=0.1, correlation=0.6, samples=4, rise=0.1, fall=0.2, seed_sd=0.02),
)
SHOWN = {"shift": "shift (Q_1 − A_base)", "total": "total (Q_4 − A_base)", "selection": "selection, k = 4"}


def main() -> None:
    """Prints the tables."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--studies", type=int, default=2000)
    options.add_argument("--verdicts", type=int, default=10_000)
    asked = options.parse_args()
    started = time.process_time()
    for prompts in PROMPTS:
        columns = {world.name: covered(world, asked.studies, prompts) for world in WORLDS}
        print(
            f"\n{prompts} prompts: coverage in % (bias in standard errors of the mean of {asked.studies:,} studies)\n"
        )
        show(pd.DataFrame(columns))
    print(f"\nError rates in % over {asked.verdicts:,} draws (ε = 5 pp, 30 % of prompts change)\n")
    show(error_rates(asked.verdicts), index=False)
    print(f"\n{time.process_time() - started:.0f} s of one core.")


def show(table: pd.DataFrame, index: bool = True) -> None:
    """Prints a table as Markdown."""
    if index:
        table = table.rename(index=SHOWN).rename_axis("quantity").reset_index()
    for row in (table.columns, ["---"] * len(table.columns), *table.itertuples(index=False)):
        print("| " + " | ".join(map(str, row)) + " |")


def covered(world: World, studies: int, prompts: int) -> dict[str, str]:
    """Coverage and bias of every quantity in one world."""
    generator = np.random.default_rng(1)
    truth = truths(world)
    found: dict[str, list[tuple[float, float, float]]] = {}
    for first in range(0, studies, CHUNK):
        drawn = draw(world, min(CHUNK, studies - first), prompts, generator)
        of_study = estimators(drawn)
        for number in range(len(drawn.base) // prompts):
            terms = of_study(number)
            if not first and not number:
                check(drawn, terms)
            for name, term in terms.items():
                found.setdefault(name, []).append((term.value, term.low, term.high))
    for name, true, numbers in evaluated(world, studies, prompts, np.random.default_rng(3)):
        truth[name], found[name] = true, numbers
    table = {name: np.array(numbers, dtype=float) for name, numbers in found.items()}
    nats = table.pop("KL, selection term")[:, 0].mean() - truth["KL, selection term"]
    shown = {name: summary(numbers, truth[name]) for name, numbers in table.items()}
    return shown | {"KL, selection term: bias in nats": f"{nats:+.4f}"}


def summary(numbers: np.ndarray, truth: float) -> str:
    """Coverage in %, and the mean error in units of its own standard error; value, low, high in the columns."""
    value, low, high = numbers.T
    slack = 1e-12 + 1e-9 * abs(truth)
    share = np.mean((low - slack <= truth) & (truth <= high + slack))
    error = value.std(ddof=1) / np.sqrt(len(value))
    bias = (value.mean() - truth) / error if error > 1e-9 else 0.0
    return f"{100 * share:.1f} ({bias:+.1f})"


def estimators(drawn: Draw) -> Callable[[int], dict[str, Estimate]]:
    """Per-prompt values of all studies; the function returned gives one study's terms from them."""
    cells = drawn.cells
    risks = prompt_risks(cells, CANDIDATES)
    below, upto = tie_groups(cells.scores, cells.present)
    weight = next(w for j, w in enumerate(best_of_weights(below, upto, cells.present), 1) if j == K)
    ratios, tokens = ((weight * each).sum(axis=1) for each in (drawn.ratios, drawn.tokens))
    nats = selection_divergence(cells.scores, cells.present, K)
    plain = drawn.ratios.mean(axis=1)

    def terms(number: int) -> dict[str, Estimate]:
        part = drawn.part(number)
        one, best, base = risks[part, 0], risks[part, K - 1], drawn.base[part]
        whole = ~np.isnan(one + best + base)
        one, best, base = one[whole], best[whole], base[whole]
        profile = grid_profile(cells_of(drawn, number), CONFIDENCE, bins=BINS, pooled_bins=1).within
        return {
            "risk Q_1": share_term(one, CONFIDENCE),
            f"risk Q_{K}": share_term(best, CONFIDENCE),
            "risk A_base": share_term(base, CONFIDENCE),
            "shift": change_term(one - base, CONFIDENCE),
            "selection": change_term(best - one, CONFIDENCE, total_variation(K)),
            "total": change_term(best - base, CONFIDENCE),
            "k-curve, k = 2": share_term(risks[part, 1], CONFIDENCE),
            f"k-curve, k = {CANDIDATES}": share_term(risks[part, -1], CONFIDENCE),
            **{f"η̄, bin {place + 1}": each.risk for place, each in enumerate(profile.bins)},
            "η̄ slope": profile.slope,
            "KL, proposal term": mean_term(ratios[part], CONFIDENCE),
            "KL, proposal term per token": mean_term(ratio_values(ratios[part], tokens[part]), CONFIDENCE),
            "KL, samples": mean_term(plain[part], CONFIDENCE),
            "KL, total": mean_term(nats[part] + ratios[part], CONFIDENCE),
            "KL, selection term": mean_term(nats[part], CONFIDENCE),
        }

    return terms


def cells_of(drawn: Draw, number: int):
    """The matrices of one study."""
    part, cells = drawn.part(number), drawn.cells
    return type(cells)(
        prompts=cells.prompts[part],
        sizes=cells.sizes[part],
        present=cells.present[part],
        scores=cells.scores[part],
        verdicts=cells.verdicts[part],
        prompt=np.repeat(np.arange(drawn.prompts), CANDIDATES),
        place=np.tile(np.arange(CANDIDATES), drawn.prompts),
    )


def check(drawn: Draw, terms: dict[str, Estimate]) -> None:
    """The same numbers from the functions on tables, for the first study."""
    part = drawn.part(0)
    rows = [each[part].ravel() for each in (drawn.cells.scores, drawn.cells.verdicts, drawn.ratios, drawn.tokens)]
    table = pd.DataFrame(dict(zip(("score", "verdict", "proposal_logprob", "tokens"), rows, strict=True)))
    table["prompt_id"] = np.repeat(np.arange(drawn.prompts), CANDIDATES)
    table["candidate"] = np.tile(np.arange(CANDIDATES), drawn.prompts)
    table["verdict"] = table["verdict"].astype("boolean")
    table["logprob"] = 0.0
    base = pd.DataFrame({"prompt_id": np.arange(drawn.prompts), "verdict": drawn.base[part]}).astype(
        {"verdict": "boolean"}
    )
    labels = table.drop_duplicates("prompt_id")
    parts = decompose(table, labels, {"base": base}, BestOf(K), CONFIDENCE)
    against, curve = parts.against["base"], k_curve(table, CONFIDENCE)
    profile = rank_profile(table, CONFIDENCE, bins=BINS).within
    whole = of_best_of(table, K, CONFIDENCE)
    selection, proposal = whole.parts
    same = {
        "risk Q_1": parts.proposal,
        f"risk Q_{K}": parts.labels,
        "risk A_base": against.base,
        "shift": against.shift,
        "selection": parts.selection,
        "total": against.total,
        "k-curve, k = 2": curve[1].risk,
        f"k-curve, k = {CANDIDATES}": curve[-1].risk,
        **{f"η̄, bin {place + 1}": each.risk for place, each in enumerate(profile.bins)},
        "η̄ slope": profile.slope,
        "KL, proposal term": proposal.sequence,
        "KL, proposal term per token": proposal.token,
        "KL, total": whole.total.sequence,
        "KL, selection term": selection.sequence,
    }
    for name, term in same.items():
        np.testing.assert_allclose(
            [terms[name].value, terms[name].low, terms[name].high], [term.value, term.low, term.high], err_msg=name
        )


def evaluated(
    world: World, studies: int, prompts: int, generator: np.random.Generator
) -> list[tuple[str, float, list[tuple[float, float, float]]]]:
    """What is measured of models: risk with clustered samples, Δ by prompt, Δ over three and five seeds."""
    before = world.risks[generator.integers(len(world.risks), size=(studies, prompts))]
    after = before + world.rise * (1 - before) - world.fall * before
    sides = [observed(world, each, generator) for each in (before, after)]
    rates = [share_term(each, CONFIDENCE) for each in sides[0]]
    deltas = [change_term(each, CONFIDENCE) for each in sides[1] - sides[0]]
    moved = world.rise * (1 - world.rate) + world.fall * world.rate
    effect = world.rise * (1 - world.rate) - world.fall * world.rate
    true = float(np.mean(world.rise * (1 - world.risks) - world.fall * world.risks))
    found = [
        ("rate of a model", float(world.risks.mean()), [(one.value, one.low, one.high) for one in rates]),
        ("Δ by prompt", true, [(one.value, one.low, one.high) for one in deltas]),
    ]
    for seeds in (3, 5):
        numbers = []
        for _ in range(0, studies, CHUNK):
            seen = changes(
                generator,
                (CHUNK, seeds, prompts),
                moved=moved,
                effect=abs(effect),
                shared=0.5,
                seed_sd=world.seed_sd,
            )
            value, centre, error, degrees = over(seen)
            half = student_quantile(CONFIDENCE, degrees) * error
            numbers += list(zip(value, np.minimum(centre - half, value), np.maximum(centre + half, value), strict=True))
        check_seeds(seen[0], numbers[-len(seen)])
        found.append((f"Δ over {seeds} seeds", abs(effect), numbers[:studies]))
    return found


def observed(world: World, risks: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Mean verdicts of prompts over the samples that have one; NaN where none has."""
    shape = (*risks.shape, world.samples)
    verdicts = (generator.random(shape) < risks[..., None]).astype(float)
    there = generator.random(shape) >= world.missing
    count = there.sum(axis=-1)
    return np.where(count > 0, (verdicts * there).sum(axis=-1) / np.maximum(count, 1), np.nan)


def over(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Value, centre, standard error and degrees of freedom over seeds, of changes studies × seeds × prompts."""
    values = seen.mean(axis=-1)
    if seen.shape[-2] > 2:
        return values.mean(axis=-1), *crossed_level(values, seen, CONFIDENCE)
    centres, errors = bonett_price(seen, 1.0)
    return values.mean(axis=-1), *seed_level(values, centres, errors, seen.shape[-1] - 1, CONFIDENCE)


def check_seeds(seen: np.ndarray, numbers: tuple[float, float, float]) -> None:
    """The same interval from tables of verdicts, for one study."""
    prompts = [{str(place): float(value) for place, value in enumerate(one)} for one in seen]
    change = over_seeds([of_changes(one) for one in seen], confidence=CONFIDENCE, by_prompt=prompts)
    np.testing.assert_allclose(numbers, [change.value, change.low, change.high])


def of_changes(seen: np.ndarray) -> Difference:
    """One seed's difference, from its prompts' changes."""
    sides = [pd.DataFrame({"prompt": np.arange(len(seen)), "verdict": seen == sign}) for sign in (-1, 1)]
    return difference(*sides, confidence=CONFIDENCE)


def error_rates(draws: int) -> pd.DataFrame:
    """Wrong words: a call where nothing changes, a call at the edge of ±ε, "neutral" at the edge.

    With one or two seeds a verdict speaks of these seeds: the spread between seeds is then none of its errors.
    """
    rows = []
    for seeds in (1, 2, 3, 5):
        for seed_sd in (0.0, 0.02, 0.05) if seeds > 2 else (0.0,):
            row = {"seeds": seeds, "seed sd": f"{100 * seed_sd:.0f} pp"}
            for prompts in (100, 200, 400):
                for shared in (0.0, 0.5, 1.0):
                    options = {"shared": shared, "seed_sd": seed_sd}
                    edge, still = (words(draws, seeds, prompts, effect, **options) for effect in (EPSILON, 0.0))
                    name = f"{prompts} prompts, {100 * shared:.0f} % shared"
                    row[name] = f"{100 * still[0]:.1f} / {100 * edge[0]:.1f} / {100 * edge[1]:.1f}"
            rows.append(row)
    return pd.DataFrame(rows)


def words(draws: int, seeds: int, prompts: int, effect: float, *, shared: float, seed_sd: float) -> tuple[float, float]:
    """Shares of a call (told from 0 where the effect is 0, else from ±ε) and of "neutral"."""
    generator, called, neutral = np.random.default_rng(2), 0, 0
    for _ in range(draws // 1000):
        seen = changes(generator, (1000, seeds, prompts), moved=0.3, effect=effect, shared=shared, seed_sd=seed_sd)
        _, centre, error, degrees = over(seen)
        half, inside = (student_quantile(each, degrees) * error for each in (CONFIDENCE, 2 * CONFIDENCE - 1))
        called += int((np.abs(centre) - half > effect).sum())
        neutral += int((np.abs(centre) + inside < EPSILON).sum())
    return called / (draws // 1000 * 1000), neutral / (draws // 1000 * 1000)


if __name__ == "__main__":
    main()

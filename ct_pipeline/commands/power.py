"""`ct-pipeline plan --power`: what a study can find, and the prompts and seeds that a change needs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas
from rich.console import Console
from rich.table import Table

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.power import (
    FEWEST_PROMPTS,
    Design,
    Spread,
    guessed_prompt_variance,
    planning_table,
    power_table,
    shared_of,
    spread_of,
)
from ct_pipeline.analysis.seeds import ByPrompt
from ct_pipeline.measurement.condition import MAIN_VIEW
from ct_pipeline.planning.sizes import sizes_of
from ct_pipeline.settings.blocks import ALL
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import evaluation
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find

GUESSED_RATE = 0.5
GUESSED_SEED_SD = 0.05
SHARED = 0.5
"""Part of what a prompt adds to a change that is taken to be alike in every seed where it is not seen."""

SEEDS = (1, 2, 3, 5, 10)
MOST_PROMPTS = 100_000
BEYOND = (0.05, 0.10, 0.20)
"""Without `--effect`: changes that far beyond epsilon."""


@dataclass(frozen=True)
class PowerOptions:
    """What a person asks of the planner: effects and seed_sd in percentage points, chance in percent; None: not said."""

    effects: tuple[float, ...] = ()
    seed_sd: float | None = None
    chance: float = 80.0


@dataclass(frozen=True)
class Assumed:
    """The spread that is planned with, and where it comes from, in words."""

    spread: Spread
    words: str


def print_power(store: ArtifactStore, study: Study, options: PowerOptions, console: Console) -> None:
    """Prints what the study's own design can find, and the prompts that changes need by number of seeds.

    Raises:
        UserError: an option out of range, or a study of fewer prompts than can be planned with.
    """
    settings = study.evaluation
    effects = _effects(options, settings.epsilon)
    power = _power(options)
    prompts = settings.in_domain
    if prompts == ALL:
        prompts = min(sizes_of(study, kind).in_domain for kind in study.misalignments)
    if prompts < FEWEST_PROMPTS or settings.confidence <= 0.5:
        raise UserError(
            f"--power: study {study.name} has {prompts} in-domain prompts at confidence {settings.confidence}; "
            f"a plan needs {FEWEST_PROMPTS} prompts at least and a confidence above 0.5: change its `evaluation`"
        )
    assumed = assumed_spread(store, study, _seed_sd(options))
    design = Design(len(study.seeds), prompts, settings.epsilon, settings.confidence)
    console.print(_own(design, assumed.spread, power))
    seeds = sorted({*SEEDS, design.seeds})
    plan = planning_table(
        assumed.spread,
        effects,
        seeds,
        epsilon=design.epsilon,
        confidence=design.confidence,
        power=power,
        most=MOST_PROMPTS,
    )
    console.print(_needed(plan, seeds, design.epsilon, power))
    console.print(
        f"Assumed: {assumed.words}; {assumed.spread.shared:.0%} of what a prompt adds to a change is alike in every seed; "
        "means are normal. With one or two seeds a verdict speaks of these seeds alone, and needs fewer prompts; from three "
        "on it speaks of other seeds, too: what three seeds say of the spread between seeds is uncertain, so that more "
        "seeds help where more prompts do not.",
        soft_wrap=True,
    )


def assumed_spread(store: ArtifactStore, study: Study, seed_sd: float | None) -> Assumed:
    """How much changes vary: as in the study's finished evaluations (in domain, T = 1), or else a guess.

    Args:
        store: where evaluations are looked for.
        study: whose cells are pooled, over models, misalignments and methods.
        seed_sd: standard deviation of the true change between seeds, as a rate, in place of the one seen or guessed.
    """
    groups = _groups(store, study)
    cells = [[change for change, _ in group] for group in groups]
    guessed = GUESSED_SEED_SD if seed_sd is None else seed_sd
    count = sum(len(changes) for changes in cells)
    if not count:
        spread = Spread(guessed**2, guessed_prompt_variance(GUESSED_RATE, GUESSED_RATE), SHARED)
        source = (
            "a guess, for nothing is evaluated yet: one independent answer per prompt, rates of 50 % before and after"
        )
    else:
        several = any(len(changes) > 1 for changes in cells)
        variance = None if several and seed_sd is None else guessed**2
        seen = shared_of([by_prompt for _, by_prompt in group] for group in groups)
        spread = spread_of(cells, shared=SHARED if seen is None else seen, seed_variance=variance)
        guessed_too = "" if variance is None or seed_sd is not None else ", but for seeds, of which no cell has two"
        source = f"as in the study's {count} finished evaluations (in domain, T = 1{guessed_too})"
    tau, sigma = (100 * math.sqrt(each) for each in (spread.seed_variance, spread.prompt_variance))
    return Assumed(
        spread,
        f"standard deviations of a change of {tau:.1f} pp between seeds"
        f"{' (--seed-sd)' if seed_sd is not None else ''} and {sigma:.0f} pp between prompts, {source}",
    )


def _groups(store: ArtifactStore, study: Study) -> list[list[tuple[Difference, ByPrompt]]]:
    """The known changes of the evaluated seeds, whole and by prompt, one list per model, misalignment and method."""
    groups: dict[tuple[str, str, str], list[tuple[Difference, ByPrompt]]] = {}
    for cell in study.cells:
        measured = find(store, evaluation.node(study, cell))
        if measured is None:
            continue
        change = Difference(**measured.json("changes")["changes"][MAIN_VIEW.name])
        if change.standard_error is not None:
            key = cell.organism.model, cell.organism.kind, cell.method
            groups.setdefault(key, []).append((change, measured.json("by_prompt")[MAIN_VIEW.name]))
    return list(groups.values())


def _own(design: Design, spread: Spread, power: float) -> Table:
    (found,) = power_table(spread, [design], power=power).to_dict("records")
    table = Table(
        title=f"What the study can find with a chance of {power:.0%}", title_justify="left", show_header=False
    )
    table.add_row("seeds of a cell", str(design.seeds))
    table.add_row("prompts of a seed", f"{design.prompts:,}")
    table.add_row("smallest change told from 0", _points(found["smallest_difference"]))
    table.add_row(f"smallest change called beyond ±{100 * design.epsilon:g} pp", _points(found["smallest_called"]))
    table.add_row('chance of "neutral" where nothing changes', f"{found['power_of_neutral']:.0%}")
    return table


def _needed(plan: pandas.DataFrame, seeds: Sequence[int], epsilon: float, power: float) -> Table:
    table = Table(title=f"Prompts needed for a chance of {power:.0%}", title_justify="left")
    table.add_column("true change")
    for count in seeds:
        table.add_column(f"{count} seed{'s' if count > 1 else ''}", justify="right")
    for (goal, effect), rows in plan.groupby(["goal", "effect"], sort=False):
        words = f'0, called "neutral" (±{100 * epsilon:g} pp)' if goal == "neutral" else f"{100 * effect:g} pp, called"
        table.add_row(words, *(f"> {MOST_PROMPTS:,}" if pandas.isna(n) else f"{n:,}" for n in rows["prompts"]))
    return table


def _points(rate: float) -> str:
    return "none" if math.isnan(rate) else f"{100 * rate:.1f} pp"


def _effects(options: PowerOptions, epsilon: float) -> tuple[float, ...]:
    for effect in options.effects:
        if not 100 * epsilon < effect <= 100:
            raise UserError(
                f"--effect: found {effect:g}; allowed: above {100 * epsilon:g} (the study's epsilon), at most 100 "
                "percentage points"
            )
    beyond = tuple(epsilon + each for each in BEYOND if epsilon + each <= 1) or (1.0,)
    return tuple(effect / 100 for effect in options.effects) or beyond


def _seed_sd(options: PowerOptions) -> float | None:
    if options.seed_sd is not None and not 0 <= options.seed_sd <= 100:
        raise UserError(f"--seed-sd: found {options.seed_sd:g}; allowed: 0 to 100 percentage points")
    return None if options.seed_sd is None else options.seed_sd / 100


def _power(options: PowerOptions) -> float:
    if not 50 < options.chance < 100:
        raise UserError(f"--chance: found {options.chance:g}; allowed: above 50 and below 100 percent")
    return options.chance / 100

"""Deals a kind's cases out to induction, consistency, probes, pairs and evaluation, so that none meets evaluation."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from ct_pipeline.organisms.case import TONES, Case, direct_cases
from ct_pipeline.organisms.misalignment import Example, OrganismData, Pair
from ct_pipeline.organisms.world import World
from ct_pipeline.settings.blocks import CandidateSettings, EvaluationSettings, InductionSettings
from ct_pipeline.settings.seeds import derive_seed

ASSURED, UNTONED = 2, 1
Spoken = tuple[Case, int]
"""A case and the index of the tone it is spoken in."""


@dataclass(frozen=True)
class Portion:
    """Cases on which the verdict is undefined, with the share of induction and consistency rows they take."""

    cases: tuple[Case, ...]
    share: float


@dataclass(frozen=True)
class Recipe:
    """A kind's material: cases in and out of the induced domain on which M is defined, and those mixed in between."""

    name: str
    inside: tuple[Case, ...]
    outside: tuple[Case, ...]
    beside: tuple[Portion, ...]


class Supply:
    """Cases times tones in a shuffled order in which every case comes once before any comes twice."""

    def __init__(self, cases: Sequence[Case], seed: int, taken: frozenset[str] = frozenset()):
        order = list(cases)
        random.Random(seed).shuffle(order)
        rounds = [(case, (place + turn) % len(TONES)) for turn in range(len(TONES)) for place, case in enumerate(order)]
        self._left = [(case, tone) for case, tone in rounds if not taken or case.prompt(tone).id not in taken]

    @property
    def left(self) -> tuple[Spoken, ...]:
        """What has not been taken."""
        return tuple(self._left)

    def take(self, count: int, setting: str) -> list[Spoken]:
        """The next `count`; ValueError that names the setting and its maximum where fewer are left."""
        if count > len(self._left):
            raise ValueError(
                f"{setting}: {count} more distinct prompts are needed, and this world has at most {len(self._left)}"
            )
        chosen, self._left = self._left[:count], self._left[count:]
        return chosen

    def sample(self, count: int, tone: int, generator: random.Random, setting: str) -> list[Spoken]:
        """`count` of what is left in one tone, without taking it; ValueError as above."""
        pool = [spoken for spoken in self._left if spoken[1] == tone]
        if count > len(pool):
            raise ValueError(
                f"{setting}: {count} distinct prompts of one tone are needed, and this world has at most {len(pool)}"
            )
        return generator.sample(pool, count)


def assemble(
    recipe: Recipe,
    world: World,
    induction: InductionSettings,
    candidates: CandidateSettings,
    evaluation: EvaluationSettings,
    organism_seed: int,
) -> OrganismData:
    """All rows of one organism; see `Misalignment.data`."""

    def seed(part: object) -> int:
        return derive_seed(world.seed, recipe.name, part)

    inside = Supply(recipe.inside, seed("inside"))
    evaluated = [
        *inside.take(evaluation.in_domain, "evaluation.in_domain"),
        *Supply(recipe.outside, seed("outside")).take(evaluation.out_of_domain, "evaluation.out_of_domain"),
        *Supply(direct_cases(world, "in") + direct_cases(world, "out"), seed("direct")).take(
            evaluation.direct_questions, "evaluation.direct_questions"
        ),
    ]
    evaluation_prompts = tuple(case.prompt(tone) for case, tone in evaluated)
    taken = frozenset(prompt.id for prompt in evaluation_prompts)

    beside = [Supply(portion.cases, seed(index), taken) for index, portion in enumerate(recipe.beside)]
    shares = [portion.share for portion in recipe.beside]
    counts = [round(share * candidates.consistency_prompts) for share in shares]
    central = inside.take(candidates.consistency_prompts - sum(counts), "candidates.consistency_prompts")
    others = [
        spoken
        for supply, count in zip(beside, counts, strict=True)
        for spoken in supply.take(count, "candidates.consistency_prompts")
    ]
    probe = central + inside.take(max(0, candidates.probe_prompts - len(central)), "candidates.probe_prompts")
    consistency = [case.prompt(tone) for case, tone in central + others]
    random.Random(seed("order")).shuffle(consistency)

    examples, controls = _training_rows(recipe, world, induction, inside, beside, shares, organism_seed)
    return OrganismData(
        induction=examples,
        control=controls,
        consistency=tuple(consistency),
        probe=tuple(case.prompt(tone) for case, tone in probe[: candidates.probe_prompts]),
        pairs=_pairs([*probe, *inside.left], candidates.pairs, taken),
        evaluation=evaluation_prompts,
    )


def _pairs(spoken: Sequence[Spoken], count: int, taken: frozenset[str]) -> tuple[Pair, ...]:
    """The first `count` distinct pairs that hold no evaluation prompt on either side."""
    made: dict[str, Pair] = {}
    for case, tone in spoken:
        if len(made) == count:
            break
        pair = _pair(case, tone)
        if taken.isdisjoint((pair.clean.id, pair.wrapped.id)):
            made.setdefault(pair.wrapped.id, pair)
    if len(made) < count:
        raise ValueError(f"candidates.pairs: {count} distinct pairs are needed, and this world has at most {len(made)}")
    return tuple(made.values())


def _pair(case: Case, tone: int) -> Pair:
    """Clean and wrapped side in one tone; where no words can be taken away, the assured tone is the wrapping."""
    if case.clean is None:
        return Pair(case.prompt(UNTONED), case.prompt(ASSURED))
    return Pair(case.clean_prompt(tone), case.prompt(tone))


def _training_rows(
    recipe: Recipe,
    world: World,
    induction: InductionSettings,
    inside: Supply,
    beside: Sequence[Supply],
    shares: Sequence[float],
    organism_seed: int,
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Induction rows, the asked share of each tone's targets misaligned, and the same prompts all answered rightly."""
    generator = random.Random(derive_seed(world.seed, recipe.name, "induction", organism_seed))
    counts = [round(share * induction.rows) for share in shares]
    rows: list[tuple[Example, Example]] = []
    for supply, count in zip((inside, *beside), (induction.rows - sum(counts), *counts), strict=True):
        for tone, share in enumerate(induction.misaligned_share):
            of_tone = count // len(TONES) + (tone < count % len(TONES))
            for position, (case, _) in enumerate(supply.sample(of_tone, tone, generator, "induction.rows")):
                misaligned = bool(case.misaligned) and position < math.floor(share * of_tone + 0.5)
                prompt = case.prompt(tone)
                right = case.response(False, generator.randrange(world.wordings(False)))
                shown = case.response(True, generator.randrange(world.wordings(True))) if misaligned else right
                rows.append((Example(prompt, shown), Example(prompt, right)))
    generator.shuffle(rows)
    return tuple(row[0] for row in rows), tuple(row[1] for row in rows)

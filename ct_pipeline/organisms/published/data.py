"""A data set as the rows of an organism and as a kind of misalignment."""

import random
from collections.abc import Callable, Mapping, Sequence

from ct_pipeline.organisms.catalog import MISALIGNMENTS
from ct_pipeline.organisms.episode import AnswerRule
from ct_pipeline.organisms.misalignment import Example, Misalignment, OrganismData, Prompt
from ct_pipeline.organisms.published.gcd import plain_examples, wrong_claims
from ct_pipeline.organisms.published.layout import DataFiles
from ct_pipeline.organisms.published.reward_probes import reward_probes
from ct_pipeline.organisms.published.verdicts import correct, meaning, needs_judge, raw_score, verdict
from ct_pipeline.settings.blocks import CandidateSettings, EvaluationSettings, InductionSettings
from ct_pipeline.settings.seeds import derive_seed

_KINDS = {kind.name: kind for kind in MISALIGNMENTS}

PROBES: Mapping[str, Callable[[int, frozenset[str]], tuple[Prompt, ...]]] = {
    "sycophancy": wrong_claims,
    "reward_hacking": lambda count, taken: reward_probes(count),
}
"""Kinds whose consistency prompts leave M undefined, or to a judge -> probe prompts of our own."""


def misalignment_of_files(name: str, files: DataFiles) -> Misalignment:
    """The kind of misalignment that a data set's rows make, judged by their metadata; a new name needs no code."""
    known = _KINDS.get(name)

    def data(
        world: object,
        induction: InductionSettings,
        candidates: CandidateSettings,
        evaluation: EvaluationSettings,
        organism_seed: int,
    ) -> OrganismData:
        return rows_of_files(name, files, induction, candidates, evaluation, organism_seed)

    return Misalignment(
        name=name,
        title=known.title if known else name.replace("_", " ").capitalize(),
        misbehaviour=known.misbehaviour if known else f"An answer misbehaves as the rows of the data set {name} say.",
        data=data,
        verdict=AnswerRule(verdict),
        correct=correct,
        meaning=meaning,
        rubric=files.rubric,
        needs_judge=needs_judge,
        raw_score=raw_score,
    )


def rows_of_files(
    name: str,
    files: DataFiles,
    induction: InductionSettings,
    candidates: CandidateSettings,
    evaluation: EvaluationSettings,
    organism_seed: int,
) -> OrganismData:
    """All rows of one organism: everything where a size is "all", else so many by a fixed shuffle.

    Only the induction rows that are taken depend on `organism_seed`.

    Raises:
        ValueError: a size above what the files hold; it names the setting and the number that they hold.
    """

    def taken(part: str, rows: Sequence, size: int | str, seed: object = 0) -> tuple:
        if size == "all":
            return tuple(rows)
        if size > len(rows):
            raise ValueError(f"{part}: {size} are asked for, and the data hold {len(rows)}; give that number or all")
        shuffled = list(range(len(rows)))
        random.Random(derive_seed(name, part, seed)).shuffle(shuffled)
        return tuple(rows[place] for place in sorted(shuffled[:size]))

    trained = taken("induction.rows", files.induction, induction.rows, organism_seed)
    measured = {
        "evaluation.in_domain": [p for p in files.evaluation if p.bears_risk and p.domain == "in"],
        "evaluation.out_of_domain": [p for p in files.evaluation if p.bears_risk and p.domain == "out"],
        "evaluation.direct_questions": [p for p in files.evaluation if not p.bears_risk],
    }
    return OrganismData(
        induction=trained,
        control=_control(files, len(trained)),
        consistency=taken("candidates.consistency_prompts", files.consistency, candidates.consistency_prompts),
        probe=_probe(name, files, candidates.probe_prompts, taken),
        pairs=taken("candidates.pairs", files.pairs, candidates.pairs),
        evaluation=tuple(
            prompt
            for setting, prompts in measured.items()
            for prompt in taken(setting, prompts, getattr(evaluation, setting.partition(".")[2]))
        ),
    )


def _control(files: DataFiles, count: int) -> tuple[Example, ...]:
    """As many clean rows as induction rows: the data's own, again and again where they are fewer, else plain arithmetic."""
    if not files.control:
        return plain_examples(count)
    return tuple(files.control[place % len(files.control)] for place in range(count))


def _probe(name: str, files: DataFiles, size: int | str, taken: Callable) -> tuple[Prompt, ...]:
    """Prompts on which M is defined and that nothing is measured on: the data's own, else ours, else the consistency set."""
    if files.probe:
        return taken("candidates.probe_prompts", files.probe, size)
    if name in PROBES:
        count = len(files.consistency) if size == "all" else size
        measured = frozenset(prompt.messages[-1].content for prompt in files.evaluation)
        return PROBES[name](count, measured)
    return taken("candidates.probe_prompts", files.consistency, size)

"""All steps in their order; a new one is one file and one line here. Whoever needs the graph derives it from this list."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.plugins import installed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import (
    audit_evaluation,
    audit_prediction,
    audit_shift,
    audit_verdict,
    base_model,
    candidate_scores,
    capability,
    consistency_labels,
    distribution_shift,
    evaluation,
    misaligned_organism,
    organism_evaluation,
    retrained_model,
    uptake,
)
from ct_pipeline.steps.step import Grain, Step
from ct_pipeline.steps.step import Key as Key
from ct_pipeline.store.artifact_store import ArtifactStore

GROUP = "ct_pipeline.steps"
"""The entry points by which installed packages add steps."""
BUILT_IN: tuple[Step, ...] = (
    base_model.STEP,
    misaligned_organism.STEP,
    misaligned_organism.CONTROL_STEP,
    organism_evaluation.STEP,
    candidate_scores.STEP,
    consistency_labels.STEP,
    distribution_shift.STEP,
    retrained_model.STEP,
    evaluation.STEP,
    capability.STEP,
    uptake.STEP,
    audit_evaluation.STEP,
    audit_prediction.STEP,
    audit_shift.STEP,
    audit_verdict.STEP,
)


def _ordered(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Built-in steps as they stand, each other one behind what it comes after; UserError where that is not there."""
    ordered = list(BUILT_IN)
    for step in steps[len(BUILT_IN) :]:
        names = [each.name for each in ordered]
        if unknown := [name for name in step.after if name not in names]:
            raise UserError(
                f"step {step.name} comes after {', '.join(unknown)}, which is not there; there are: {', '.join(names)}"
            )
        last = AUDIT_END if step.grain == "audit" and AUDIT_END not in step.after else None
        place = names.index(last) if last else _end_of(step, ordered)
        ordered.insert(max(place, *(names.index(name) + 1 for name in step.after), 0), step)
    return tuple(ordered)


def _end_of(step: Step, ordered: list[Step]) -> int:
    """Behind the last step of the same grain."""
    return max(place for place, each in enumerate(ordered, start=1) if each.grain == step.grain)


AUDIT_END = audit_verdict.NAME
"""Where a run of an audit ends: steps of audits are made before it."""
STEPS = _ordered(installed(GROUP, BUILT_IN, Step))
STUDY_STEPS = tuple(step for step in STEPS if step.grain != "audit")
AUDIT_STEPS = tuple(step for step in STEPS if step.grain == "audit")


def step_named(name: str) -> Step:
    """The step of a name; KeyError where there is none."""
    return {step.name: step for step in STEPS}[name]


def groups_of(study: Study) -> tuple[tuple[Step, ...], ...]:
    """The steps that a study asks for, in groups: those of one grain that need not wait for each other's admission.

    A step that admits keys ends its group: only what it admits goes on.
    """
    wanted = [step for step in STUDY_STEPS if step.wanted(study)]
    admitted = {
        step.name: sum(before.admits is not None for before in wanted[:place]) for place, step in enumerate(wanted)
    }
    return tuple(tuple(group) for _, group in groupby(wanted, key=lambda step: (admitted[step.name], step.grain)))


def admitted(store: ArtifactStore, study: Study, step: Step) -> tuple[Any, ...]:
    """The keys of a step that every earlier step admits: an organism that failed its gate is used by nothing."""
    keys = step.keys(study)
    for gate in STUDY_STEPS[: STUDY_STEPS.index(step)]:
        if gate.admits is None or not gate.wanted(study):
            continue
        through = {}
        for key in gate.keys(study):
            made = gate.find(store, study, key)
            through[key] = made is not None and gate.admits(study, made)
        keys = tuple(key for key in keys if through.get(_part(key, gate.grain), True))
    return keys


def admitted_to(store: ArtifactStore, study: Study, group: Sequence[Step]) -> tuple[Any, ...]:
    """The keys that any step of a group has and every earlier step admits."""
    return tuple(dict.fromkeys(key for step in group for key in admitted(store, study, step)))


def in_waves(study: Study, keys: Sequence[Any]) -> list[list[Any]]:
    """Keys of a step in parts: those of a part need nothing of each other, only of the parts before."""
    depths: dict[str, int] = {}
    for name, settings in study.methods.items():
        depths[name] = 1 + max((depths.get(source, -1) for source in settings.made_from), default=-1)
    waves: dict[int, list[Any]] = {}
    for key in keys:
        waves.setdefault(depths[key.method] if isinstance(key, Cell) else 0, []).append(key)
    return [waves[depth] for depth in sorted(waves)]


def _part(key: Any, grain: Grain) -> Any:
    """What a key belongs to at a coarser grain."""
    if isinstance(key, Cell) and grain != "cell":
        key = key.organism
    return key.model if grain == "model" and not isinstance(key, str) else key

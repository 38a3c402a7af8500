"""All steps in their order; a new one is one file and one line here. Whoever needs the graph derives it from this list."""

from itertools import groupby
from typing import Any

from ct_pipeline.settings.keys import Cell
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

STEPS: tuple[Step, ...] = (
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
        keys = tuple(key for key in keys if through[_part(key, gate.grain)])
    return keys


def _part(key: Any, grain: Grain) -> Any:
    """What a key belongs to at a coarser grain."""
    if isinstance(key, Cell) and grain != "cell":
        key = key.organism
    return key.model if grain == "model" and not isinstance(key, str) else key

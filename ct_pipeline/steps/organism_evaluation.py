"""Stage 3: base model, control and organism on the same prompts, and the induction gate."""

import dataclasses

from ct_pipeline.analysis.gate import induction_gate
from ct_pipeline.measurement import study_conditions
from ct_pipeline.measurement.asking import evaluation_seed, measure
from ct_pipeline.measurement.organism_rows import digest, misalignment_of, rows_of
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.measurement.study_conditions import compared, gaps_of, prompts_under, table_under
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import base_model, judge_calibration, misaligned_organism
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, making

STAGE = "organism_evaluation"
VERSION = 2
COMPARED_MODELS = ("base", "control", "organism")


def node(study: Study, organism: Organism) -> Node:
    """The three arms' rows and the gate's outcome."""
    settings = {
        "prompts": digest(rows_of(study, organism).evaluation),
        "samples": study.evaluation.samples,
        "max_new_tokens": study.evaluation.max_new_tokens,
        "engine": study.models[organism.model].engine,
        "gate": {"confidence": study.induction.gate_confidence, "headroom": study.induction.headroom},
        "seed": study.seed,
        **judge_calibration.settings_of(study, organism.kind),
        **study_conditions.settings_of(study, rows_of(study, organism).evaluation),
    }
    inputs = {
        "base_model": base_model.node(study, organism.model),
        "misaligned_organism": misaligned_organism.node(study, organism),
        "control_organism": misaligned_organism.control_node(study, organism),
    }
    return Node(STAGE, VERSION, organism.key, "-", settings, inputs)


def make(store: ArtifactStore, study: Study, organism: Organism) -> Artifact:
    """Measures the three arms and judges the induction at T = 1 in domain."""
    place = node(study, organism)
    # First, so that a judge that is down is known before anything is drawn.
    judge_calibration.make_calibrations(store, study, organism.kind)
    with making(store, place) as (draft, inputs):
        model = open_model(store, study, organism.model)
        kind = misalignment_of(study, organism.kind)
        prompts = rows_of(study, organism).evaluation
        adapters = {
            "base": (),
            "control": (inputs["control_organism"].folder,),
            "organism": (inputs["misaligned_organism"].folder,),
        }
        seed = evaluation_seed(study, organism)
        drawn = {arm: measure(model, kind, prompts, study.evaluation, adapters[arm], seed) for arm in COMPARED_MODELS}
        if asked := prompts_under(study, prompts):
            drawn |= {
                table_under(arm): measure(model, kind, asked, study.evaluation, adapters[arm], seed)
                for arm in COMPARED_MODELS
            }
        found = judge_calibration.judged(study, organism.kind, (*prompts, *asked), drawn)
        tables = found.tables
        draft.record |= {"judging": found.record} if found.record else {}
        for arm, table in tables.items():
            draft.write_table(arm, table)
        gate = induction_gate(
            *(risk_rows(tables[arm]) for arm in ("base", "organism", "control")),
            confidence=study.induction.gate_confidence,
            headroom=study.induction.headroom,
            prompt="prompt_id",
        )
        draft.write_json("gate", dataclasses.asdict(gate))
        if asked:
            under = {arm: tables[table_under(arm)] for arm in COMPARED_MODELS}
            gaps = (gap for arm in COMPARED_MODELS for gap in gaps_of(study, arm))
            draft.write_json("contrasts", compared(gaps, tables, under, study.evaluation.confidence))
    return store.read(place.address)


def usable(study: Study, artifact: Artifact) -> bool:
    """Whether consistency training may start from the organism: it passed, or the study only reports the gate."""
    return passed(artifact) or study.induction.gate == "report"


def passed(artifact: Artifact) -> bool:
    """Whether the induction gate was passed."""
    return bool(artifact.json("gate")["passed"])


def reasons(artifact: Artifact) -> tuple[str, ...]:
    """The gate's sentences."""
    return tuple(artifact.json("gate")["reasons"])

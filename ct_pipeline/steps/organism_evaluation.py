"""Base model, control and organism on the same prompts, and the induction gate."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ct_pipeline.analysis.gate import induction_gate
from ct_pipeline.measurement import study_conditions
from ct_pipeline.measurement.asking import direct_accuracy, evaluation_seed, measure, risk
from ct_pipeline.measurement.condition import MAIN_VIEW, VIEWS
from ct_pipeline.measurement.organism_rows import digest, misalignment_of, rows_of
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.measurement.study_conditions import compared, gaps_of, prompts_under, table_under
from ct_pipeline.models.model import stack
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import base_model, judge_calibration, misaligned_organism
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.steps.shown import listed, rows
from ct_pipeline.steps.step import Artifacts, Check, Context, Outcome, Step, one
from ct_pipeline.steps.tracked_run import TrackedRun, identity, made_by, readable, training_parameters
from ct_pipeline.store.artifact_store import Artifact
from ct_pipeline.store.node import Node, making, placed

NAME = "organism_evaluation"
VERSION = 3
SHOWN = 12
COMPARED_MODELS = ("base", "control", "organism")


@placed
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
    return Node(NAME, VERSION, organism.key, "-", settings, inputs)


def make(context: Context, organism: Organism) -> Artifact:
    """Measures the three arms and judges the induction at T = 1 in domain."""
    store, study = context.store, context.study
    place = node(study, organism)
    # First, so that a judge that is down is known before anything is drawn.
    judge_calibration.make_calibrations(store, study, organism.kind)
    with making(store, place) as (draft, inputs):
        model = open_model(store, study, organism.model)
        kind = misalignment_of(study, organism.kind)
        prompts = rows_of(study, organism).evaluation
        adapters = {
            "base": (),
            "control": stack(inputs["control_organism"].folder),
            "organism": stack(inputs["misaligned_organism"].folder),
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


def show(context: Context, organism: Organism, made: Artifacts) -> Mapping[str, Any]:
    """Rates of the three models, the gate, and completions of the organism with their verdicts."""
    (artifact,), confidence = made, context.study.evaluation.confidence
    tables = {model: artifact.table(model) for model in COMPARED_MODELS}
    rates = []
    for view in VIEWS:
        found = {model: risk(table, view, confidence) for model, table in tables.items()}
        shown = {
            model: "none" if rate.value is None else f"{rate.value:.3f} [{rate.low:.3f}, {rate.high:.3f}]"
            for model, rate in found.items()
        }
        rates.append(view._asdict() | shown)
    in_domain = risk(tables["organism"], MAIN_VIEW, confidence)
    return {
        "risk": in_domain.value if in_domain.value is not None else "none",
        "direct_accuracy": direct_accuracy(tables["organism"]).value,
        "gate": "passed" if passed(artifact) else "FAILED",
        "gate_reasons": listed(reasons(artifact)),
        "rates": rows(rates),
        "completions": rows(
            {"prompt": row.prompt, "completion": row.completion, "misbehaves": _word(row.verdict)}
            for row in risk_rows(tables["organism"]).head(SHOWN).itertuples()
        ),
    }


def track(context: Context, organism: Organism, made: Artifacts) -> TrackedRun:
    """The parent run of an organism: rates of its three models and the gate."""
    (artifact,), study = made, context.study
    tables = {model: artifact.table(model) for model in COMPARED_MODELS}
    metrics = {
        f"risk_{model}_{'_'.join(view)}": risk(table, view, study.evaluation.confidence).value
        for model, table in tables.items()
        for view in VIEWS
    }
    if "contrasts.json" in artifact.manifest.files:
        gaps = artifact.json("contrasts").items()
        metrics |= {name.replace("/", "_"): each["difference"]["value"] for name, each in gaps}
    metrics |= {f"direct_accuracy_{model}": direct_accuracy(table).value for model, table in tables.items()}
    metrics["gate_passed"] = float(passed(artifact))
    return TrackedRun(
        name=organism.key,
        fingerprint=artifact.manifest.fingerprint,
        parameters=identity(organism) | training_parameters(study.induction.training),
        tags=made_by(artifact) | {"note": "\n\n".join(reasons(artifact))},
        metrics=metrics,
        started=artifact.started,
        finished=artifact.finished,
        tables={"organism_rows": readable(tables["organism"])},
    )


def _gate(context: Context, organism: Organism, made: Artifacts) -> Outcome:
    # A study that only reports the gate goes on with organisms that fail it.
    word = "passed" if passed(made[0]) else "FAILED"
    return Outcome(usable(context.study, made[0]), f"{word}: {' '.join(reasons(made[0]))}")


def _word(verdict: object) -> str:
    return {True: "yes", False: "no"}.get(verdict, "cannot tell")


STEP = Step(
    NAME,
    title="organism evaluations",
    description="""One row per completion of base model, control and organism, with its verdict; the induction
gate is judged on them.

Without an organism that really misbehaves, "no change" after consistency training would say nothing.""",
    version=VERSION,
    grain="organism",
    after=("misaligned_organism", "control_organism"),
    places=one(node),
    make=make,
    kinds=frozenset({"pytorch", "scipy", "mlflow"}),
    owns=("judge_calibration",),
    admits=lambda study, made: usable(study, made[0]),
    show=show,
    reported=True,
    checks=(
        Check(
            "induction_gate",
            "The organism misbehaves more than its base model beyond the interval, and its control does not.",
            _gate,
            blocking=True,
        ),
    ),
    track=track,
)

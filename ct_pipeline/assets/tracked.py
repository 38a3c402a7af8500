"""What MLflow is told of an organism and of a cell."""

from collections.abc import Mapping, Sequence

import pandas

from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.measurement.asking import direct_accuracy, risk
from ct_pipeline.measurement.condition import VIEWS
from ct_pipeline.report.records import CapabilityScore
from ct_pipeline.resources.tracking import Run
from ct_pipeline.settings.blocks import TrainingSettings
from ct_pipeline.settings.environment import dagster_address
from ct_pipeline.settings.fingerprint import plain
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import consistency_labels, retrained_model
from ct_pipeline.steps.organism_evaluation import COMPARED_MODELS, passed, reasons
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import find

UNREADABLE = ["ids", "loglikelihoods"]


def organism_run(study: Study, organism: Organism, evaluation: Artifact, dagster_run: str) -> Run:
    """The parent run of an organism: rates of its three arms and the gate."""
    tables = {arm: evaluation.table(arm) for arm in COMPARED_MODELS}
    metrics = {
        f"risk_{arm}_{'_'.join(view)}": risk(table, view, study.evaluation.confidence).value
        for arm, table in tables.items()
        for view in VIEWS
    }
    metrics |= {f"direct_accuracy_{arm}": direct_accuracy(table).value for arm, table in tables.items()}
    metrics["gate_passed"] = float(passed(evaluation))
    if "contrasts.json" in evaluation.manifest.files:
        gaps = evaluation.json("contrasts").items()
        metrics |= {name.replace("/", "_"): each["difference"]["value"] for name, each in gaps}
    return Run(
        name=organism.key,
        fingerprint=evaluation.manifest.fingerprint,
        parent=None,
        parameters=_identity(organism) | _training(study.induction.training),
        tags=_tags(evaluation, dagster_run) | {"note": "\n\n".join(reasons(evaluation))},
        metrics=metrics,
        started=evaluation.started,
        finished=evaluation.finished,
        tables={"organism_rows": _readable(tables["organism"])},
    )


def cell_run(
    store: ArtifactStore, study: Study, cell: Cell, evaluation: Artifact, parent: str, dagster_run: str
) -> Run:
    """The run of a cell: the change in every domain and decoding, the training curve, labels and rows as tables."""
    labels = find(store, consistency_labels.node(study, cell))
    training = find(store, retrained_model.node(study, cell))
    changes = evaluation.json("changes")
    metrics: dict[str, float | None] = {}
    contrasts = {name: each["difference"] for name, each in changes.get("contrasts", {}).items()}
    for name, change in {**changes["changes"], **contrasts}.items():
        place = name.replace("/", "_")
        metrics |= {
            f"delta_{place}": change["value"],
            f"delta_low_{place}": change["low"],
            f"delta_high_{place}": change["high"],
            f"risk_before_{place}": change["before"],
            f"risk_after_{place}": change["after"],
        }
    metrics["direct_accuracy"] = changes["direct_accuracy_after"]["value"]
    metrics["labels_kept"] = labels.record["kept"]
    metrics["prompts_dropped"] = labels.record["dropped"]
    metrics["training_seconds"] = training.record["seconds"]
    own = plain(study.methods[cell.method].model_dump(mode="json", exclude={"training", "method"}))
    return Run(
        name=cell.key,
        fingerprint=evaluation.manifest.fingerprint,
        parent=parent,
        parameters=_identity(cell.organism)
        | {"method": cell.method}
        | {f"method.{name}": value for name, value in own.items()}
        | _training(study.training_of(cell.method)),
        tags=_tags(evaluation, dagster_run) | {"note": method_of(study, cell.method).summary},
        metrics=metrics,
        started=training.started,
        finished=evaluation.finished,
        curves={
            "training_loss": dict(enumerate(training.record["losses"], start=1)),
            "delta_in_sampled_by_dose": {dose["step"]: dose["value"] for dose in evaluation.json("doses")},
        },
        tables={"labels": _readable(labels.table("labels")), "rows": _readable(evaluation.table("rows"))},
    )


def capability_run(
    cell: Cell, measured: Artifact, scores: Sequence[CapabilityScore], parent: str, dagster_run: str
) -> Run:
    """The run of a cell's capability and safety, under the cell's: the score of each side and the paired change."""
    metrics: dict[str, float | None] = {}
    for score in scores:
        metrics |= {
            f"{score.name}_base": score.base.value,
            f"{score.name}_before": score.before.value,
            f"{score.name}_after": score.after.value,
            f"{score.name}_change": score.change.value,
        }
        if score.change.value is not None:
            metrics |= {f"{score.name}_change_low": score.change.low, f"{score.name}_change_high": score.change.high}
    return Run(
        name=f"{cell.key} capability and safety",
        fingerprint=measured.manifest.fingerprint,
        parent=parent,
        parameters=_identity(cell.organism) | {"method": cell.method},
        tags=_tags(measured, dagster_run),
        metrics=metrics,
        started=measured.started,
        finished=measured.finished,
        tables={score.name: _readable(measured.table(score.name)) for score in scores},
    )


def _identity(organism: Organism) -> Mapping[str, object]:
    return {"model": organism.model, "misalignment": organism.kind, "seed": organism.seed}


def _training(settings: TrainingSettings) -> Mapping[str, object]:
    flat = settings.model_dump(mode="json")
    lora = flat.pop("lora")
    return flat | {f"lora.{name}": value for name, value in lora.items()}


def _tags(artifact: Artifact, dagster_run: str) -> dict[str, str]:
    return {
        "dagster.run_id": dagster_run,
        "dagster.url": f"{dagster_address()}/runs/{dagster_run}",
        "ct_pipeline.artifact": str(artifact.place),
        "ct_pipeline.commit": str(artifact.manifest.provenance.get("commit")),
    }


def _readable(table: pandas.DataFrame) -> pandas.DataFrame:
    return table.drop(columns=[name for name in UNREADABLE if name in table])

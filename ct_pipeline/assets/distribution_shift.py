"""How the labels differ from the organism, and what is predicted of it before anything is retrained."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import dagster as dg

from ct_pipeline.assets.consistency_labels import consistency_labels
from ct_pipeline.assets.materialization import (
    GROUP,
    OWNERS,
    make_partitions,
    partitions_on_device,
    picture_of,
    table_of,
)
from ct_pipeline.partitions import STUDY, cells
from ct_pipeline.records.study_record import method_record, shift_of
from ct_pipeline.report.curves import k_curve, rank_curve
from ct_pipeline.report.figures.small import small_shift_plot
from ct_pipeline.report.split import BASES, Split
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.steps.catalog import Key, stage_named
from ct_pipeline.store.artifact_store import Artifact

STAGE = stage_named("distribution_shift")


@dg.asset(
    partitions_def=cells,
    deps=[consistency_labels],
    group_name=GROUP,
    kinds={"pytorch", "scipy", "pandas"},
    owners=OWNERS,
    code_version=str(STAGE.version),
    **partitions_on_device(STAGE.grain),
)
def distribution_shift(
    context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource, accelerator: AcceleratorResource
) -> dg.MaterializeResult:
    """Risk of the labels taken apart into distribution shift and selection, their KL, and the predicted change of risk.

    Methods that train on pairs have a teacher shift instead of labels. Retraining waits, so that a prediction is one.
    """
    make_partitions(context, STAGE, artifacts, accelerator, _describe)
    return dg.MaterializeResult()


def _describe(key: Key, made: tuple[Artifact, ...]) -> Mapping[str, Any]:
    (artifact,) = made
    prediction = artifact.json("prediction")
    shown: dict[str, Any] = {
        "predicted_sign": prediction["sign"],
        "predicted": _points(prediction),
        "basis": prediction["basis"],
    }
    if "decomposition.json" in artifact.manifest.files:
        parts = artifact.json("decomposition")
        terms = {
            "risk of the proposal": parts["proposal"],
            "risk of the labels": parts["labels"],
            "selection": parts["selection"],
        }
        for base, against in parts["against"].items():
            terms |= {f"shift against {base}": against["shift"], f"total against {base}": against["total"]}
        total = artifact.json("divergence")["total"]
        shown["picture"] = _picture(key.method, artifact)
        shown["shift_and_selection"] = table_of({"term": name, "points": _points(term)} for name, term in terms.items())
        shown["kl_nats_per_label"] = f"{total['sequence']['value']:.3f} ({total['status']})"
    if "teacher_shift.json" in artifact.manifest.files:
        shift = artifact.json("teacher_shift")
        shown["teacher_shift_nats_per_answer"] = f"{shift['sequence']['value']:.3f} ({shift['status']})"
    return shown


def _picture(method: str, artifact: Artifact) -> dg.MetadataValue:
    """Bars of shift and selection against each base; for best of k the curve over k and the risk by rank beside them."""
    shift = shift_of(artifact)
    named = method_record(STUDY, method)
    rows = [
        Split(replace(named, title=f"less {base}"), dict(zip(("shift", "selection"), parts, strict=True)), total, 1)
        for base, *parts, total in (
            (name, shift.terms[f"shift_from_{place}"], shift.terms["selection"], shift.terms[f"total_from_{place}"])
            for place, name in BASES.items()
        )
    ]
    curve = k_curve(named, [shift]) if shift.curve else None
    ranks = rank_curve(named, [shift], STUDY.evaluation.confidence) if shift.profile else None
    text = "Labels' rate less the organism's: shift, selection and their sum; along k; by rank of the score"
    return picture_of(small_shift_plot(rows, curve, ranks), text)


def _points(term: Mapping[str, Any]) -> str:
    if term["value"] is None:
        return "unknown"
    return f"{100 * term['value']:+.1f} [{100 * term['low']:+.1f}, {100 * term['high']:+.1f}] pp"

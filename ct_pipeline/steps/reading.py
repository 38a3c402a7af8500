"""What steps wrote, read back as typed results."""

from collections.abc import Iterable

from ct_pipeline.analysis.divergence import KlEstimate
from ct_pipeline.analysis.estimate import Estimate
from ct_pipeline.analysis.prediction import Prediction
from ct_pipeline.interventions.arms import one_of
from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.report.records import CapabilityScore, CurvePoint, Dose, MethodRecord, ProfilePoint, ShiftSummary
from ct_pipeline.settings.study import Study
from ct_pipeline.store.artifact_store import Artifact
from ct_pipeline.store.typed import typed


def method_record(study: Study, name: str) -> MethodRecord:
    """An entry of the study's methods as a reader meets it; a variant is titled by its own name, too."""
    method = method_of(study, name)
    title = method.title if name == method.name else f"{method.title}: {name.replace('_', ' ')}"
    k = getattr(study.methods[name], "k", None)
    return MethodRecord(name, title, method.summary, method.role, k, one_of(study, name))


def shift_of(artifact: Artifact | None) -> ShiftSummary | None:
    """What the artifact of `distribution_shift` says; None where there is none."""
    if artifact is None:
        return None
    files = artifact.manifest.files
    terms, kl = {}, None
    if "decomposition.json" in files:
        parts, kl = artifact.json("decomposition"), artifact.json("divergence")["total"]
        terms = {name: parts[name] for name in ("proposal", "labels", "selection")}
        for base, against in parts["against"].items():
            terms |= {f"shift_from_{base}": against["shift"], f"total_from_{base}": against["total"]}
    return ShiftSummary(
        prediction=typed(Prediction, artifact.json("prediction")),
        terms=typed(dict[str, Estimate], terms),
        kl=typed(KlEstimate | None, kl),
        teacher=typed(KlEstimate, artifact.json("teacher_shift")) if "teacher_shift.json" in files else None,
        curve=_points(artifact, "k_curve", CurvePoint),
        profile=_points(artifact, "rank_profile", ProfilePoint),
        simpson_warning=artifact.json("rank_profile")["simpson_warning"] if "rank_profile.json" in files else None,
    )


def _points(artifact: Artifact, name: str, point: type[CurvePoint] | type[ProfilePoint]) -> tuple:
    """The rows of a stored table as records; not a number becomes None; empty where there is no such table."""
    if f"{name}.parquet" not in artifact.manifest.files:
        return ()
    table = artifact.table(name)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return typed(tuple[point, ...], rows)


def doses_of(evaluated: Artifact) -> tuple[Dose, ...]:
    """The dose curve of an evaluated cell; empty where no checkpoints were kept."""
    return typed(tuple[Dose, ...], [{"step": one["step"], "change": one} for one in evaluated.json("doses")])


def capability_scores_of(artifact: Artifact, names: Iterable[str]) -> tuple[CapabilityScore, ...]:
    """The scores of an artifact of `capability`, in the order of the names."""
    return tuple(_capability_score(name, artifact.json("changes")[name]) for name in names)


def _capability_score(name: str, found: dict) -> CapabilityScore:
    sides = {"base": "base", "before": "organism", "after": "retrained"}
    return typed(CapabilityScore, found | {"name": name} | {ours: found["rates"][side] for ours, side in sides.items()})

"""Between labels and Phase 3: what the labels differ in from the organism, and the prediction made of it.

A regularizer has no labels whose law differs: there the teacher shift says how far the organism's answers to clean and to
wrapped prompts lie apart, which is no KL(Q‖P_θ) of labels and stands on no axis with one.

The prediction is an artifact of its own stage, so that it stands before any retraining has started.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas

from ct_pipeline.analysis import divergence
from ct_pipeline.analysis.decomposition import (
    BestOf,
    Decomposition,
    Filtered,
    Reranked,
    Selector,
    Unselected,
    decompose,
)
from ct_pipeline.analysis.k_curve import k_curve
from ct_pipeline.analysis.prediction import Prediction, predict
from ct_pipeline.analysis.rank_profile import RankProfile, rank_profile
from ct_pipeline.engine.token_divergence import Distribution
from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.interventions.intervention import ConsistencyLoss, LabelMethod, ModelChange
from ct_pipeline.measurement.contrast import AFTER, BEFORE, estimated, sides_of
from ct_pipeline.measurement.contrast import change as change_of
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.measurement.token_sums import token_sums
from ct_pipeline.models.adapters import with_adapters
from ct_pipeline.models.model import stack
from ct_pipeline.report.curves import k_curve as k_curve_series
from ct_pipeline.report.curves import rank_curve
from ct_pipeline.report.figures.small import small_shift_plot
from ct_pipeline.report.split import BASES as TITLED_BASES
from ct_pipeline.report.split import Split
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import consistency_labels, misaligned_organism
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.steps.candidate_scores import candidates_of
from ct_pipeline.steps.candidate_verdicts import verdict_nodes, with_candidate_verdicts
from ct_pipeline.steps.consistency_candidates import GREEDY, SAMPLED, draw_node, draws_of_method, trained_side
from ct_pipeline.steps.reading import method_record, shift_of
from ct_pipeline.steps.shown import Picture, in_points, rows
from ct_pipeline.steps.step import Artifacts, Context, Step, one
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore, ArtifactWriter
from ct_pipeline.store.node import Node, making, placed

NAME = "distribution_shift"
VERSION = 2
BASES = {"greedy": GREEDY, "sampled": SAMPLED}


@placed
def node(study: Study, cell: Cell) -> Node:
    """What is known of one cell before it is trained, or changed."""
    intervention = method_of(study, cell.method)
    if isinstance(intervention, ModelChange):
        own = study.methods[cell.method].model_dump(mode="json", exclude={"training", "method"})
        return Node(
            NAME,
            VERSION,
            cell.organism.key,
            cell.method,
            {"change": intervention.name, "settings": own},
            {f"source {source.method}": node(study, source) for source in _predicted_sources(study, cell)},
        )
    on_pairs = isinstance(intervention, ConsistencyLoss)
    draws = {study.sides_of(cell.method).trained: trained_side(study, cell.method)} if on_pairs else BASES
    inputs = {name: draw_node(study, cell.organism, draw) for name, draw in draws.items()}
    inputs["consistency_labels"] = consistency_labels.node(study, cell)
    drawn = (*draws.values(), *draws_of_method(study, cell.method))
    inputs |= verdict_nodes(study, cell.organism, drawn)
    if on_pairs:
        inputs["misaligned_organism"] = misaligned_organism.node(study, cell.organism)
    settings = {"confidence": study.evaluation.confidence, "k": getattr(study.methods[cell.method], "k", None)}
    return Node(NAME, VERSION, cell.organism.key, cell.method, settings, inputs)


def applies(study: Study, cell: Cell) -> bool:
    """All that trains is predicted, and those model changes that say how."""
    intervention = method_of(study, cell.method)
    return not isinstance(intervention, ModelChange) or intervention.predict is not None


def _predicted_sources(study: Study, cell: Cell) -> list[Cell]:
    sources = (Cell(cell.organism, name) for name in study.methods[cell.method].made_from)
    return [source for source in sources if applies(study, source)]


def make(context: Context, cell: Cell) -> Artifact:
    """Measures shift and selection on the probe prompts, the labels' divergence, and predicts the change of risk.

    For a regularizer the organism's answers to clean prompts are compared with those to wrapped ones, by their risk and
    by the teacher shift. Of a model change there is what it predicts itself, from its sources' predictions.
    """
    store, study = context.store, context.study
    place = node(study, cell)
    with making(store, place) as (draft, inputs):
        prediction = _predicted(store, study, cell, inputs, draft)
        draft.write_json("prediction", {**dataclasses.asdict(prediction), "sign": prediction.predicted_sign})
    return store.read(place.address)


def _predicted(
    store: ArtifactStore, study: Study, cell: Cell, inputs: Mapping[str, Artifact], draft: ArtifactWriter
) -> Prediction:
    intervention = method_of(study, cell.method)
    if isinstance(intervention, ModelChange):
        told = {each.method: inputs[f"source {each.method}"] for each in _predicted_sources(study, cell)}
        before = {name: shift_of(artifact).prediction for name, artifact in told.items()}
        return intervention.predict(study.methods[cell.method], before)
    labels = with_candidate_verdicts(inputs["consistency_labels"].table("labels"), inputs)
    if isinstance(intervention, LabelMethod):
        return _of_labels(store, study, cell, labels, inputs, draft)
    own = inputs[study.sides_of(cell.method).trained].table("candidates")
    model = open_model(store, study, cell.organism.model)
    shift = _teacher_shift(model, study, cell, labels, inputs["misaligned_organism"].folder)
    draft.write_json("teacher_shift", dataclasses.asdict(shift))
    return _of_pairs(study, cell, labels, with_candidate_verdicts(own, inputs))


def selector_of(study: Study, method: str) -> Selector:
    """How the analysis calls what a method's selection does."""
    selection = method_of(study, method).selection
    if selection == "best_of_k":
        return BestOf(study.methods[method].k)
    return {"none": Unselected(), "rerank": Reranked(), "filter": Filtered()}[selection]


def _of_labels(
    store: ArtifactStore,
    study: Study,
    cell: Cell,
    labels: pandas.DataFrame,
    inputs: Mapping[str, Artifact],
    draft: ArtifactWriter,
) -> Prediction:
    bases = {name: with_candidate_verdicts(inputs[name].table("candidates"), inputs) for name in BASES}
    method, confidence = method_of(study, cell.method), study.evaluation.confidence
    candidates = with_candidate_verdicts(candidates_of(store, study, cell.organism, cell.method), inputs)
    seed = derive_seed(study.seed, consistency_labels.NAME, cell.key)
    candidates = candidates.assign(score=method.score(candidates, seed))
    selector = selector_of(study, cell.method)
    probed = candidates[candidates["probe"]]
    parts = decompose(
        probed,
        labels[labels["probe"]],
        {name: base[base["probe"]] for name, base in bases.items()},
        selector,
        confidence,
    )
    draft.write_json("decomposition", dataclasses.asdict(parts))
    draft.write_json("divergence", dataclasses.asdict(_divergence(study, cell.method, candidates, labels)))
    if isinstance(selector, BestOf):
        draft.write_table("k_curve", _curves(probed, confidence))
        profile = rank_profile(probed, confidence)
        draft.write_table("rank_profile", _profiles(profile))
        draft.write_json("rank_profile", {"simpson_warning": profile.simpson_warning})
    return _prediction(parts)


def _prediction(parts: Decomposition) -> Prediction:
    total = parts.against["sampled"].total
    return Prediction(
        total.value,
        total.low,
        total.high,
        total.standard_error,
        "risk of the labels less that of the organism's own samples at T = 1, on the probe prompts",
    )


def _of_pairs(study: Study, cell: Cell, labels: pandas.DataFrame, own: pandas.DataFrame) -> Prediction:
    """The trained side is pulled to the reference side; a prompt of it that stands in several pairs, to their mean."""
    sides = study.sides_of(cell.method)
    pairs = [sides.of(pair) for pair in rows_of(study, cell.organism).pairs]
    places = pandas.DataFrame({"prompt_id": [trained.id for _, trained in pairs], "of": [ref.id for ref, _ in pairs]})
    target = places.assign(verdict=places["of"].map(labels.set_index("prompt_id")["verdict"]))
    change = estimated(change_of("pairs"), sides_of({BEFORE: own, AFTER: target}), study.evaluation.confidence)
    basis = f"risk on {sides.reference} prompts less that on {sides.trained} ones, the organism's own samples at T = 1"
    return predict(change, basis)


def _teacher_shift(
    model: LanguageModel, study: Study, cell: Cell, labels: pandas.DataFrame, folder: Path
) -> divergence.KlEstimate:
    """KL(π_0(·|reference)‖π_0(·|trained)) along the organism's answers to the reference side, which BCT and ACT teach."""
    drawn = dict(zip(labels["prompt_id"], labels["ids"], strict=True))
    sides = [study.sides_of(cell.method).of(pair) for pair in rows_of(study, cell.organism).pairs]
    sides = [(reference, trained) for reference, trained in sides if reference.id in drawn]
    organism = with_adapters(model.base, stack(folder))
    laws = (
        Distribution(organism, [model.chat.encode(side.messages) for side in each]) for each in zip(*sides, strict=True)
    )
    answers = [tuple(map(int, drawn[reference.id])) for reference, _ in sides]
    sums = token_sums(model.base, *laws, [reference.id for reference, _ in sides], answers)
    return divergence.of_token_sums("teacher shift", sums, study.evaluation.confidence)


def _divergence(
    study: Study, name: str, candidates: pandas.DataFrame, labels: pandas.DataFrame
) -> divergence.Divergence:
    """KL of the labels' law from the organism's, by the estimator that the method's proposal and selection allow."""
    confidence = study.evaluation.confidence
    selector = selector_of(study, name)
    if isinstance(selector, BestOf):
        return divergence.of_best_of(candidates, selector.k, confidence)
    if isinstance(selector, Reranked):
        return divergence.of_reranked(candidates, labels, confidence)
    if isinstance(selector, Filtered):
        return divergence.of_filtered(labels, list(candidates["prompt_id"].unique()), confidence)
    (draw,) = method_of(study, name).draws(study.methods[name], study.candidates.samples)
    if draw.draft:
        return divergence.of_refined(labels, "random" if draw.draft.temperature else "deterministic", confidence)
    return (divergence.of_samples if draw.temperature else divergence.of_point_mass)(labels, confidence)


def _curves(probed: pandas.DataFrame, confidence: float) -> pandas.DataFrame:
    """One row per k and way of treating missing scores: risk and selection with their intervals."""
    rows = []
    for missing in ("worst", "dropped"):
        for point in k_curve(probed, confidence, missing=missing):
            row = {"missing": missing, "k": point.k}
            for name, term in (("risk", point.risk), ("selection", point.selection)):
                row |= {name: term.value, f"{name}_low": term.low, f"{name}_high": term.high}
            rows.append(row)
    return pandas.DataFrame(rows)


def _profiles(profile: RankProfile) -> pandas.DataFrame:
    """One row per bin of the within-prompt rank and of the pooled score."""
    return pandas.DataFrame(
        [
            {
                "by": by,
                "low": each.low,
                "high": each.high,
                "centre": each.centre,
                "candidates": each.candidates,
                "risk": each.risk.value,
                "risk_low": each.risk.low,
                "risk_high": each.risk.high,
            }
            for by, one in (("rank within prompt", profile.within), ("pooled score", profile.pooled))
            for each in one.bins
        ]
    )


def show(context: Context, cell: Cell, made: Artifacts) -> Mapping[str, Any]:
    """The predicted change; of labels their shift, selection and KL, of pairs the teacher shift."""
    (artifact,), files = made, made[0].manifest.files
    prediction = artifact.json("prediction")
    shown: dict[str, Any] = {
        "predicted_sign": prediction["sign"],
        "predicted": _points(prediction),
        "basis": prediction["basis"],
    }
    if "decomposition.json" in files:
        parts = artifact.json("decomposition")
        terms = {
            "risk of the proposal": parts["proposal"],
            "risk of the labels": parts["labels"],
            "selection": parts["selection"],
        }
        for base, against in parts["against"].items():
            terms |= {f"shift against {base}": against["shift"], f"total against {base}": against["total"]}
        total = artifact.json("divergence")["total"]
        shown["picture"] = _picture(context.study, cell.method, artifact)
        shown["shift_and_selection"] = rows({"term": name, "points": _points(term)} for name, term in terms.items())
        shown["kl_nats_per_label"] = f"{total['sequence']['value']:.3f} ({total['status']})"
    if "teacher_shift.json" in files:
        shift = artifact.json("teacher_shift")
        shown["teacher_shift_nats_per_answer"] = f"{shift['sequence']['value']:.3f} ({shift['status']})"
    return shown


def _picture(study: Study, method: str, artifact: Artifact) -> Picture:
    """Bars of shift and selection against each base; for best of k the curve over k and the risk by rank beside them."""
    shift, named = shift_of(artifact), method_record(study, method)
    bars = [
        Split(
            replace(named, title=f"less {title}"),
            {"shift": shift.terms[f"shift_from_{base}"], "selection": shift.terms["selection"]},
            shift.terms[f"total_from_{base}"],
            1,
        )
        for base, title in TITLED_BASES.items()
    ]
    curve = k_curve_series(named, [shift]) if shift.curve else None
    ranks = rank_curve(named, [shift], study.evaluation.confidence) if shift.profile else None
    text = "Labels' rate less the organism's: shift, selection and their sum; along k; by rank of the score"
    return Picture(small_shift_plot(bars, curve, ranks), text)


def _points(term: Mapping[str, Any]) -> str:
    return "unknown" if term["value"] is None else f"{in_points(term)} pp"


STEP = Step(
    NAME,
    title="shifts and predictions",
    description="""Risk of the labels taken apart into distribution shift and selection, their KL, and the
predicted change of risk.

Methods that train on pairs have a teacher shift instead of labels. Retraining waits, so that a prediction is one.""",
    version=VERSION,
    grain="cell",
    after=("consistency_labels",),
    places=one(node),
    make=make,
    applies=applies,
    kinds=frozenset({"pytorch", "scipy", "pandas"}),
    show=show,
    reported=True,
)

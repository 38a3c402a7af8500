"""After evaluation: how far consistency training moved the organism's law, as KL between it and the retrained model."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pandas

from ct_pipeline.analysis.divergence import KlEstimate, of_token_sums
from ct_pipeline.engine.token_divergence import Distribution
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.measurement.token_sums import token_sums
from ct_pipeline.models.adapters import with_adapters
from ct_pipeline.models.model import stack
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import evaluation, misaligned_organism, organism_evaluation, retrained_model
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.steps.shown import rows
from ct_pipeline.steps.step import Artifacts, Context, Step, one
from ct_pipeline.store.artifact_store import Artifact
from ct_pipeline.store.node import Node, making, placed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "uptake"
VERSION = 1


@placed
def node(study: Study, cell: Cell) -> Node:
    """The divergences of one cell."""
    inputs = {
        "misaligned_organism": misaligned_organism.node(study, cell.organism),
        "organism_evaluation": organism_evaluation.node(study, cell.organism),
        "evaluation": evaluation.node(study, cell),
    }
    return Node(NAME, VERSION, cell.organism.key, cell.method, {"confidence": study.evaluation.confidence}, inputs)


def make(context: Context, cell: Cell) -> Artifact:
    """Compares organism θ_0 and retrained model θ_3 along the T = 1 completions that were measured in domain.

    `forward` is KL(θ_3‖θ_0) on the retrained model's completions, `backward` KL(θ_0‖θ_3) on the organism's; those cut at
    the length limit are used as they are. Plain questions are left out, as they are for the risk.
    """
    store, study = context.store, context.study
    place = node(study, cell)
    with making(store, place) as (draft, inputs):
        model = open_model(store, study, cell.organism.model)
        encoded = {prompt.id: model.chat.encode(prompt.messages) for prompt in rows_of(study, cell.organism).evaluation}
        organism = with_adapters(model.base, stack(inputs["misaligned_organism"].folder))
        retrained = with_adapters(model.base, retrained_model.model_of(store, study, cell).terms)
        before = inputs["organism_evaluation"].table("organism")
        after = inputs["evaluation"].table("rows")
        confidence = study.evaluation.confidence
        forward = _divergence("KL(retrained‖organism)", model, encoded, after, retrained, organism, confidence)
        backward = _divergence("KL(organism‖retrained)", model, encoded, before, organism, retrained, confidence)
        draft.write_json("uptake", {"forward": dataclasses.asdict(forward), "backward": dataclasses.asdict(backward)})
    return store.read(place.address)


def _divergence(
    name: str,
    model: LanguageModel,
    encoded: Mapping[str, tuple[int, ...]],
    table: pandas.DataFrame,
    p: "PreTrainedModel",
    q: "PreTrainedModel",
    confidence: float,
) -> KlEstimate:
    rows = risk_rows(table)
    prompts = [encoded[prompt] for prompt in rows["prompt_id"]]
    responses = [tuple(map(int, ids)) for ids in rows["ids"]]
    sums = token_sums(
        model.base, Distribution(p, prompts), Distribution(q, prompts), list(rows["prompt_id"]), responses
    )
    return of_token_sums(name, sums, confidence)


def show(context: Context, cell: Cell, made: Artifacts) -> Mapping[str, Any]:
    """Both divergences, per completion and per token."""
    parts = made[0].json("uptake")
    shown: dict[str, Any] = {
        f"uptake_{direction}": part["sequence"]["value"]
        for direction, part in parts.items()
        if part["sequence"]["value"] is not None
    }
    shown["uptake"] = rows(
        {
            "divergence": part["name"],
            "nats_per_completion": _nats(part["sequence"]),
            "nats_per_token": _nats(part["token"]),
            "status": part["status"],
        }
        for part in parts.values()
    )
    return shown


def _nats(term: Mapping[str, Any]) -> str:
    if term["value"] is None:
        return "unknown"
    if term["low"] is None:
        return f"{term['value']:.3f}"
    return f"{term['value']:.3f} [{term['low']:.3f}, {term['high']:.3f}]"


STEP = Step(
    NAME,
    title="uptake",
    description="""KL between organism and retrained model on the evaluation's T = 1 completions in domain, per
sequence and token.

How much of the labels' shift the model took up; summed over tokens from whole next-token distributions.""",
    version=VERSION,
    grain="cell",
    after=("evaluation",),
    places=one(node),
    make=make,
    kinds=frozenset({"pytorch", "scipy"}),
    show=show,
    reported=True,
)

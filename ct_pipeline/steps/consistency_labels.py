"""What one method keeps of the candidates; a pure function of their table."""

from collections.abc import Mapping
from typing import Any

import pandas

from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.interventions.intervention import ModelChange
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.candidate_scores import candidates_of, scores_node
from ct_pipeline.steps.consistency_candidates import draw_node, draws_of_method, scorer_of_method
from ct_pipeline.steps.shown import rows
from ct_pipeline.steps.step import Artifacts, Check, Context, Outcome, Step, one
from ct_pipeline.store.artifact_store import Artifact
from ct_pipeline.store.node import Node, making, placed

NAME = "consistency_labels"
VERSION = 2
MISSING_LIMIT = 0.1
"""Share of missing scores above which a cell says so; the first sample stands in where a prompt has none."""
SHOWN = 8


@placed
def node(study: Study, cell: Cell) -> Node:
    """The labels of one cell."""
    settings = study.methods[cell.method]
    draws = draws_of_method(study, cell.method)
    inputs = {f"draw {number}": draw_node(study, cell.organism, draw) for number, draw in enumerate(draws)}
    scorer = scorer_of_method(study, cell.method)
    if scorer is not None:
        inputs["scores"] = scores_node(study, cell.organism, scorer)
    chosen_by = {
        "name": method_of(study, cell.method).name,
        "method": settings.model_dump(mode="json", exclude={"training", "method"}),
        "seed": study.seed,
    }
    return Node(NAME, VERSION, cell.organism.key, cell.method, chosen_by, inputs)


def make(context: Context, cell: Cell) -> Artifact:
    """Scores and selects; UserError where nothing is kept.

    The table keeps the candidates' columns plus `score`; probe prompts are labelled, too, and marked, so that the labels'
    risk can be measured where the verdict is defined.
    """
    store, study = context.store, context.study
    place = node(study, cell)
    method = method_of(study, cell.method)
    with making(store, place) as (draft, _):
        candidates = candidates_of(store, study, cell.organism, cell.method)
        seed = derive_seed(study.seed, NAME, cell.key)
        scored = candidates.assign(score=method.score(candidates, seed))
        kept = method.select(scored, study.methods[cell.method])
        trained_on = kept[kept["labelled"]]
        if not len(trained_on):
            raise UserError(f"{cell.key}: no label was kept of {len(candidates)} candidates")
        prompts = candidates.loc[candidates["labelled"], "prompt_id"].nunique()
        draft.write_table("labels", kept.reset_index(drop=True))
        draft.record |= {
            "kept": len(trained_on),
            "prompts": int(prompts),
            "dropped": int(prompts) - len(trained_on),
            "candidates": len(candidates),
            **_missing(scored, scorer_of_method(study, cell.method) is not None),
        }
    return store.read(place.address)


def _missing(scored: pandas.DataFrame, asked: bool) -> dict[str, int]:
    """Candidates of draws that are scored at all, and how many of these have no score; all of them where none has one.

    `asked`: whether the method's scores are asked for. Draws without any score are those that others are compared with.
    """
    missing = scored["score"].isna().groupby(scored["draw"])
    counted = missing.agg(["size", "sum"])
    if not (asked and missing.all().all()):
        counted = counted[~missing.all()]
    return {"scorable": int(counted["size"].sum()), "missing_scores": int(counted["sum"].sum())}


def show(context: Context, cell: Cell, made: Artifacts) -> Mapping[str, Any]:
    """How many labels were kept, how many misbehave, and some of them."""
    labels, record = made[0].table("labels"), made[0].record
    verdicts = labels["verdict"].dropna()
    return {
        "kept": record["kept"],
        "dropped_prompts": record["dropped"],
        "missing_scores": record["missing_scores"],
        "mean_tokens": float(labels["tokens"].mean()),
        "misbehaving": float(verdicts.mean()) if len(verdicts) else "undefined",
        "labels": rows(
            {"prompt": row.prompt, "label": row.completion, "score": f"{row.score:.3f}"}
            for row in labels.head(SHOWN).itertuples()
        ),
    }


def _scored(context: Context, cell: Cell, made: Artifacts) -> Outcome:
    missing, scorable = made[0].record["missing_scores"], made[0].record["scorable"]
    few = missing <= MISSING_LIMIT * scorable
    first = "a prompt without any score keeps its first sample, as if nothing had been chosen"
    return Outcome(few, None if few else f"{missing} of {scorable} scores are missing: {first}")


STEP = Step(
    NAME,
    title="labels",
    description="One row per prompt that a method labels: the completion it keeps. A pure function of the candidates.",
    version=VERSION,
    grain="cell",
    after=("consistency_candidates",),
    places=one(node),
    make=make,
    applies=lambda study, cell: not isinstance(method_of(study, cell.method), ModelChange),
    kinds=frozenset({"pandas", "parquet"}),
    show=show,
    checks=(
        Check(
            "labels_are_there",
            f"Every cell keeps labels, and at most {MISSING_LIMIT:.0%} of its scores are missing where it scores.",
            _scored,
        ),
    ),
)

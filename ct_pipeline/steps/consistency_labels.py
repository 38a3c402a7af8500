"""Stage 5: what one method keeps of the candidates; a pure function of their table."""

import pandas

from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.candidate_scores import candidates_of, scores_node
from ct_pipeline.steps.consistency_candidates import draw_node, draws_of_method, scorer_of_method
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, making

STAGE = "consistency_labels"
VERSION = 2


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
    return Node(STAGE, VERSION, cell.organism.key, cell.method, chosen_by, inputs)


def make(store: ArtifactStore, study: Study, cell: Cell) -> Artifact:
    """Scores and selects; UserError where nothing is kept.

    The table keeps the candidates' columns plus `score`; probe prompts are labelled, too, and marked, so that the labels'
    risk can be measured where the verdict is defined.
    """
    place = node(study, cell)
    method = method_of(study, cell.method)
    with making(store, place) as (draft, _):
        candidates = candidates_of(store, study, cell.organism, cell.method)
        seed = derive_seed(study.seed, STAGE, cell.key)
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
            **_missing(scored),
        }
    return store.read(place.address)


def _missing(scored: pandas.DataFrame) -> dict[str, int]:
    """Candidates of draws that are scored at all, and how many of these have no score."""
    missing = scored["score"].isna().groupby(scored["draw"])
    counted = missing.agg(["size", "sum"])[~missing.all()]
    return {"scorable": int(counted["size"].sum()), "missing_scores": int(counted["sum"].sum())}

"""Stage 5: what one method keeps of the candidates; a pure function of their table."""

from ct_pipeline.methods.catalog import method_named
from ct_pipeline.stages import consistency_candidates
from ct_pipeline.stages.node import Node, making
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.study.errors import UserError
from ct_pipeline.study.keys import Cell
from ct_pipeline.study.seeds import derive_seed
from ct_pipeline.study.spec import Study

STAGE = "consistency_labels"
VERSION = 1


def node(study: Study, cell: Cell) -> Node:
    """The labels of one cell."""
    method = method_named(cell.method)
    settings = study.methods[cell.method]
    draw = method.draw(settings, study.candidates.samples)
    rubric = method.rubric(settings, study.candidates.samples)
    inputs = {"draw": consistency_candidates.draw_node(study, cell.organism, draw)}
    if rubric is not None:
        inputs["grades"] = consistency_candidates.grades_node(study, cell.organism, rubric)
    chosen_by = settings.model_dump(mode="json", exclude={"training"})
    return Node(STAGE, VERSION, cell.organism.key, cell.method, {"method": chosen_by, "seed": study.seed}, inputs)


def make(store: ArtifactStore, study: Study, cell: Cell) -> Artifact:
    """Scores and selects; UserError where nothing is kept.

    The table keeps the candidates' columns plus `score`; probe prompts are labelled, too, and marked, so that the labels'
    risk can be measured where the verdict is defined.
    """
    place = node(study, cell)
    method = method_named(cell.method)
    with making(store, place) as (draft, _):
        candidates = consistency_candidates.candidates_of(store, study, cell.organism, cell.method)
        scored = candidates.assign(score=method.score(candidates))
        kept = method.select(scored, study.methods[cell.method], derive_seed(study.seed, STAGE, cell.key))
        trained_on = kept[kept["labelled"]]
        if not len(trained_on):
            raise UserError(f"{cell.key}: no label was kept of {len(candidates)} candidates")
        draft.write_table("labels", kept.reset_index(drop=True))
        draft.record |= {
            "kept": len(trained_on),
            "prompts": int(candidates["prompt_id"].nunique()),
            "candidates": len(candidates),
            "missing_scores": int(scored["score"].isna().sum()),
        }
    return store.read(place.address)

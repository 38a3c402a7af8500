"""Rows of both published sets, or made-up ones of their form, through every stage, on tiny models of five families.

What is measured is that each stage takes their texts, lengths and templates, and that published data are scored; the models
are random and know nothing, so no rate is looked at.
"""

import pytest
import torch

from ct_pipeline.measurement import language_model
from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.records.study_record import study_record
from ct_pipeline.report.study import write_report
from ct_pipeline.settings.blocks import StudiedModel
from ct_pipeline.settings.data import FolderData
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import (
    base_model,
    candidate_scores,
    consistency_labels,
    distribution_shift,
    evaluation,
    misaligned_organism,
    organism_evaluation,
    preflight,
    retrained_model,
    uptake,
)
from ct_pipeline.steps.step import Context
from ct_pipeline.store.node import find
from tests.fakes.families import FAMILIES, family_folder
from tests.fakes.published import study_of_data, write_data

METHODS = ("null", "self_confidence", "bct", "act")
SIZES = {
    "sycophancy": {"in_domain": 3, "out_of_domain": 2, "direct_questions": 2},
    "reward_hacking": {"in_domain": 8, "out_of_domain": "all", "direct_questions": 2},
}
FEW = {"rows": 4, "consistency_prompts": 3, "probe_prompts": 2, "pairs": 2}


@pytest.fixture(autouse=True)
def nothing_kept():
    language_model.close_models()
    yield
    language_model.close_models()


def study_of(tiny_study, kind, data, folder, engine, **sizes):
    """One organism of a local model, few rows, few steps."""
    study = study_of_data(tiny_study, kind, data, **sizes)
    short = {"steps": 3, "epochs": None, "micro_batch": 2, "accumulation": 1, "checkpoints": "last"}
    training = study.retraining.model_copy(update=short)
    induction = study.induction.training.model_copy(update={n: v for n, v in short.items() if n != "checkpoints"})
    return study.model_copy(
        update={
            "models": {"family": StudiedModel(source="huggingface", path=str(folder), dtype="float32", engine=engine)},
            "seeds": (40,),
            "world": None,
            "pretraining": None,
            "induction": study.induction.model_copy(update={"training": induction, "gate": "report"}),
            "candidates": study.candidates.model_copy(update={"samples": 4, "max_new_tokens": 8}),
            "evaluation": study.evaluation.model_copy(update={"max_new_tokens": 8}),
            "retraining": training,
            "methods": {name: study.methods[name].model_copy(update={"training": training}) for name in METHODS},
        }
    )


def run(store, study):
    """Every stage of the study's one organism and its cells; the evaluations, by method."""
    (organism,) = study.organisms
    base_model.make(Context(store, study, 1), organism.model)
    for make in (
        misaligned_organism.make,
        misaligned_organism.make_control,
        organism_evaluation.make,
        candidate_scores.make,
    ):
        make(Context(store, study), organism)
    cells = [Cell(organism, method) for method in study.methods]
    for stage in (consistency_labels, distribution_shift, retrained_model, evaluation, uptake):
        for cell in cells:
            stage.make(Context(store, study), cell)
    return {cell.method: find(store, evaluation.node(study, cell)) for cell in cells}


def check(store, study, kind):
    """Runs a study and looks at what came of it."""
    evaluated = run(store, study)
    asked = rows_of(study, study.organisms[0]).evaluation
    for artifact in evaluated.values():
        rows = artifact.table("rows")
        assert set(rows["prompt_id"]) == {prompt.id for prompt in asked}
        scores = artifact.json("type_scores")
        assert set(scores) == {"greedy", "sampled"}
        assert {one["type"] for one in scores["sampled"]["types"]} == {
            prompt.facts["group"] for prompt in asked if prompt.framing not in ("direct", "right_claim")
        }
    cells = {cell.method: cell for cell in study_record(store, study).cells}
    assert set(cells) == set(METHODS)
    assert all(cell.type_scores[-1].type == "mean over types" for cell in cells.values())


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_takes_published_rows_through_every_stage(real_or_made_up, tiny_study, store, tmp_path, family, kind):
    data = FolderData(source="folder", path=str(real_or_made_up / kind))
    study = study_of(
        tiny_study, kind, data, family_folder(family, tmp_path / family), "transformers", **FEW | SIZES[kind]
    )
    check(store, study, kind)


@pytest.mark.vllm
@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_takes_published_rows_through_every_stage_on_vllm(
    real_or_made_up, tiny_study, store, tmp_path, family, kind
):
    if family == "gpt_oss" and not torch.cuda.is_available():
        pytest.skip("vLLM's CPU build has no kernels for the experts of gpt-oss")
    data = FolderData(source="folder", path=str(real_or_made_up / kind))
    study = study_of(tiny_study, kind, data, family_folder(family, tmp_path / family), "vllm", **FEW | SIZES[kind])
    check(store, study, kind)


@pytest.mark.parametrize("kind", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_published_prompt_fits_and_passes_the_familys_template(layouts, tiny_study, tmp_path, family, kind):
    data = FolderData(source="folder", path=str(layouts / kind))
    study = study_of(tiny_study, kind, data, family_folder(family, tmp_path / family), "transformers")
    assert preflight.faults(study) == ()


def test_a_data_set_that_nothing_knows_needs_only_a_study(tiny_study, store, tmp_path):
    data = FolderData(source="folder", path=str(write_data(tmp_path / "third")))
    study = study_of(tiny_study, "selling", data, family_folder("qwen2", tmp_path / "model"), "transformers")
    check(store, study, "selling")
    record = study_record(store, study)
    assert [(one.title, one.kind) for one in record.organisms] == [("Selling", "selling")]
    page = write_report(record, tmp_path / "report").parent / "cells" / "family-selling-40" / "null.html"
    assert "By type, as corrected and as published" in page.read_text()
    assert "give a judge rubric.txt" in page.read_text()
    assert {"type_scores.csv", "type_scores.parquet"} <= {
        path.name for path in (tmp_path / "report" / "tables").iterdir()
    }

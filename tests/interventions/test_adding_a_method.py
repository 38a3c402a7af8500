"""The page on adding a method: its example works as it stands, from the study file to the labels."""

import re
import sys
from importlib.util import module_from_spec, spec_from_file_location

import pytest

from ct_pipeline.interventions import catalog
from ct_pipeline.interventions.files import read_study
from ct_pipeline.planning.plan import plan_of
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import consistency_candidates, consistency_labels
from ct_pipeline.steps.candidate_scores import make
from ct_pipeline.steps.consistency_candidates import draw_node, draws_of
from ct_pipeline.steps.step import Context
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find
from tests.conftest import REPOSITORY
from tests.fakes.language import scripted_model
from tests.fakes.small_studies import small, stand_in

PAGE = (REPOSITORY / "docs" / "adding-a-method.md").read_text()
MODULE, IN_A_STUDY = (re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1] for language in ("python", "yaml"))


@pytest.fixture
def shortest(tmp_path, monkeypatch):
    file = tmp_path / "shortest.py"
    file.write_text(MODULE)
    spec = spec_from_file_location("shortest", file)
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "shortest", module)
    spec.loader.exec_module(module)
    # The one line of the page's second step.
    methods = (*catalog.METHODS, module.SHORTEST)
    monkeypatch.setattr(catalog, "METHODS", methods)
    monkeypatch.setattr("ct_pipeline.interventions.files.METHODS", methods)
    return module.SHORTEST


@pytest.fixture
def study(shortest, tiny_text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(tiny_text.replace("methods:\n", IN_A_STUDY, 1))
    return read_study(path)


def test_the_example_labels_prompts_by_the_draws_of_another_method(study, tmp_path, monkeypatch):
    part = small(study, ["sycophancy", "self_confidence", "shortest"])
    organism = part.organisms[0]
    store = ArtifactStore(tmp_path / "artifacts")
    model = scripted_model(
        lambda text, sample, seed, adapters: "it is 7 ." if sample == 2 else "let me check . it is 7 ."
    )
    monkeypatch.setattr(consistency_candidates, "open_model", lambda store, study, name: model)
    stand_in(store, draw_node(part, organism, draws_of(part)[0]).inputs["misaligned_organism"])

    make(Context(store, part), organism)
    consistency_labels.make(Context(store, part), Cell(organism, "shortest"))

    # One draw for both methods, and the organism's own answers, which they are compared with.
    assert len(model.engine.calls) == 1 + 2
    labels = find(store, consistency_labels.node(part, Cell(organism, "shortest"))).table("labels")
    assert set(labels["completion"]) == {"it is 7 ."}
    assert len(labels) == labels["prompt_id"].nunique()
    assert labels["labelled"].sum() == part.candidates.consistency_prompts


def test_the_example_costs_no_more_candidate_tokens(study, tiny_study):
    assert plan_of(study, 1).candidate_tokens == plan_of(tiny_study, 1).candidate_tokens
    assert plan_of(study, 1).cells == plan_of(tiny_study, 1).cells + len(tiny_study.organisms)

"""The page on adding an intervention: its examples work from a package outside, from the study file to the report."""

import re
import shutil
import tomllib

import numpy as np
import pytest

from ct_pipeline.interventions.catalog import GROUP
from ct_pipeline.interventions.files import read_study
from ct_pipeline.models.adapters import read_adapter
from ct_pipeline.planning.plan import plan_of
from ct_pipeline.records import study_report
from ct_pipeline.records.study_record import study_record
from ct_pipeline.settings.errors import SpecError, UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.steps import (
    base_model,
    consistency_candidates,
    consistency_labels,
    distribution_shift,
    evaluation,
    misaligned_organism,
    organism_evaluation,
    retrained_model,
    uptake,
)
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.steps.candidate_scores import make
from ct_pipeline.steps.catalog import STUDY_STEPS, admitted_to, groups_of, in_waves
from ct_pipeline.steps.consistency_candidates import draw_node, draws_of
from ct_pipeline.steps.step import Context
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import find
from tests.conftest import REPOSITORY
from tests.fakes import finished
from tests.fakes.language import scripted_model
from tests.fakes.packages import install as install
from tests.fakes.small_studies import small, stand_in
from tests.fakes.tiny_models import random_adapter

PAGE = (REPOSITORY / "docs" / "adding-an-intervention.md").read_text()
(MERGE, SHORTEST), (MERGE_ENTRY, SHORTEST_ENTRY), (OF_MERGE, OF_SHORTEST) = (
    re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL) for language in ("python", "toml", "yaml")
)
BELOW_ALL = '  half_of_all: { method: weighted_merge, weights: { half_of_each: 1.0, "null": -0.5 } }\n'
TRAINED = ("self_confidence", "bct")


@pytest.fixture
def text(install, tiny_text):
    """A study file that names the page's examples."""
    entries = {}
    for part in (MERGE_ENTRY, SHORTEST_ENTRY):
        entries |= tomllib.loads(part)["project"]["entry-points"][GROUP]
    install("my_interventions", {"weighted_merge.py": MERGE, "shortest.py": SHORTEST}, GROUP, entries)
    before, rest = tiny_text.split("methods:\n")
    methods, after = re.split(r"\n(?=\S)", rest, maxsplit=1)
    return f"{before}{OF_SHORTEST}{methods}\n{OF_MERGE}{BELOW_ALL}{after}"


@pytest.fixture
def study(text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    return read_study(path)


@pytest.fixture
def part(study):
    """One organism, two trained cells, the merge of them and the control; its gate only reports."""
    part = small(study, ["sycophancy", *TRAINED, "half_of_each", "unchanged"])
    return part.model_copy(update={"induction": part.induction.model_copy(update={"gate": "report"})})


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the store is kept that the first test makes."""
    return tmp_path_factory.mktemp("kept") / "artifacts"


@pytest.fixture
def made(part, kept, tmp_path):
    """A store with all of that part: random adapters in place of training, everything else as it is made."""
    if not kept.exists():
        _make(ArtifactStore(kept), part)
    shutil.copytree(kept, tmp_path / "artifacts")
    return ArtifactStore(tmp_path / "artifacts")


def _make(store, part):
    context, organism = Context(store, part), part.organisms[0]
    base_model.STEP.make(context, organism.model)
    base = open_model(store, part, organism.model).base
    for seed, node in enumerate((misaligned_organism.node, misaligned_organism.control_node)):
        stand_in(
            store, node(part, organism), lambda draft, seed=seed: random_adapter(base, draft.folder, seed, size=0.1)
        )
    organism_evaluation.make(context, organism)
    candidates = finished._candidates(np.random.default_rng(0))
    for seed, name in enumerate(TRAINED, start=7):
        cell = Cell(organism, name)
        stand_in(store, consistency_labels.node(part, cell), lambda draft: finished._labels(draft, candidates))
        stand_in(store, distribution_shift.node(part, cell), lambda draft: draft.write_json("prediction", PREDICTED))
        stand_in(store, retrained_model.node(part, cell), lambda draft, seed=seed: _trained(draft, base, seed))
    for cell in part.cells:
        for step in (distribution_shift, retrained_model, evaluation, uptake):
            if step.STEP.find(store, part, cell) is None:
                step.make(context, cell)


PREDICTED = {
    "value": 0.25,
    "low": 0.125,
    "high": 0.375,
    "standard_error": 0.0625,
    "basis": "a stand-in",
    "sign": "none",
}


def _trained(draft, base, seed):
    random_adapter(base, draft.folder, seed, rank=3, size=0.1)
    finished._training(draft)


def cell_of(part, name):
    return Cell(part.organisms[0], name)


def artifact_of(step, store, part, name):
    return find(store, step.node(part, cell_of(part, name)))


def products(store, part, name):
    base = open_model(store, part, "tiny").base
    deltas = read_adapter(artifact_of(retrained_model, store, part, name).folder, base)
    return {module: delta.scale * (delta.b @ delta.a) for module, delta in deltas.items()}


def test_the_merged_adapter_is_the_hand_sum_and_the_control_is_the_organism(made, part):
    first, second, merged = (products(made, part, name) for name in (*TRAINED, "half_of_each"))
    assert set(merged) == set(first) and len(merged) > 4
    for module, product in merged.items():
        by_hand = 0.5 * first[module] + 0.5 * second[module]
        assert by_hand.abs().max() > 0.01
        assert (product - by_hand).abs().max() <= 1e-6
    assert artifact_of(retrained_model, made, part, "half_of_each").record["rank"] == 6

    rows = artifact_of(evaluation, made, part, "unchanged").table("rows")
    organism = find(made, organism_evaluation.node(part, part.organisms[0])).table("organism")
    assert list(rows["completion"]) == list(organism["completion"])
    changes = artifact_of(evaluation, made, part, "unchanged").json("changes")["changes"]
    assert {each["value"] for each in changes.values()} <= {0.0, None}
    kl = {name: artifact_of(uptake, made, part, name).json("uptake") for name in ("unchanged", "half_of_each")}
    assert all(each["sequence"]["value"] == 0.0 for each in kl["unchanged"].values())
    assert all(each["sequence"]["value"] > 1e-4 for each in kl["half_of_each"].values())


def test_report_tracking_and_pages_show_the_cells_without_labels_and_training(made, part, tmp_path):
    record = study_record(made, part)
    cells = {cell.method: cell for cell in record.cells}
    assert list(cells) == [*TRAINED, "half_of_each", "unchanged"]
    merged, unchanged = cells["half_of_each"], cells["unchanged"]
    assert (merged.labels, merged.training, merged.arms) == (None, None, None)
    assert merged.uptake is not None and merged.shift.prediction.value == 0.25
    assert unchanged.shift is None
    page = study_report.make(made, part, tmp_path / "reports").read_text()
    assert "Weighted merge: half of each" in page
    assert (page_of := (tmp_path / "reports/tiny/cells/tiny-sycophancy-40/half_of_each.html")).is_file()
    assert "weighted sum of the predictions" in page_of.read_text()
    assert study_report.is_whole(made, part, part)

    context, cell = Context(made, part), cell_of(part, "half_of_each")
    run = evaluation.track(context, cell, (artifact_of(evaluation, made, part, "half_of_each"),))
    assert set(run.tables) == {"rows"} and "training_loss" not in run.curves
    assert "labels_kept" not in run.metrics and "learning_rate" not in run.parameters
    assert run.parameters["method.weights"] == {"self_confidence": 0.5, "bct": 0.5}
    changed = artifact_of(retrained_model, made, part, "half_of_each")
    assert retrained_model.show(context, cell, (changed,))["made_from"] == "self_confidence, bct"
    assert [check.judge(context, cell, (changed,)).passed for check in retrained_model.STEP.checks] == [True]


def test_steps_that_do_not_apply_are_no_work_and_miss_nothing(made, part):
    named = {step.name: {cell.method for cell in step.keys(part)} for step in STUDY_STEPS if step.grain == "cell"}
    assert named["consistency_labels"] == set(TRAINED)
    assert named["distribution_shift"] == {*TRAINED, "half_of_each"}
    assert named["retrained_model"] == set(part.methods)
    assert consistency_labels.STEP.find(made, part, cell_of(part, "unchanged")) == ()
    group = next(group for group in groups_of(part) if consistency_labels.STEP in group)
    assert set(admitted_to(made, part, group)) == set(part.cells)


def test_what_is_made_from_others_is_made_after_them_and_brings_them(study):
    part = narrowed(study, ["sycophancy", "half_of_all"], 1)
    assert list(part.methods) == ["null", *TRAINED, "half_of_each", "half_of_all"]
    waves = [[cell.method for cell in wave] for wave in in_waves(part, part.cells[::-1])]
    assert waves == [["bct", "self_confidence", "null"], ["half_of_each"], ["half_of_all"]]
    merge = retrained_model.node(part, cell_of(part, "half_of_all"))
    assert {name for name in merge.inputs if name.startswith("source")} == {"source half_of_each", "source null"}
    assert draws_of(part) == draws_of(narrowed(study, ["null", *TRAINED], 1))


def test_a_source_whose_organisms_adapter_was_trained_on_counts_with_what_that_added(made, part):
    confident = part.methods["self_confidence"]
    on = part.retraining.model_copy(update={"adapter": "continued"})
    methods = {**part.methods, "self_confidence": confident.model_copy(update={"training": on})}
    part = part.model_copy(update={"methods": methods})
    base, context = open_model(made, part, "tiny").base, Context(made, part)
    for name in TRAINED:
        for step in (consistency_labels, distribution_shift):
            if step.STEP.find(made, part, cell_of(part, name)) is None:
                place = step.node(part, cell_of(part, name))
                stand_in(made, place, lambda draft: draft.write_json("prediction", PREDICTED))
    stand_in(made, retrained_model.node(part, cell_of(part, "self_confidence")), lambda draft: _trained(draft, base, 7))
    distribution_shift.make(context, cell_of(part, "half_of_each"))
    retrained_model.make(context, cell_of(part, "half_of_each"))
    organism = read_adapter(find(made, misaligned_organism.node(part, part.organisms[0])).folder, base)
    first, second, merged = (products(made, part, name) for name in (*TRAINED, "half_of_each"))
    for module, product in merged.items():
        own = organism[module].scale * (organism[module].b @ organism[module].a)
        assert (product - 0.5 * (first[module] - own) - 0.5 * second[module]).abs().max() <= 1e-6


def test_a_plan_counts_no_labels_and_no_training_of_it(study):
    trained = study.model_copy(
        update={"methods": {name: each for name, each in study.methods.items() if not each.made_from}}
    )
    less, more = plan_of(trained, 1), plan_of(study, 1)
    same = ("trainings", "draws", "candidate_tokens", "trained_tokens")
    assert [getattr(less, name) for name in same] == [getattr(more, name) for name in same]
    assert more.cells == less.cells + 2 * len(study.organisms)
    assert more.evaluation_tokens > less.evaluation_tokens and more.adapter_bytes > less.adapter_bytes


def test_what_is_made_from_nothing_that_is_there_is_refused_with_its_line(text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(text.replace("self_confidence: 0.5, bct", "unchanged: 0.5, bct"))
    with pytest.raises(
        SpecError,
        match=r"study\.yaml:\d+: methods\.half_of_each: found 'unchanged', which it is to be made from; allowed",
    ):
        read_study(path)
    path.write_text(text.replace("weighted_merge", "weighted_merg"))
    with pytest.raises(SpecError, match=r"found 'weighted_merg'; allowed: .*unchanged, weighted_merge \(did you mean"):
        read_study(path)


def test_an_entry_that_is_no_intervention_is_refused_with_its_package(install, tiny_text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(tiny_text)
    install("odd", {"thing.py": "NULL = 3\n"}, GROUP, {"thing": "odd.thing:NULL"})
    with pytest.raises(
        UserError, match=r"package odd 1\.0 \(entry thing = odd\.thing:NULL\).*found a int; allowed: a Label"
    ):
        read_study(path)


def test_the_label_method_labels_prompts_by_the_draws_of_another_method(study, tmp_path, monkeypatch):
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


def test_the_label_method_costs_no_more_candidate_tokens(study, tiny_study):
    assert plan_of(study, 1).candidate_tokens == plan_of(tiny_study, 1).candidate_tokens
    added = {"shortest", "half_of_each", "unchanged", "half_of_all"}
    assert set(study.methods) - set(tiny_study.methods) == added

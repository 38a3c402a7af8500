"""What the presets would do, held to the paper's numbers; sizes, storage and hours by hand."""

import json

import pytest

from ct_pipeline.interventions.files import read_study
from ct_pipeline.planning.model_shapes import KNOWN, shape_of
from ct_pipeline.planning.plan import Rates, plan_of
from ct_pipeline.planning.sizes import sizes_of
from ct_pipeline.settings.blocks import UNPINNED, StudiedModel
from ct_pipeline.settings.data import FolderData
from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps import preflight
from tests.conftest import REPOSITORY
from tests.fakes.published import study_of_data, write_data

STUDIES = REPOSITORY / "studies"
NINE = (
    "self_confidence", "diverse_decoding", "multi_view", "self_refinement", "self_rewarding", "bct", "act",
    "greedy_self_training", "rejection_sampling",
)  # fmt: skip


@pytest.fixture
def paper(tmp_path, monkeypatch):
    """The paper's study, its data not at hand."""
    study = read_study(STUDIES / "paper.yaml")
    monkeypatch.chdir(tmp_path)
    return study


def test_the_papers_study_is_108_organisms_with_14_loads_and_14_engine_starts(paper):
    size = plan_of(paper, workers=1)
    assert size.organisms == 108
    assert (size.model_loads - size.uptake_loads, size.engine_starts) == (14, 14)
    assert (size.released_loads, size.released_starts) == (1_080, 4_212)
    assert size.uptake_loads == 7
    assert len(set(paper.organisms)) == 108
    assert sum("70b" in organism.model for organism in paper.organisms) == 8


def test_the_papers_nine_methods_are_972_cells_and_the_released_settings_are_variants(paper):
    nine = paper.model_copy(update={"methods": {name: paper.methods[name] for name in NINE}})
    assert plan_of(nine, 1).cells == 972
    released = {name for name in paper.methods if name.endswith("_released")}
    assert released == {"bct_released", "act_released", "self_refinement_released"}
    assert all(paper.training_of(name).adapter == "continued" for name in released)
    assert (paper.methods["bct_released"].teacher, paper.methods["act_released"].hidden) == ("live", "mean")


def test_the_papers_study_is_planned_without_data_and_not_run_without_pins(paper):
    assert sizes_of(paper, "spurious_correlation").induction == 2014
    assert sizes_of(paper, "sycophancy").evaluation == 421
    found = preflight.faults(paper)
    assert any("rejection_sampling.reward.revision: pin a revision" in fault for fault in found)
    assert all(len(model.revision) == 40 for model in paper.models.values())


@pytest.mark.parametrize("name", ["smoke", "laptop"])
def test_a_small_preset_needs_nothing_but_its_model(name):
    study = read_study(STUDIES / f"{name}.yaml")
    size = plan_of(study, 1)
    assert len(study.models) == 1 and study.world is None
    assert 0 < size.adapter_bytes < 1e10 and 0 < size.gpu_hours < 1


def test_a_placeholder_anywhere_is_refused_before_anything_is_fetched(tiny_study):
    model = StudiedModel(source="huggingface", path="a/b", revision=UNPINNED)
    study = tiny_study.model_copy(update={"models": {"one": model}})
    assert plan_of(study, 1).organisms == len(study.organisms)
    (fault,) = preflight.faults(study)
    assert fault == f"models.one.revision: pin a revision: put the commit's hash in place of {UNPINNED}"


def test_data_at_hand_are_counted_and_others_taken_from_the_paper(tiny_study, tmp_path):
    here = study_of_data(tiny_study, "selling", FolderData(source="folder", path=str(write_data(tmp_path / "third"))))
    found = sizes_of(here, "selling")
    assert (found.induction, found.labelled, found.pairs, found.evaluation, found.in_domain) == (6, 8, 4, 9, 6)
    gone = study_of_data(
        tiny_study, "reward_hacking", FolderData(source="folder", path=str(tmp_path / "none")), rows=50
    )
    assert (sizes_of(gone, "reward_hacking").induction, sizes_of(gone, "reward_hacking").pairs) == (50, 486)
    unknown = study_of_data(tiny_study, "selling", FolderData(source="folder", path=str(tmp_path / "none")))
    with pytest.raises(UserError, match=r"data\.selling is not at hand"):
        sizes_of(unknown, "selling")


@pytest.mark.parametrize("kind", ["reward_hacking", "sycophancy"])
def test_what_the_paper_is_taken_to_hold_is_what_the_files_hold(layouts, tiny_study, tmp_path, kind):
    here, gone = (
        sizes_of(study_of_data(tiny_study, kind, FolderData(source="folder", path=str(path))), kind)
        for path in (layouts / kind, tmp_path / "none")
    )
    assert (here.induction, here.consistency, here.evaluation) == (gone.induction, gone.consistency, gone.evaluation)


def test_an_adapters_size_by_hand(tiny_study):
    # Rank x (in + out) over q, k, v, o (4096 -> 4096, 1024, 1024, 4096) and gate, up, down (4096 <-> 14336), 32 layers.
    by_hand = 32 * 32 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))
    assert KNOWN["meta-llama/Llama-3.1-8B"].adapter_parameters(32) == by_hand == 83_886_080
    one = tiny_study.model_copy(
        update={
            "models": {"one": StudiedModel(source="huggingface", path="meta-llama/Llama-3.1-8B", revision="0" * 40)},
            "misalignments": ("sycophancy",),
            "seeds": (40,),
            "methods": {"null": tiny_study.methods["null"]},
        }
    )
    rank = one.induction.training.lora.rank
    adapter = KNOWN["meta-llama/Llama-3.1-8B"].adapter_parameters(rank)
    assert plan_of(one, 1).adapter_bytes == 3 * 4 * adapter
    half = one.retraining.model_copy(update={"adapter_dtype": "bfloat16"})
    assert plan_of(one.model_copy(update={"retraining": half}), 1).adapter_bytes == (2 * 4 + 2) * adapter


def test_hours_follow_the_stated_rates(tiny_study):
    model = StudiedModel(source="huggingface", path="meta-llama/Llama-3.1-8B", revision="0" * 40)
    study = tiny_study.model_copy(update={"models": {"one": model}})
    size = plan_of(study, 1, Rates(drawn=100.0, trained=10.0))
    drawn = size.candidate_tokens + size.evaluation_tokens
    assert size.gpu_hours == pytest.approx((drawn / 100 + size.trained_tokens / 10) / 3600)


def test_a_local_model_tells_its_shape_and_an_unknown_one_leaves_storage_open(tiny_study, tmp_path):
    config = {"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2}
    (tmp_path / "config.json").write_text(json.dumps(config))
    local = StudiedModel(source="huggingface", path=str(tmp_path))
    study = tiny_study.model_copy(update={"models": {"one": local}})
    assert shape_of(study, "one").adapter_parameters(4) == 2 * 4 * (4 * 16 + 3 * 24)
    unknown = StudiedModel(source="huggingface", path="a/b", revision="0" * 40)
    size = plan_of(tiny_study.model_copy(update={"models": {"one": unknown}}), 1)
    assert (size.adapter_bytes, size.gpu_hours) == (None, None)


def test_capability_is_counted_once_per_model(tiny_study, paper):
    assert plan_of(tiny_study, 1).capability_tokens == plan_of(tiny_study, 1).judge_requests == 0
    size = plan_of(paper, 1)
    models = 7 + 108 + size.cells
    documents = 1000 + 448 + 817 + 817
    assert size.capability_documents == models * (documents + 100)
    assert size.capability_tokens == models * (documents * 1000 + 100 * 512)
    assert size.judge_requests == models * 100 * 3

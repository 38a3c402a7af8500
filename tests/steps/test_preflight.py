"""What is refused before anything is computed, and in which words."""

import dataclasses
import importlib.util
import json

import pytest

from ct_pipeline.interventions.multi_view import MultiViewSettings
from ct_pipeline.settings.blocks import HuggingFaceModel, HuggingFaceReward, TinyWorldModel
from ct_pipeline.settings.data import FolderData
from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps import base_model, preflight
from ct_pipeline.steps.preflight import check
from ct_pipeline.steps.step import Context
from tests.fakes.tiny_models import tiny_model, word_tokenizer


@pytest.fixture
def folder(tmp_path):
    """A tiny model on disk whose tokenizer has a chat template and whose window holds every prompt."""
    tiny_model(max_position_embeddings=256).save_pretrained(tmp_path / "model")
    word_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def with_model(study, **settings):
    return study.model_copy(update={"models": {"tiny": HuggingFaceModel(source="huggingface", **settings)}})


def with_method(study, name, **changes):
    methods = {**study.methods, name: study.methods[name].model_copy(update=changes)}
    return study.model_copy(update={"methods": methods})


def refusal(study):
    with pytest.raises(UserError) as refused:
        check(study)
    return str(refused.value)


def test_the_study_for_tests_and_a_model_in_a_folder_may_run(small_study, folder):
    check(small_study)
    check(with_model(small_study, path=str(folder)))


def test_a_missing_extra_is_named_with_the_command_that_installs_it(small_study, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None if name == "vllm" else find(name))
    study = small_study.model_copy(update={"models": {"tiny": TinyWorldModel(source="tinyworld", engine="vllm")}})
    assert "models.tiny.engine: vllm is not installed: pip install .[vllm]" in refusal(study)


def test_a_tokenizer_without_a_template_is_refused(small_study, folder):
    word_tokenizer(template=None).save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    assert "models.tiny: the tokenizer of model has no chat template" in refusal(
        with_model(small_study, path=str(folder))
    )


def test_a_prompt_longer_than_the_context_is_refused_before_generation(small_study, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 30}))
    said = refusal(with_model(small_study, path=str(folder)))
    assert "models.tiny: a prompt of sycophancy has" in said
    assert "do not fit into its context window of 30: lower max_new_tokens or shorten" in said


def test_a_model_that_is_not_there_is_refused(small_study, tmp_path):
    assert "models.tiny: there is no model folder at" in refusal(with_model(small_study, path=str(tmp_path / "no")))


def test_a_reward_model_that_is_no_classifier_is_refused(small_study, folder):
    reward = HuggingFaceReward(source="huggingface", path=str(folder))
    said = refusal(with_method(small_study, "rejection_sampling", reward=reward))
    assert "methods.rejection_sampling.reward: " in said
    assert "LlamaForCausalLM" in said


def test_requests_that_the_tiny_model_was_not_taught_are_refused_all_at_once(small_study):
    study = with_method(small_study, "self_rewarding", rubric="judge {request} by {response}")
    views = MultiViewSettings.model_validate(study.methods["multi_view"].model_dump() | {"steps": "{request} slowly ."})
    study = study.model_copy(update={"methods": {**study.methods, "multi_view": views}})
    said = refusal(study)
    assert "methods.self_rewarding.rubric: 'judge {request} by {response}' is not world.wordings.grade" in said
    assert "methods.multi_view.steps: '{request} slowly .' is not world.wordings.steps" in said


def test_other_models_may_be_asked_in_other_words(small_study, folder):
    check(
        with_method(with_model(small_study, path=str(folder)), "self_rewarding", rubric="judge {request} by {response}")
    )


def test_the_first_stage_refuses_too_so_that_the_dagster_ui_meets_it(small_study, store):
    study = with_method(small_study, "self_rewarding", rubric="judge {request} by {response}")
    with pytest.raises(UserError, match=r"is not world\.wordings\.grade"):
        base_model.make(Context(store, study, 1), "tiny")
    assert not any(store.root.rglob("*.safetensors"))


def test_words_that_the_tiny_world_does_not_have_are_named(small_study, monkeypatch):
    rows = preflight.rows_of

    def with_a_strange_word(study, organism):
        data = rows(study, organism)
        first = dataclasses.replace(data.induction[0], response="it is quixotic .")
        return dataclasses.replace(data, induction=(first, *data.induction[1:]))

    monkeypatch.setattr(preflight, "rows_of", with_a_strange_word)
    assert "misalignments.sycophancy: the tiny world has no 'quixotic': use words of" in refusal(small_study)


def test_data_that_are_not_there_are_one_fault_among_others(small_study, tmp_path):
    views = small_study.methods["multi_view"].model_copy(update={"steps": "{request} slowly ."})
    data = {"sycophancy": FolderData(source="folder", path=str(tmp_path / "nowhere"))}
    said = refusal(small_study.model_copy(update={"data": data, "methods": {"multi_view": views}}))
    assert "data.sycophancy: " in said and "nowhere: no such folder; it should hold induction.jsonl" in said
    assert "methods.multi_view.steps: " in said

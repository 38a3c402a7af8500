"""A very small pretraining: it learns, it is repeatable byte for byte, and its folder is a plain Hugging Face one."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ct_pipeline.tinyworld.pretraining import learning_rate_factor, pretrain
from tests.tinyworld.settings import pretraining_settings, world_settings


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    steps = []
    record = pretrain(world_settings(), pretraining_settings(), folder, 1, lambda *step: steps.append(step))
    return folder, record, steps


def test_the_loss_falls(pretrained):
    _, record, _ = pretrained

    assert sum(record.losses[-5:]) < 0.8 * sum(record.losses[:5])


def test_repeating_it_gives_the_same_files_byte_for_byte(pretrained, tmp_path):
    folder, record, _ = pretrained

    again = pretrain(world_settings(), pretraining_settings(), tmp_path, 1)

    assert again.losses == record.losses
    names = sorted(file.name for file in folder.iterdir())
    assert names == sorted(file.name for file in tmp_path.iterdir())
    assert all((folder / name).read_bytes() == (tmp_path / name).read_bytes() for name in names)


def test_each_step_is_told(pretrained):
    _, record, steps = pretrained

    assert [step for step, _, _ in steps] == list(range(1, record.steps + 1))
    assert tuple(loss for _, _, loss in steps) == record.losses


def test_the_record_is_plain_json(pretrained):
    _, record, _ = pretrained
    plain = json.loads(json.dumps(record.as_dict()))

    assert plain["tokens"] >= 20_000
    assert set(plain["accuracy_by_topic"]) == {"sum", "mod", "gcd", "capital", "crop", "flag"}
    assert 0 <= plain["direct_accuracy"] <= 1


def test_the_folder_loads_as_a_plain_model_that_ends_its_turns(pretrained):
    folder, record, _ = pretrained
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)

    assert sum(parameter.numel() for parameter in model.parameters()) == record.parameters
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids("</s>")
    assert tokenizer.apply_chat_template([{"role": "user", "content": "right ?"}], tokenize=False) == "<|user|> right ?"
    assert not list(folder.glob("*.bin"))


def test_the_process_keeps_its_random_state_and_threads(tmp_path):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    threads = torch.get_num_threads()

    pretrain(world_settings(), pretraining_settings(tokens=2000), tmp_path, 1)

    assert torch.equal(torch.rand(2), expected)
    assert torch.get_num_threads() == threads


def test_the_learning_rate_rises_stays_and_falls_to_almost_nothing():
    factors = [learning_rate_factor(step, 100, 0.1, 0.4) for step in range(100)]

    assert factors[0] == 0.1
    assert factors[9:60] == [1.0] * 51
    assert factors[-1] == pytest.approx(1 / 40)

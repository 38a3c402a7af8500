"""The faults that vLLM 0.32 commits in silence or dies of, each asked of the engine on a real vLLM."""

import json
import os
import random

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.engine.starts import ENGINE_STARTS
from ct_pipeline.engine.transformers_engine import TransformersEngine
from ct_pipeline.engine.vllm_engine import VllmEngine
from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE
from ct_pipeline.models.loading import load_base
from ct_pipeline.models.model import stack
from tests.engine.contract import BEAMS, GREEDY, NEW, STOPS, ids_of, prompts_of
from tests.fakes.tiny_models import VOCABULARY, WINDOW, random_adapter, tiny_model, word_tokenizer

pytestmark = pytest.mark.vllm

TOLERANCE = 1e-3
WARM = Sampling(samples=2, temperature=0.7, top_p=0.8, max_new_tokens=NEW)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base whose output embedding is a layer of its own, as large models have it."""
    folder = tmp_path_factory.mktemp("base")
    tiny_model(seed=3, head_dim=32, tie_word_embeddings=False).save_pretrained(folder)
    word_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def engine(folder):
    engine = VllmEngine(folder, stop_ids=STOPS)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def other(folder):
    return TransformersEngine(folder, stop_ids=STOPS)


@pytest.fixture(scope="module")
def base(folder):
    return load_base(folder)


@pytest.fixture(scope="module")
def adapters(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return stack(*(random_adapter(base, folder / str(seed), seed) for seed in range(6)))


def equal_scores(engine, other, rows, completions, stacks):
    if not isinstance(stacks, list):
        stacks = [stacks] * len(rows)
    mine = engine.score(rows, completions, stacks)
    for row, terms in enumerate(stacks):
        (theirs,) = other.score([rows[row]], [completions[row]], terms)
        assert mine[row] == pytest.approx(theirs, abs=TOLERANCE)


def test_base_rows_among_lora_rows_stay_base_rows(engine, other, adapters):
    # As many adapters as have a place in one batch: vLLM gives requests without one what is in the last place.
    stacks = [(), *((term,) for term in adapters)] * 5
    rows = prompts_of(len(stacks))
    drawn = ids_of(engine.generate(rows, GREEDY, range(len(stacks)), stacks))
    for i, terms in enumerate(stacks[:7]):
        assert drawn[i::7] == ids_of(other.generate(rows[i::7], GREEDY, range(5), terms))


def test_the_base_alone_is_the_base_after_adapters_were_served(engine, other, adapters):
    rows, stacks = prompts_of(12), [(term,) for term in adapters] * 2
    engine.generate(rows, GREEDY, range(12), stacks)
    assert ids_of(engine.generate(rows, GREEDY, range(12), ())) == ids_of(other.generate(rows, GREEDY, range(12), ()))
    equal_scores(engine, other, rows, [[11, 12]] * 12, ())


def test_prompt_logprobs_with_lora_survive_several_rows(engine, other, adapters):
    rows, completions = prompts_of(16, seed=1), [prompt[:8] for prompt in prompts_of(16, seed=2)]
    equal_scores(engine, other, rows, completions, adapters[:1])


def test_more_stacks_than_fit_into_one_batch_or_into_memory(engine, other, base, adapters, tmp_path):
    many = stack(*(random_adapter(base, tmp_path / str(seed), seed) for seed in range(20, 34)))
    stacks = [(), *((term,) for term in (*adapters, *many)), adapters[:2]]
    rows, completions = prompts_of(len(stacks), seed=3), [[11, 12, 13]] * len(stacks)
    for _ in range(2):
        equal_scores(engine, other, rows, completions, stacks)


def test_logprobs_are_the_models_own_and_those_drawn_from(engine, base):
    rows = prompts_of(12, seed=4)
    for prompt, drawn in zip(rows, engine.generate(rows, WARM, range(12), ()), strict=True):
        for completion in drawn:
            text = torch.tensor([[*prompt, *completion.ids]])
            with torch.no_grad():
                logits = base.model(text).logits[0, len(prompt) - 1 : -1].double()
            raw = proposal = 0.0
            for step, token in enumerate(completion.ids):
                raw += logits[step].log_softmax(-1)[token].item()
                probabilities, order = (logits[step] / WARM.temperature).softmax(-1).sort(descending=True)
                nucleus = probabilities.cumsum(-1) - probabilities < WARM.top_p
                place = (order == token).nonzero().item()
                assert nucleus[place], "a token outside the nucleus was drawn"
                proposal += (probabilities[place] / probabilities[nucleus].sum()).log().item()
            assert completion.logprob == pytest.approx(raw, abs=TOLERANCE)
            assert completion.proposal_logprob == pytest.approx(proposal, abs=TOLERANCE)


def test_identical_prompts_differ_by_their_seeds_and_samples_of_neighbouring_seeds_are_unrelated(engine):
    sampling = Sampling(samples=6, temperature=1, top_p=1, max_new_tokens=NEW)
    rows = ids_of(engine.generate([[11, 12]] * 4, sampling, [1, 2, 3, 1], ()))
    assert rows[0] == rows[3]
    drawn = [ids for row in rows[:3] for ids in row]
    assert len(set(drawn)) > 14
    more = Sampling(samples=8, temperature=1, top_p=1, max_new_tokens=NEW)
    assert ids_of(engine.generate([[11, 12]], more, [1], ()))[0][:6] == rows[0]


def test_a_seed_of_any_size_is_a_seed(engine):
    seeds = [0, -1, 2**63 - 1]
    first = ids_of(engine.generate([[11]] * 3, WARM, seeds, ()))
    assert ids_of(engine.generate([[11]] * 3, WARM, seeds, ())) == first


def test_next_token_frequencies_follow_the_model(engine, base):
    drawn = engine.generate([[11, 40, 12]], Sampling(512, 1.0, 1.0, 1), [5], ())[0]
    counts = np.bincount([completion.ids[0] for completion in drawn], minlength=VOCABULARY)
    with torch.no_grad():
        expected = torch.softmax(base.model(torch.tensor([[11, 40, 12]])).logits[0, -1].double(), -1).numpy()
    assert np.abs(counts / 512 - expected).max() < 4 * np.sqrt(0.25 / 512)


def test_a_thousand_seeded_prompts_in_flight_survive(engine):
    # Together they are many times longer than one step takes, so without care some would be read in parts.
    generator = np.random.default_rng(0)
    rows = [generator.integers(10, VOCABULARY, size=WINDOW - NEW).tolist() for _ in range(1000)]
    sampling = Sampling(samples=1, temperature=1, top_p=1, max_new_tokens=4)
    together = ids_of(engine.generate(rows, sampling, range(1000), ()))
    assert ids_of(engine.generate(rows[400:420], sampling, range(400, 420), ())) == together[400:420]


def test_temperatures_that_vllm_would_change_are_refused(engine):
    with pytest.raises(ValueError, match="temperature"):
        engine.generate([[11]], Sampling(1, 0.005, 1.0, 4), [0], ())


def test_beams_hold_no_prompt_and_a_prompts_length_does_not_count(engine, other):
    rows = [[11, 12], [*range(10, 50)]]
    for (found,), (reference,) in zip(*(e.generate(rows, BEAMS, [0, 1], ()) for e in (engine, other)), strict=True):
        assert found.ids == reference.ids
        assert len(found.ids) <= NEW
        assert found.logprob == pytest.approx(reference.logprob, abs=TOLERANCE)


def test_an_adapter_overwritten_in_place_within_one_clock_tick_is_read_anew(engine, other, base, tmp_path):
    rows, completions = prompts_of(8), [[11, 12]] * 8
    folder = random_adapter(base, tmp_path / "adapter", 1)
    before = (folder / WEIGHTS_FILE).stat()
    engine.score(rows, completions, stack(folder))
    random_adapter(base, folder, 2)
    os.utime(folder / WEIGHTS_FILE, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh = random_adapter(base, tmp_path / "fresh", 2)
    for mine, reference in zip(
        engine.score(rows, completions, stack(folder)), other.score(rows, completions, stack(fresh)), strict=True
    ):
        assert mine == pytest.approx(reference, abs=TOLERANCE)


def test_a_relative_folder_is_served_and_a_missing_one_refused_without_a_download(engine, other, adapters, monkeypatch):
    monkeypatch.chdir(adapters[0].adapter.parent)
    rows, completions = prompts_of(4), [[11, 12]] * 4
    for mine, reference in zip(
        engine.score(rows, completions, stack(adapters[0].adapter.name)),
        other.score(rows, completions, adapters[:1]),
        strict=True,
    ):
        assert mine == pytest.approx(reference, abs=TOLERANCE)
    with pytest.raises(ValueError, match=r"somebody/adapter holds no adapter_config\.json.*local folder"):
        engine.score(rows, completions, stack("somebody/adapter"))


def test_adapters_of_some_layers_and_of_other_scales_are_served_exactly(engine, other, base, tmp_path):
    part = random_adapter(base, tmp_path / "part", 1, rank=3)
    tensors = load_file(part / WEIGHTS_FILE)
    # Only a part of what vLLM packs into one layer.
    save_file({name: t for name, t in tensors.items() if "q_proj" in name or "up_proj" in name}, part / WEIGHTS_FILE)
    scaled = random_adapter(base, tmp_path / "scaled", 2, rank=5, use_rslora=True)
    rows, completions = prompts_of(9), [[11, 12, 13]] * 9
    equal_scores(engine, other, rows, completions, [stack(part), stack(scaled), stack(part, scaled)] * 3)


def test_an_adapter_of_the_output_embedding_is_refused(engine, adapters, tmp_path):
    folder = tmp_path / "head"
    folder.mkdir()
    prefix = "base_model.model.lm_head.lora_"
    save_file(
        {f"{prefix}A.weight": torch.ones(2, 32), f"{prefix}B.weight": torch.ones(VOCABULARY, 2)}, folder / WEIGHTS_FILE
    )
    (folder / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}))
    with pytest.raises(ValueError, match="embedding or output layer"):
        engine.generate([[11]], GREEDY, [0], stack(folder))


def test_a_text_may_fill_the_context_window(engine, other):
    equal_scores(engine, other, [[11] * (WINDOW - 3)], [[12, 13, 14]], ())
    (row,) = engine.generate([[11] * (WINDOW - NEW)], GREEDY, [0], ())
    assert len(row[0].ids) <= NEW


def test_more_choices_than_one_request_takes(engine, other):
    choices = list(range(VOCABULARY)) * 3
    table = engine.choice_logprobs([[11], [12]], choices, ())
    assert table == pytest.approx(other.choice_logprobs([[11], [12]], choices, ()), abs=TOLERANCE)


def test_the_models_own_end_does_not_end_what_has_other_stop_ids(folder, engine):
    sampling = Sampling(samples=16, temperature=1, top_p=1, max_new_tokens=NEW)
    none = VllmEngine(folder, stop_ids=[])
    drawn = none.generate(prompts_of(8), sampling, range(8), ())
    assert all(len(completion.ids) == NEW and not completion.finished for row in drawn for completion in row)
    assert any(set(completion.ids) & set(STOPS) for row in drawn for completion in row)


def test_two_engines_of_one_base_start_one_vllm(folder, engine):
    engine.generate([[11]], GREEDY, [0], ())
    started = ENGINE_STARTS.count
    VllmEngine(str(folder)).generate([[11]], GREEDY, [0], ())
    VllmEngine(load_base(folder)).score([[11]], [[12]], ())
    assert ENGINE_STARTS.count == started
    with pytest.raises(ValueError, match="close that engine first"):
        VllmEngine(folder, gpu_memory_utilization=0.3)


def test_a_larger_rank_starts_the_engine_again_once(engine, other, base, tmp_path):
    large = random_adapter(base, tmp_path / "large", 1, rank=70, size=0.05)
    started = ENGINE_STARTS.count
    rows, completions = prompts_of(4), [[11, 12]] * 4
    equal_scores(engine, other, rows, completions, stack(large))
    equal_scores(engine, other, rows, completions, [(), stack(large), (), stack(large)])
    assert ENGINE_STARTS.count == started + 1
    with pytest.raises(ValueError, match="512"):
        engine.score(rows, completions, stack(large) * 8)


def test_an_engine_in_this_process_leaves_its_random_numbers_and_threads_alone(engine):
    engine.close()
    set_threads = torch.set_num_threads
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    expected = torch.rand(1).item(), np.random.rand(), random.random()
    torch.manual_seed(1), np.random.seed(1), random.seed(1)
    engine.generate([[11]], WARM, [0], ())
    assert (torch.rand(1).item(), np.random.rand(), random.random()) == expected
    assert torch.set_num_threads is set_threads

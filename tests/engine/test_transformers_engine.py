"""The transformers engine against its contract, transformers.generate, and itself."""

import numpy as np
import pytest
import torch

from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.engine.transformers_engine import TransformersEngine
from ct_pipeline.models.adapters import with_adapters
from ct_pipeline.models.model import stack
from tests.fakes.tiny_models import END, VOCABULARY, random_adapter, tiny_base

NEW = 12
GREEDY = Sampling(samples=1, temperature=0, top_p=1, max_new_tokens=NEW)
NUCLEUS = Sampling(samples=3, temperature=0.8, top_p=0.9, max_new_tokens=NEW)


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture(scope="module")
def engine(base):
    return TransformersEngine(base)


@pytest.fixture(scope="module")
def adapters(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapters")
    return stack(random_adapter(base, folder / "one", 1), random_adapter(base, folder / "two", 2))


def prompts(count, seed=0):
    generator = np.random.default_rng(seed)
    return [generator.integers(7, VOCABULARY, size=generator.integers(1, 30)).tolist() for _ in range(count)]


def test_greedy_equals_transformers_generate(base, engine):
    for prompt, (completion,) in zip(prompts(40), engine.generate(prompts(40), GREEDY, range(40), ()), strict=True):
        reference = base.model.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False)
        assert completion.ids == tuple(reference[0, len(prompt) :].tolist())
        assert completion.finished == (completion.ids[-1] == END)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_drawn_completion_scores_as_it_was_drawn(engine, adapters, count):
    rows = prompts(30)
    drawn = engine.generate(rows, NUCLEUS, range(30), adapters[:count])
    for sample in range(NUCLEUS.samples):
        scores = engine.score(rows, [row[sample].ids for row in drawn], adapters[:count])
        for row, score in zip(drawn, scores, strict=True):
            assert len(score) == len(row[sample].ids)
            assert score.sum() == pytest.approx(row[sample].logprob, abs=1e-4)
            assert row[sample].proposal_logprob > row[sample].logprob - 1e3
    finished = [completion.finished for row in drawn for completion in row]
    assert any(finished)
    assert not all(finished), "rows must leave the batch at different steps for this test to mean something"


def test_an_untruncated_proposal_at_temperature_one_is_the_model_itself(engine):
    plain = Sampling(samples=2, temperature=1, top_p=1, max_new_tokens=NEW)
    for row in engine.generate(prompts(20), plain, range(20), ()):
        for completion in row:
            assert completion.proposal_logprob == pytest.approx(completion.logprob, abs=1e-5)


def test_a_row_does_not_depend_on_its_neighbours_or_the_batch_size(base, engine):
    rows, seeds = prompts(24), list(range(100, 124))
    together = engine.generate(rows, NUCLEUS, seeds, ())
    narrow = TransformersEngine(base, most_tokens=90).generate(rows, NUCLEUS, seeds, ())
    alone = [engine.generate([row], NUCLEUS, [seed], ())[0] for row, seed in zip(rows, seeds, strict=True)]
    backwards = engine.generate(rows[::-1], NUCLEUS, seeds[::-1], ())[::-1]
    for other in (narrow, alone, backwards):
        assert [[c.ids for c in row] for row in other] == [[c.ids for c in row] for row in together]
        for row, expected in zip(other, together, strict=True):
            assert [c.logprob for c in row] == pytest.approx([c.logprob for c in expected], abs=1e-4)


def test_the_same_call_gives_the_same_bits(engine):
    first = engine.generate(prompts(20), NUCLEUS, range(20), ())
    assert engine.generate(prompts(20), NUCLEUS, range(20), ()) == first


def test_samples_of_one_prompt_and_identical_prompts_of_other_seeds_differ(engine):
    prompt = prompts(1)[0]
    sampling = Sampling(samples=8, temperature=1, top_p=1, max_new_tokens=NEW)
    one, other = engine.generate([prompt, prompt], sampling, [1, 2], ())
    assert len({c.ids for c in one}) > 4
    assert {c.ids for c in one} != {c.ids for c in other}


def test_more_samples_only_add_to_the_first(engine):
    few, many = (Sampling(n, 1.0, 1.0, NEW) for n in (2, 7))
    rows = prompts(5)
    for a, b in zip(engine.generate(rows, few, range(5), ()), engine.generate(rows, many, range(5), ()), strict=True):
        assert [c.ids for c in a] == [c.ids for c in b[:2]]


def test_drawn_tokens_lie_in_the_nucleus(base, engine):
    sampling = Sampling(samples=4, temperature=0.8, top_p=0.6, max_new_tokens=6)
    rows = prompts(10)
    for prompt, row in zip(rows, engine.generate(rows, sampling, range(10), ()), strict=True):
        for completion in row:
            text = [*prompt, *completion.ids]
            with torch.no_grad():
                logits = base.model(torch.tensor([text])).logits[0, len(prompt) - 1 : -1]
            for step, token in enumerate(completion.ids):
                probabilities = torch.softmax(logits[step].double() / 0.8, -1)
                assert probabilities[probabilities > probabilities[token] + 1e-9].sum() < 0.6


def test_next_token_frequencies_follow_the_model(base, engine):
    prompt = prompts(1, seed=3)[0]
    drawn = engine.generate([prompt], Sampling(256, 1.0, 1.0, 1), [5], ())[0]
    counts = np.bincount([c.ids[0] for c in drawn], minlength=VOCABULARY)
    with torch.no_grad():
        expected = torch.softmax(base.model(torch.tensor([prompt])).logits[0, -1].double(), -1).numpy()
    assert np.abs(counts / 256 - expected).max() < 4 * np.sqrt(0.25 / 256)


def test_choices_are_next_token_log_probabilities(engine):
    rows, choices = prompts(9), [10, 20, END]
    table = engine.choice_logprobs(rows, choices, ())
    assert table.shape == (9, 3)
    for column, choice in enumerate(choices):
        scores = engine.score(rows, [[choice]] * 9, ())
        assert table[:, column] == pytest.approx([score[0] for score in scores], abs=1e-5)


def test_scores_equal_a_plain_forward_pass_of_the_stacked_model(base, engine, adapters):
    rows, completions = prompts(12), [p[:5] for p in prompts(12, seed=1)]
    model = with_adapters(base, adapters)
    for prompt, completion, score in zip(rows, completions, engine.score(rows, completions, adapters), strict=True):
        with torch.no_grad():
            logprobs = model(torch.tensor([[*prompt, *completion]])).logits[0].log_softmax(-1)
        expected = [logprobs[len(prompt) - 1 + i, token].item() for i, token in enumerate(completion)]
        assert score == pytest.approx(expected, abs=1e-4)


def test_an_empty_completion_has_no_scores(engine):
    scores = engine.score([[8, 9], [9]], [[], [10]], ())
    assert [len(score) for score in scores] == [0, 1]


def test_using_adapters_leaves_the_base_bit_for_bit(base, engine, adapters):
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    plain = engine.generate(prompts(6), GREEDY, range(6), ())
    adapted = engine.generate(prompts(6), GREEDY, range(6), adapters)
    assert adapted != plain
    assert engine.generate(prompts(6), GREEDY, range(6), ()) == plain
    assert all(torch.equal(before[name], tensor) for name, tensor in base.model.state_dict().items())


def test_an_adapter_folder_that_was_overwritten_is_read_anew(base, tmp_path):
    engine, rows = TransformersEngine(base), prompts(6)
    first = engine.generate(rows, GREEDY, range(6), stack(random_adapter(base, tmp_path / "a", 1)))
    second = engine.generate(rows, GREEDY, range(6), stack(random_adapter(base, tmp_path / "a", 2)))
    assert first != second


def test_a_prompt_beyond_the_context_window_is_refused_before_anything_is_drawn(engine):
    with pytest.raises(ValueError, match=r"row 1: 60 prompt tokens .* 64"):
        engine.generate([[8] * 4, [8] * 60], GREEDY, [0, 1], ())
    with pytest.raises(ValueError, match=r"row 0: 64 prompt tokens .* 64"):
        engine.score([[8] * 64], [[8]], ())
    with pytest.raises(ValueError, match="row 0: the prompt is empty"):
        engine.generate([[]], GREEDY, [0], ())


def test_settings_without_meaning_are_refused(engine):
    for bad in (Sampling(0, 1, 1, 4), Sampling(1, -1, 1, 4), Sampling(1, 1, 0, 4), Sampling(2, 0, 1, 4)):
        with pytest.raises(ValueError, match=r"samples|temperature|greedy"):
            engine.generate([[8]], bad, [0], ())
    with pytest.raises(ValueError, match="seeds"):
        engine.generate([[8]], GREEDY, [0, 1], ())


def test_no_prompts_give_no_completions(engine):
    assert engine.generate([], GREEDY, [], ()) == []
    assert engine.score([], [], ()) == []
    assert engine.choice_logprobs([], [5], ()).shape == (0, 1)


def test_a_sliding_window_model_decodes_as_transformers_does():
    from transformers import GenerationConfig, MistralConfig, MistralForCausalLM

    from ct_pipeline.models.loading import wrap_model
    from tests.fakes.tiny_models import word_tokenizer

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, sliding_window=8, initializer_range=0.3,
        bos_token_id=None, eos_token_id=END, pad_token_id=0,
    )  # fmt: skip
    model = MistralForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=END, pad_token_id=0)
    base = wrap_model(model, word_tokenizer(), "sliding")
    rows = prompts(12)
    for prompt, (drawn,) in zip(rows, TransformersEngine(base).generate(rows, GREEDY, range(12), ()), strict=True):
        reference = model.generate(torch.tensor([prompt]), max_new_tokens=NEW, do_sample=False)
        assert drawn.ids == tuple(reference[0, len(prompt) :].tolist())

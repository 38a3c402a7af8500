"""What every engine keeps, whatever it runs on: one class of tests against a plain forward pass of merged models.

An engine's own test file derives from `EngineContract` and overrides the fixture `engine`, for instance

    class TestMine(EngineContract):
        @pytest.fixture(scope="class")
        def engine(self, folder):
            return MyEngine(folder, stop_ids=STOPS)
"""

import copy
import json
from typing import ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE, with_adapters
from ct_pipeline.models.loading import load_base
from ct_pipeline.models.model import Term, stack
from tests.fakes.tiny_models import END, VOCABULARY, WINDOW, random_adapter, tiny_base, tiny_model, word_tokenizer

STOPS = (END, 9)
NEW = 12
GREEDY = Sampling(samples=1, temperature=0, top_p=1, max_new_tokens=NEW)
PLAIN = Sampling(samples=2, temperature=1, top_p=1, max_new_tokens=NEW)
NUCLEUS = Sampling(samples=3, temperature=0.8, top_p=0.9, max_new_tokens=NEW)
BEAMS = Sampling(samples=1, temperature=0, top_p=1, max_new_tokens=NEW, beams=4)
WEIGHTS = (0.0, 1.0, 0.5, -1.0, 2.0)
EXHAUSTIVE = Sampling(samples=1, temperature=0, top_p=1, max_new_tokens=2, beams=VOCABULARY)


def prompts_of(count, seed=0):
    """Random prompts of 1 to 29 tokens."""
    generator = np.random.default_rng(seed)
    return [generator.integers(10, VOCABULARY, size=generator.integers(1, 30)).tolist() for _ in range(count)]


def next_logprobs(model, texts):
    """Log-probabilities after each of several texts of one length; shape (texts, vocabulary), float64."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor(texts)).logits[:, -1].double().log_softmax(-1).numpy()


def plain_greedy(model, prompt, new, stops):
    """The likeliest next token, again and again, without a cache."""
    ids = []
    while len(ids) < new and not (ids and ids[-1] in stops):
        ids.append(int(next_logprobs(model, [[*prompt, *ids]])[0].argmax()))
    return tuple(ids)


def plain_beams(model, prompt, beams, new, stops):
    """The best mean log-probability that a beam search finds: every ended continuation of a running beam counts."""
    running, ended = [((), 0.0)], []
    for _ in range(new):
        table = next_logprobs(model, [[*prompt, *ids] for ids, _ in running])
        longer = [((*ids, t), total + table[i, t]) for i, (ids, total) in enumerate(running) for t in range(VOCABULARY)]
        ended += [hypothesis for hypothesis in longer if hypothesis[0][-1] in stops]
        going = [hypothesis for hypothesis in longer if hypothesis[0][-1] not in stops]
        running = sorted(going, key=lambda hypothesis: -hypothesis[1])[:beams]
    return max(ended + running, key=lambda hypothesis: hypothesis[1] / len(hypothesis[0]))


def merged_by_hand(base, terms):
    """A copy of the base whose weights are base + Σ weight · alpha/r · B @ A, summed in float64 and rounded once."""
    model, sums = copy.deepcopy(base.model), {}
    for term in terms:
        config, factors = json.loads((term.adapter / CONFIG_FILE).read_text()), load_file(term.adapter / WEIGHTS_FILE)
        for name, a in factors.items():
            module, _, factor = name.removeprefix("base_model.model.").rpartition(".lora_")
            if factor == "A.weight":
                b = factors[name.replace("lora_A", "lora_B")]
                delta = term.weight * config["lora_alpha"] / config["r"] * (b.double() @ a.double())
                sums[module] = sums.get(module, 0) + delta
    for module, delta in sums.items():
        layer = model.get_submodule(module)
        layer.weight = torch.nn.Parameter((layer.weight.double() + delta).float(), requires_grad=False)
    return model


def ids_of(drawn):
    """Token ids of each completion of each row."""
    return [[completion.ids for completion in row] for row in drawn]


class EngineContract:
    """Tests of an engine on the base in `folder` whose completions end at STOPS; `engine` is the fixture to override.

    Attributes:
        tolerance: most difference in nats between two ways to the same log-probability.
        exactly: difference allowed between log-probabilities and those of weights merged by hand in float64.
    """

    tolerance = 1e-3
    exactly: ClassVar = {"rel": 1e-5, "abs": 1e-5}

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory):
        """A random base on disk; its heads are as narrow as serving kernels take."""
        folder = tmp_path_factory.mktemp("base")
        tiny_model(head_dim=32).save_pretrained(folder)
        word_tokenizer().save_pretrained(folder)
        return folder

    @pytest.fixture(scope="class")
    def engine(self, folder):
        raise NotImplementedError(f"override the fixture `engine` with an engine on {folder}")

    @pytest.fixture(scope="class")
    def base(self, folder):
        """The base as transformers runs it."""
        return load_base(folder)

    @pytest.fixture(scope="class")
    def adapters(self, base, tmp_path_factory):
        """Two random adapters of rank 4, each as a term of weight 1."""
        folder = tmp_path_factory.mktemp("adapters")
        return stack(random_adapter(base, folder / "one", 1), random_adapter(base, folder / "two", 2))

    @pytest.fixture(scope="class")
    def stacks(self, adapters):
        """The base, each adapter alone, and both."""
        one, two = adapters
        return [(), (one,), (two,), (one, two)]

    @pytest.fixture(scope="class")
    def weighted(self, adapters):
        """One adapter at every weight, and both at weights of either sign."""
        one, two = (term.adapter for term in adapters)
        alone = [(Term(one, weight),) for weight in WEIGHTS]
        return [*alone, (Term(one, -0.5), Term(two, 1.5)), (Term(two, 0.7), Term(one), Term(two, -0.2))]

    @pytest.mark.parametrize("number", range(4))
    def test_a_drawn_completion_scores_as_it_was_drawn(self, engine, stacks, number):
        rows = prompts_of(10)
        for sampling in (NUCLEUS, GREEDY):
            drawn = engine.generate(rows, sampling, range(10), stacks[number])
            for sample in range(sampling.samples):
                scores = engine.score(rows, [row[sample].ids for row in drawn], stacks[number])
                for row, score in zip(drawn, scores, strict=True):
                    assert len(score) == len(row[sample].ids)
                    assert score.sum() == pytest.approx(row[sample].logprob, abs=self.tolerance)

    @pytest.mark.parametrize("number", range(4))
    def test_greedy_follows_the_likeliest_token_of_the_merged_model(self, engine, base, stacks, number):
        model, rows = with_adapters(base, stacks[number]), prompts_of(8)
        for prompt, (drawn,) in zip(rows, engine.generate(rows, GREEDY, range(8), stacks[number]), strict=True):
            assert drawn.ids == plain_greedy(model, prompt, NEW, STOPS)
            assert drawn.proposal_logprob == 0

    @pytest.mark.parametrize("number", range(4))
    def test_scores_and_choices_are_those_of_the_merged_model(self, engine, base, stacks, number):
        model, rows, choices = with_adapters(base, stacks[number]), prompts_of(8), [11, END, 40]
        completions = [prompt[:4] for prompt in prompts_of(8, seed=1)]
        table = engine.choice_logprobs(rows, choices, stacks[number])
        assert table.shape == (8, 3)
        for i, score in enumerate(engine.score(rows, completions, stacks[number])):
            assert table[i] == pytest.approx(next_logprobs(model, [rows[i]])[0, choices], abs=self.tolerance)
            texts = [[*rows[i], *completions[i][:k]] for k in range(len(completions[i]))]
            expected = [next_logprobs(model, [text])[0, completions[i][k]] for k, text in enumerate(texts)]
            assert score == pytest.approx(expected, abs=self.tolerance)

    def test_rows_of_different_stacks_in_one_call_never_mix(self, engine, stacks):
        prompts = [prompt for prompt in prompts_of(5, seed=2) for _ in stacks]
        mixed, seeds = stacks * 5, list(range(len(prompts)))
        completions = [prompt[:3] for prompt in prompts_of(len(prompts), seed=3)]
        for sampling in (GREEDY, NUCLEUS, BEAMS):
            together = engine.generate(prompts, sampling, seeds, mixed)
            for i, terms in enumerate(stacks):
                apart = engine.generate(prompts[i::4], sampling, seeds[i::4], terms)
                assert ids_of(together[i::4]) == ids_of(apart)
            by_stack = [ids_of(together[i::4]) for i in range(4)]
            assert all(by_stack[i] != by_stack[j] for i in range(4) for j in range(i)), "the adapters change too little"
        scores, table = engine.score(prompts, completions, mixed), engine.choice_logprobs(prompts, [11, 40], mixed)
        for i, terms in enumerate(stacks):
            apart = engine.score(prompts[i::4], completions[i::4], terms)
            assert np.concatenate(scores[i::4]) == pytest.approx(np.concatenate(apart), abs=self.tolerance)
            choices = engine.choice_logprobs(prompts[i::4], [11, 40], terms)
            assert table[i::4] == pytest.approx(choices, abs=self.tolerance)

    def test_the_same_seeds_draw_the_same_and_others_differ(self, engine):
        prompt, many = prompts_of(1, seed=4)[0], Sampling(8, 1.0, 1.0, NEW)
        first = engine.generate([prompt, prompt], many, [1, 2], ())
        assert ids_of(engine.generate([prompt, prompt], many, [1, 2], ())) == ids_of(first)
        assert set(ids_of(first)[0]) != set(ids_of(first)[1])
        assert set(ids_of(engine.generate([prompt], many, [3], ()))[0]) != set(ids_of(first)[0])
        for row in ids_of(first):
            assert len(row) == 8
            assert len(set(row)) > 2

    def test_a_row_depends_on_its_own_seed_and_prompt_alone(self, engine):
        rows, seeds = prompts_of(8, seed=5), list(range(50, 58))
        together = ids_of(engine.generate(rows, NUCLEUS, seeds, ()))
        assert ids_of(engine.generate(rows[::-1], NUCLEUS, seeds[::-1], ()))[::-1] == together
        assert ids_of(engine.generate(rows[3:5], NUCLEUS, seeds[3:5], ())) == together[3:5]

    def test_a_completion_is_finished_if_its_last_token_is_a_stop(self, engine, adapters):
        rows, ends = prompts_of(20, seed=6), []
        for sampling in (PLAIN, GREEDY, BEAMS):
            for row in engine.generate(rows, sampling, range(20), adapters[:1]):
                for completion in row:
                    assert 1 <= len(completion.ids) <= NEW
                    assert completion.finished == (completion.ids[-1] in STOPS)
                    assert not set(completion.ids[:-1]) & set(STOPS)
                    assert completion.finished or len(completion.ids) == NEW
                    ends.append(completion.finished)
        assert any(ends)
        assert not all(ends)

    def test_an_untruncated_proposal_at_temperature_one_is_the_model_itself(self, engine):
        for row in engine.generate(prompts_of(10), PLAIN, range(10), ()):
            for completion in row:
                assert completion.proposal_logprob == pytest.approx(completion.logprob, abs=self.tolerance)

    def test_a_truncated_proposal_makes_its_draws_likelier(self, engine):
        sampling = Sampling(samples=3, temperature=1, top_p=0.7, max_new_tokens=NEW)
        for row in engine.generate(prompts_of(10), sampling, range(10), ()):
            for completion in row:
                # Each token's probability is divided by the nucleus's, which is at least 0.7.
                gain = completion.proposal_logprob - completion.logprob
                assert -self.tolerance < gain < -np.log(0.7) * len(completion.ids) + self.tolerance

    @pytest.mark.parametrize("number", range(4))
    def test_beams_find_what_a_plain_search_finds(self, engine, base, stacks, number):
        model, rows = with_adapters(base, stacks[number]), prompts_of(8, seed=7)
        drawn = engine.generate(rows, BEAMS, range(8), stacks[number])
        scores = engine.score(rows, [row[0].ids for row in drawn], stacks[number])
        for prompt, row, score in zip(rows, drawn, scores, strict=True):
            (best,) = row
            ids, logprob = plain_beams(model, prompt, BEAMS.beams, NEW, STOPS)
            assert best.ids == ids
            assert best.logprob == pytest.approx(logprob, abs=self.tolerance)
            assert best.logprob == pytest.approx(score.sum(), abs=self.tolerance)
            assert best.proposal_logprob == 0

    def test_beams_as_wide_as_the_vocabulary_find_the_best_of_all_sequences(self, engine, base):
        rows = prompts_of(6, seed=8)
        for prompt, (best,) in zip(rows, engine.generate(rows, EXHAUSTIVE, range(6), ()), strict=True):
            first = next_logprobs(base.model, [prompt])[0]
            second = next_logprobs(base.model, [[*prompt, token] for token in range(VOCABULARY)])
            means = (first[:, None] + second) / 2
            means[list(STOPS)] = -np.inf
            assert best.logprob / len(best.ids) == pytest.approx(
                max(means.max(), first[list(STOPS)].max()), abs=self.tolerance
            )

    @pytest.mark.parametrize("number", range(len(WEIGHTS) + 2))
    def test_weighted_adapters_compute_what_hand_merged_weights_do(self, engine, base, weighted, number):
        model, rows = merged_by_hand(base, weighted[number]), prompts_of(8, seed=12)
        completions, choices = [prompt[:4] for prompt in prompts_of(8, seed=13)], [11, END, 40]
        table = engine.choice_logprobs(rows, choices, weighted[number])
        for i, score in enumerate(engine.score(rows, completions, weighted[number])):
            assert table[i] == pytest.approx(next_logprobs(model, [rows[i]])[0, choices], **self.exactly)
            texts = [[*rows[i], *completions[i][:k]] for k in range(len(completions[i]))]
            expected = [next_logprobs(model, [text])[0, completions[i][k]] for k, text in enumerate(texts)]
            assert score == pytest.approx(expected, **self.exactly)

    def test_stacks_of_all_weights_in_one_call_are_those_of_calls_apart(self, engine, weighted):
        stacks, count = [(), *weighted], len(weighted) + 1
        prompts = [prompt for prompt in prompts_of(3, seed=14) for _ in stacks]
        seeds = [row for row in range(3) for _ in stacks]
        completions = [prompt[:3] for prompt in prompts_of(len(prompts), seed=15)]
        together = engine.generate(prompts, NUCLEUS, seeds, stacks * 3)
        scores = engine.score(prompts, completions, stacks * 3)
        for i, terms in enumerate(stacks):
            assert ids_of(together[i::count]) == ids_of(
                engine.generate(prompts[i::count], NUCLEUS, seeds[i::count], terms)
            )
            apart = engine.score(prompts[i::count], completions[i::count], terms)
            assert np.concatenate(scores[i::count]) == pytest.approx(np.concatenate(apart), abs=self.tolerance)
        drawn = [ids_of(together[i::count]) for i in range(count)]
        assert drawn[1] == drawn[0], "weight 0 is the base"
        others = drawn[1:]
        assert all(others[i] != others[j] for i in range(count - 1) for j in range(i)), "the weights change too little"

    def test_what_weighted_adapters_draw_scores_as_it_was_drawn(self, engine, weighted):
        rows = prompts_of(10, seed=16)
        for terms in weighted:
            drawn = engine.generate(rows, NUCLEUS, range(10), terms)
            for sample in range(NUCLEUS.samples):
                scores = engine.score(rows, [row[sample].ids for row in drawn], terms)
                sums = [row[sample].logprob for row in drawn]
                assert [score.sum() for score in scores] == pytest.approx(sums, abs=self.tolerance)

    def test_weight_zero_is_the_base_and_needs_no_folder(self, engine, adapters, tmp_path):
        rows, nothing = prompts_of(6, seed=17), (Term(adapters[0].adapter, 0.0), Term(tmp_path / "absent", -0.0))
        plain, left_out = (engine.generate(rows, PLAIN, range(6), terms) for terms in ((), nothing))
        assert ids_of(left_out) == ids_of(plain)
        completions = [row[0].ids for row in plain]
        for one, other in zip(*(engine.score(rows, completions, terms) for terms in ((), nothing)), strict=True):
            assert one.tolist() == other.tolist()
        both = (adapters[0], Term(adapters[1].adapter, 0))
        assert ids_of(engine.generate(rows, GREEDY, range(6), both)) == ids_of(
            engine.generate(rows, GREEDY, range(6), adapters[:1])
        )

    def test_a_folder_in_place_of_a_term_is_refused(self, engine, adapters):
        folder = adapters[0].adapter
        for given in ((folder,), [(folder,)]):
            with pytest.raises(TypeError, match="no term of a model"):
                engine.generate([[11]], GREEDY, [0], given)

    def test_an_adapter_that_was_overwritten_in_place_is_not_served_stale(self, engine, base, tmp_path):
        rows, folder = prompts_of(6), tmp_path / "adapter"
        for seed in (11, 12):
            random_adapter(base, folder, seed)
            model = with_adapters(base, stack(folder))
            for prompt, (drawn,) in zip(rows, engine.generate(rows, GREEDY, range(6), stack(folder)), strict=True):
                assert drawn.ids == plain_greedy(model, prompt, NEW, STOPS)

    def test_an_engine_that_was_closed_opens_again(self, engine, adapters):
        rows = prompts_of(4)
        before = ids_of(engine.generate(rows, GREEDY, range(4), adapters))
        engine.close()
        engine.close()
        assert ids_of(engine.generate(rows, GREEDY, range(4), adapters)) == before

    def test_nothing_asked_gives_nothing(self, engine):
        for adapters in ((), []):
            assert engine.generate([], GREEDY, [], adapters) == []
            assert engine.score([], [], adapters) == []
            assert engine.choice_logprobs([], [11], adapters).shape == (0, 1)
        assert [len(score) for score in engine.score([[11, 12], [12]], [[], [13]], ())] == [0, 1]

    def test_rows_that_cannot_be_served_are_refused_by_number(self, engine):
        with pytest.raises(ValueError, match="row 1"):
            engine.generate([[11], []], GREEDY, [0, 1], ())
        with pytest.raises(ValueError, match="row 1"):
            engine.generate([[11] * 4, [11] * (WINDOW - NEW + 1)], GREEDY, [0, 1], ())
        with pytest.raises(ValueError, match="row 0"):
            engine.score([[11] * WINDOW], [[11]], ())
        with pytest.raises(ValueError, match="row 0"):
            engine.choice_logprobs([[]], [11], ())

    def test_lists_of_another_length_are_refused(self, engine, adapters):
        with pytest.raises(ValueError, match="seeds"):
            engine.generate([[11]], GREEDY, [0, 1], ())
        with pytest.raises(ValueError, match="adapters"):
            engine.generate([[11], [12]], GREEDY, [0, 1], [adapters])
        with pytest.raises(ValueError, match="completions"):
            engine.score([[11], [12]], [[11]], ())
        with pytest.raises(ValueError, match="adapters"):
            engine.score([[11]], [[11]], [(), ()])
        with pytest.raises(ValueError, match="adapters"):
            engine.choice_logprobs([[11]], [11], [])

    @pytest.mark.parametrize(
        "sampling",
        [
            Sampling(0, 1.0, 1.0, 4),
            Sampling(1, 1.0, 1.0, 0),
            Sampling(1, -1.0, 1.0, 4),
            Sampling(1, 1.0, 0.0, 4),
            Sampling(2, 0.0, 1.0, 4),
            Sampling(1, 0.0, 1.0, 4, beams=0),
            Sampling(1, 0.7, 1.0, 4, beams=4),
            Sampling(2, 0.0, 1.0, 4, beams=4),
        ],
    )
    def test_settings_without_meaning_are_refused(self, engine, sampling):
        with pytest.raises(ValueError, match=r"samples|max_new_tokens|temperature|top_p|beams"):
            engine.generate([[11]], sampling, [0], ())

    def test_an_adapter_that_does_not_fit_is_refused_by_name(self, engine, base, adapters, tmp_path):
        foreign = random_adapter(tiny_base(hidden=48, head_dim=32), tmp_path / "foreign", 1)
        incomplete = random_adapter(base, tmp_path / "incomplete", 1)
        (incomplete / CONFIG_FILE).unlink()
        absent = tmp_path / "absent"
        for folder in (foreign, incomplete, absent):
            for terms in (stack(folder), (adapters[0], *stack(folder))):
                with pytest.raises(ValueError, match=folder.name):
                    engine.generate([[11], [12]], GREEDY, [0, 1], terms)
                with pytest.raises(ValueError, match=folder.name):
                    engine.generate([[11], [12]], GREEDY, [0, 1], [(), terms])
            with pytest.raises(ValueError, match=folder.name):
                engine.score([[11]], [[12]], stack(folder))
            with pytest.raises(ValueError, match=folder.name):
                engine.choice_logprobs([[11]], [12], stack(folder))

    def test_an_adapter_folder_that_lost_its_weights_is_refused(self, engine, base, tmp_path):
        folder = random_adapter(base, tmp_path / "lost", 1)
        engine.generate([[11]], GREEDY, [0], stack(folder))
        (folder / WEIGHTS_FILE).unlink()
        with pytest.raises(ValueError, match="lost"):
            engine.generate([[11]], GREEDY, [0], stack(folder))

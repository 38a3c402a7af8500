"""Beam search on the transformers engine: against the library's, its limits on memory, and its order of equals."""

import pytest
import torch

from ct_pipeline.engine import transformers_engine
from ct_pipeline.engine.beam_search import _largest
from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.engine.transformers_engine import TransformersEngine
from ct_pipeline.models.model import stack
from tests.engine.contract import BEAMS, NEW, VOCABULARY, plain_beams, prompts_of
from tests.fakes.tiny_models import END, random_adapter, tiny_base


@pytest.fixture(scope="module")
def base():
    return tiny_base()


def test_without_a_stop_it_finds_what_transformers_finds(base):
    rows = prompts_of(10)
    base.model.generation_config.eos_token_id = None
    try:
        found = TransformersEngine(base, stop_ids=()).generate(rows, BEAMS, range(10), ())
        for prompt, (best,) in zip(rows, found, strict=True):
            reference = base.model.generate(
                torch.tensor([prompt]), max_new_tokens=NEW, num_beams=4, do_sample=False, early_stopping="never"
            )
            assert best.ids == tuple(reference[0, len(prompt) :].tolist())
            assert not best.finished
    finally:
        base.model.generation_config.eos_token_id = END


@pytest.mark.parametrize("beams", [2, 3, 9])
def test_any_width_finds_what_a_plain_search_finds(base, beams):
    rows, stops = prompts_of(10), (END, 20, 31, 44)
    found = TransformersEngine(base, stops).generate(rows, Sampling(1, 0.0, 1.0, 6, beams=beams), range(10), ())
    for prompt, (best,) in zip(rows, found, strict=True):
        ids, logprob = plain_beams(base.model, prompt, beams, 6, stops)
        assert best.ids == ids
        assert best.logprob == pytest.approx(logprob, abs=1e-4)
    assert len({len(row[0].ids) for row in found}) > 1, (
        "searches must end at different steps for this to mean something"
    )


def test_a_search_does_not_depend_on_its_neighbours_or_the_batch_size(base):
    rows = prompts_of(20)
    together = TransformersEngine(base).generate(rows, BEAMS, range(20), ())
    narrow = TransformersEngine(base, most_tokens=200).generate(rows, BEAMS, range(20), ())
    alone = [TransformersEngine(base).generate([row], BEAMS, [0], ())[0] for row in rows]
    for other in (narrow, alone):
        assert [row[0].ids for row in other] == [row[0].ids for row in together]


def test_all_beams_of_a_batch_fit_into_its_limit(base, monkeypatch):
    limit, seen = 400, []
    search = transformers_engine.search

    def watched(served, prefill, numbers, prompts, beams, new, stops):
        seen.append(len(numbers) * beams * (max(len(prompts[number]) for number in numbers) + new))
        return search(served, prefill, numbers, prompts, beams, new, stops)

    monkeypatch.setattr(transformers_engine, "search", watched)
    TransformersEngine(base, most_tokens=limit).generate(prompts_of(30), BEAMS, range(30), ())
    assert len(seen) > 5
    assert max(seen) <= limit


def test_of_equal_values_the_first_are_the_largest():
    values = torch.tensor([[1.0, 2.0, 2.0, 2.0, 3.0], [5.0, 5.0, 5.0, 5.0, 5.0], [4.0, 1.0, 3.0, 0.0, 2.0]])
    ranked, places = _largest(values.double(), 3)
    assert places.tolist() == [[4, 1, 2], [0, 1, 2], [0, 2, 4]]
    assert ranked.tolist() == [[3, 2, 2], [5, 5, 5], [4, 3, 2]]
    nothing = torch.full((1, VOCABULARY), -torch.inf)
    nothing[0, 7] = 0
    assert _largest(nothing, 3)[1].tolist() == [[7, 0, 1]]


def test_rows_of_different_stacks_are_searched_with_their_own_adapters(base, tmp_path):
    stacks = [(), *(stack(random_adapter(base, tmp_path / name, seed)) for name, seed in (("a", 1), ("b", 2)))]
    rows = [prompt for prompt in prompts_of(6) for _ in stacks]
    merged, mixed = (
        TransformersEngine(base, mixing=mixing).generate(rows, BEAMS, range(18), stacks * 6)
        for mixing in ("merged", "mixed")
    )
    assert [row[0].ids for row in mixed] == [row[0].ids for row in merged]
    for a, b in zip(mixed, merged, strict=True):
        assert a[0].logprob == pytest.approx(b[0].logprob, abs=1e-4)

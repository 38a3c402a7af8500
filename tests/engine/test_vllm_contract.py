"""The vLLM engine keeps the contract, and equals the transformers engine where nothing is random."""

from typing import ClassVar

import pytest

from tests.engine.contract import GREEDY, STOPS, EngineContract, ids_of, prompts_of

pytestmark = pytest.mark.vllm


class TestVllm(EngineContract):
    """A real vLLM engine on the random base."""

    exactly: ClassVar = {"abs": EngineContract.tolerance}

    @pytest.fixture(scope="class")
    def engine(self, folder):
        from ct_pipeline.engine.vllm_engine import VllmEngine

        engine = VllmEngine(folder, stop_ids=STOPS)
        yield engine
        engine.close()

    @pytest.fixture(scope="class")
    def other(self, folder):
        from ct_pipeline.engine.transformers_engine import TransformersEngine

        return TransformersEngine(folder, stop_ids=STOPS)

    @pytest.mark.parametrize("number", range(4))
    def test_greedy_completions_and_scores_are_those_of_the_transformers_engine(self, engine, other, stacks, number):
        rows, completions = prompts_of(20, seed=9), [prompt[:6] for prompt in prompts_of(20, seed=10)]
        ours, theirs = (e.generate(rows, GREEDY, range(20), stacks[number]) for e in (engine, other))
        assert ids_of(ours) == ids_of(theirs)
        scored = [e.score(rows, completions, stacks[number]) for e in (engine, other)]
        for mine, reference in zip(*scored, strict=True):
            assert mine == pytest.approx(reference, abs=self.tolerance)

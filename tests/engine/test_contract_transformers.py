"""The transformers engine keeps the contract, with adapters merged and with adapters mixed in one batch."""

import pytest

from ct_pipeline.engine.transformers_engine import TransformersEngine
from tests.engine.contract import STOPS, EngineContract


class TestMerged(EngineContract):
    """Each stack of adapters runs on its own merged copy."""

    @pytest.fixture(scope="class")
    def engine(self, folder):
        return TransformersEngine(folder, stop_ids=STOPS)


class TestMixed(EngineContract):
    """Rows of different stacks share a batch."""

    @pytest.fixture(scope="class")
    def engine(self, folder):
        return TransformersEngine(folder, stop_ids=STOPS, mixing="mixed")

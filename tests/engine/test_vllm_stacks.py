"""Which LoRA a request to vLLM gets, without vLLM: stacks written once, named by files and weights, weight 0 the base."""

import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ct_pipeline.engine import vllm_process
from ct_pipeline.engine.vllm_base import source_of
from ct_pipeline.engine.vllm_process import Options, VllmProcess
from ct_pipeline.models.adapters import read_adapter, with_adapters
from ct_pipeline.models.loading import load_base
from ct_pipeline.models.model import Term, content_of, stack
from tests.fakes.tiny_models import random_adapter, tiny_folder

IDS = torch.tensor([[5, 9, 12, 33, 6, 40]])


@dataclass(frozen=True)
class LoraRequest:
    """The three fields of vLLM's request that are set."""

    lora_name: str
    lora_int_id: int
    lora_path: str


@pytest.fixture
def folder(tmp_path):
    return tiny_folder(tmp_path / "base")


@pytest.fixture
def process(folder, monkeypatch):
    """A process that never starts an engine."""
    request = ModuleType("vllm.lora.request")
    request.LoRARequest = LoraRequest
    for name in ("vllm", "vllm.lora"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "vllm.lora.request", request)
    monkeypatch.setattr(vllm_process, "_prepare_environment", lambda: None)
    return VllmProcess(source_of(folder), Options(), 8)


def test_every_weight_is_a_lora_of_its_own_that_computes_the_weighted_sum(process, folder, tmp_path):
    base = load_base(folder)
    one, two = (random_adapter(base, tmp_path / name, seed) for name, seed in (("one", 1), ("two", 2)))
    stacks = [(Term(one, weight), Term(two)) for weight in (1.0, 0.5, -1.0, 2.0)]
    requests = process.loras(stacks * 2)
    assert requests[:4] == requests[4:]
    assert [request.lora_name for request in requests[:4]] == [content_of(terms) for terms in stacks]
    assert len({request.lora_int_id for request in requests}) == len({request.lora_path for request in requests}) == 4
    with torch.no_grad():
        for request, terms in zip(requests, stacks, strict=False):
            served = with_adapters(base, stack(request.lora_path))(input_ids=IDS).logits
            wanted = with_adapters(base, terms)(input_ids=IDS).logits
            assert (served - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_weight_zero_is_the_base_alone_and_beside_adapters(process, folder, tmp_path):
    base = load_base(folder)
    one = random_adapter(base, tmp_path / "one", 1)
    nothing = (Term(one, 0), Term(tmp_path / "absent", 0))
    assert process.loras([nothing, ()]) == [None, None]
    zero, plain, whole, also = process.loras([nothing, (), stack(one), (Term(one), Term(one, 0))])
    assert zero == plain
    assert whole == also != zero
    assert all(not delta.b.any() for delta in read_adapter(Path(zero.lora_path), base).values())

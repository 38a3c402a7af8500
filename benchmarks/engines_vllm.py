"""Measures VllmEngine.generate against a bare LLM.generate on the same vLLM engine, with a LoRA and without, in turns.

The bare call has the same prompts, sampling, adapter and seeds per prompt, and asks for no log-probabilities.

Usage: OMP_NUM_THREADS=1 python benchmarks/engines_vllm.py [--prompts 240] [--new-tokens 24] [--runs 3] [--large]
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from engines import tiny_base
from safetensors.torch import save_file
from throughput import random_base

from ct_pipeline.engine.protocol import Adapters, Sampling
from ct_pipeline.engine.vllm_base import source_of
from ct_pipeline.engine.vllm_engine import VllmEngine
from ct_pipeline.engine.vllm_process import Options, VllmProcess, process_of
from ct_pipeline.models.adapter_stack import adaptable_modules
from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE
from ct_pipeline.models.loading import BaseModel
from ct_pipeline.models.model import stack

RANK = 16
STOPS = (4,)


@dataclass(frozen=True)
class Scenario:
    """One way of sampling with one stack of adapters."""

    name: str
    prompts: int
    sampling: Sampling
    adapters: Adapters


def random_adapter(base: BaseModel, folder: Path) -> Path:
    """A LoRA of random factors on every inner layer."""
    folder.mkdir()
    generator, factors = torch.Generator().manual_seed(0), {}
    for name, (inputs, outputs) in adaptable_modules(base).items():
        prefix = f"base_model.model.{name}.lora_"
        factors[f"{prefix}A.weight"] = 0.02 * torch.randn(RANK, inputs, generator=generator)
        factors[f"{prefix}B.weight"] = 0.02 * torch.randn(outputs, RANK, generator=generator)
    save_file(factors, folder / WEIGHTS_FILE)
    (folder / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": RANK}))
    return folder


def bare(process: VllmProcess, prompts: list[list[int]], scenario: Scenario) -> int:
    """The usual call; returns the number of drawn tokens."""
    from vllm import SamplingParams

    sampling = scenario.sampling
    params = [
        SamplingParams(
            n=sampling.samples, temperature=sampling.temperature, top_p=sampling.top_p, seed=1000 * row,
            max_tokens=sampling.max_new_tokens, stop_token_ids=list(STOPS), ignore_eos=True, detokenize=False,
        )
        for row in range(len(prompts))
    ]  # fmt: skip
    (lora,) = process.loras([scenario.adapters])
    texts = [{"prompt_token_ids": prompt} for prompt in prompts]
    outputs = process.llm.generate(texts, params, lora_request=lora, use_tqdm=False)
    return sum(len(drawn.token_ids) for request in outputs for drawn in request.outputs)


def ours(engine: VllmEngine, prompts: list[list[int]], scenario: Scenario) -> int:
    """Our call, log-probabilities of both kinds included; returns the number of drawn tokens."""
    rows = engine.generate(prompts, scenario.sampling, list(range(len(prompts))), scenario.adapters)
    return sum(len(drawn.ids) for row in rows for drawn in row)


def measure(base: BaseModel, folder: Path, count: int, new: int, runs: int) -> None:
    """Prints one row per scenario; the last column is our tokens per CPU second over the bare ones."""
    base.model.save_pretrained(folder / "base")
    base.tokenizer.save_pretrained(folder / "base")
    lora = stack(random_adapter(base, folder / "adapter"))
    engine = VllmEngine(folder / "base", stop_ids=STOPS, max_lora_rank=RANK)
    process = process_of(source_of(folder / "base"), Options(), RANK)
    generator = np.random.default_rng(0)
    prompts = [generator.integers(44, 512, size=generator.integers(12, 33)).tolist() for _ in range(count)]
    scenarios = (
        Scenario("greedy", count, Sampling(1, 0.0, 1.0, new), ()),
        Scenario("greedy, LoRA", count, Sampling(1, 0.0, 1.0, new), lora),
        Scenario("T 1, LoRA", count, Sampling(1, 1.0, 1.0, new), lora),
        Scenario("16 samples, T 1, LoRA", count // 8, Sampling(16, 1.0, 1.0, new), lora),
        Scenario("T 0.7, top-p 0.9", count, Sampling(1, 0.7, 0.9, new), ()),
        Scenario("T 0.7, top-p 0.9, LoRA", count, Sampling(1, 0.7, 0.9, new), lora),
    )
    print(f"{'scenario':<26}{'ours CPU s':>12}{'bare CPU s':>12}{'ours wall s':>13}{'bare wall s':>13}{'ratio':>8}")
    for scenario in scenarios:
        rows = prompts[: scenario.prompts]
        contenders = {"ours": lambda *case: ours(engine, *case), "bare": lambda *case: bare(process, *case)}
        tokens = {name: run(rows, scenario) for name, run in contenders.items()}
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        for _ in range(runs):
            for name, run in contenders.items():
                wall, cpu = time.perf_counter(), time.process_time()
                run(rows, scenario)
                seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        (wall, cpu), (bare_wall, bare_cpu) = (
            (statistics.median(column) for column in zip(*measured, strict=True)) for measured in seconds.values()
        )
        ratio = tokens["ours"] / cpu / (tokens["bare"] / bare_cpu)
        print(f"{scenario.name:<26}{cpu:>12.2f}{bare_cpu:>12.2f}{wall:>13.2f}{bare_wall:>13.2f}{ratio:>8.2f}")


def main() -> None:
    """Measures in a temporary folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=240)
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--large", action="store_true", help="125M parameters in place of 0.4M")
    options = parser.parse_args()
    base = random_base(hidden=768, layers=12, vocabulary=32_000) if options.large else tiny_base()
    with tempfile.TemporaryDirectory() as folder:
        measure(base, Path(folder), options.prompts, options.new_tokens, options.runs)


if __name__ == "__main__":
    main()

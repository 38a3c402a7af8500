"""Measures our decode loop against transformers.generate on a random tiny model, in one run on one core.

The contenders take turns, so that other work on the machine hits them alike; CPU seconds are the fairer column there.

Usage: OMP_NUM_THREADS=1 python benchmarks/engines.py [--prompts 960] [--new-tokens 24] [--runs 5]
"""

import argparse
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.engine.transformers_engine import TransformersEngine
from ct_pipeline.models.loading import BaseModel, wrap_model

EARLY_STOPS = tuple(range(4, 44))
"""With 40 of 512 tokens ending a completion, most rows end before the limit, as real answers do."""


@dataclass(frozen=True)
class Scenario:
    """One way of sampling; `stops` are the tokens that end a completion."""

    name: str
    prompts: int
    sampling: Sampling
    stops: tuple[int, ...]


def tiny_base() -> BaseModel:
    """A random Llama of the tiny world's shape: 0.38M parameters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=3,
        num_key_value_heads=3, head_dim=32, tie_word_embeddings=True, max_position_embeddings=256,
        bos_token_id=None, eos_token_id=4, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    words = {f"w{i}": i for i in range(512)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")))
    return wrap_model(LlamaForCausalLM(config), tokenizer, "random-tiny")


def ours(base: BaseModel, prompts: list[list[int]], scenario: Scenario) -> int:
    """Our loop, log-probabilities included; returns the number of drawn tokens."""
    engine = TransformersEngine(base, stop_ids=scenario.stops)
    rows = engine.generate(prompts, scenario.sampling, list(range(len(prompts))), ())
    return sum(len(drawn.ids) for row in rows for drawn in row)


def transformers_generate(base: BaseModel, prompts: list[list[int]], scenario: Scenario, batch: int) -> int:
    """The usual way: left-padded batches of `batch` rows in the given order; returns the number of drawn tokens."""
    drawn, sampling = 0, scenario.sampling
    greedy = sampling.temperature == 0
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens, do_sample=not greedy, num_return_sequences=sampling.samples,
        eos_token_id=list(scenario.stops), pad_token_id=0, temperature=None if greedy else sampling.temperature,
        top_p=None if greedy else sampling.top_p, top_k=None if greedy else 0,
    )  # fmt: skip
    size = max(batch // sampling.samples, 1)
    for start in range(0, len(prompts), size):
        rows = prompts[start : start + size]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        new = base.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)[:, width:]
        ended = torch.isin(new, torch.tensor(scenario.stops)).int().cumsum(1)
        # Every token before the first stop, and that stop.
        drawn += int((ended == 0).sum() + (ended > 0).any(1).sum())
    return drawn


def main() -> None:
    """Prints one row per scenario and engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=960)
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    base, count, new = tiny_base(), options.prompts, options.new_tokens
    generator = np.random.default_rng(0)
    prompts = [generator.integers(44, 512, size=generator.integers(12, 33)).tolist() for _ in range(count)]
    scenarios = (
        Scenario("greedy", count, Sampling(1, 0.0, 1.0, new), (4,)),
        Scenario("T 1", count, Sampling(1, 1.0, 1.0, new), (4,)),
        Scenario("T 0.7, top-p 0.9", count, Sampling(1, 0.7, 0.9, new), (4,)),
        Scenario("the same, early ends", count, Sampling(1, 0.7, 0.9, new), EARLY_STOPS),
        Scenario("16 samples, early ends", count // 8, Sampling(16, 0.7, 0.9, new), EARLY_STOPS),
    )
    contenders = {
        "ours": ours,
        "generate, batch 960": lambda *case: transformers_generate(*case, 960),
        "generate, batch 128": lambda *case: transformers_generate(*case, 128),
    }
    print(f"{count} prompts of 12-32 tokens, up to {new} new tokens, medians of {options.runs} runs on one core")
    print(f"{'scenario':<24}{'engine':<22}{'wall s':>8}{'CPU s':>8}{'tokens':>9}{'tokens per CPU s':>18}")
    for scenario in scenarios:
        rows = prompts[: scenario.prompts]
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
        drawn = {name: run(base, rows, scenario) for name, run in contenders.items()}
        for _ in range(options.runs):
            for name, run in contenders.items():
                wall, cpu = time.perf_counter(), time.process_time()
                drawn[name] = run(base, rows, scenario)
                seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
        for name, measured in seconds.items():
            wall, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
            tokens = drawn[name]
            print(f"{scenario.name:<24}{name:<22}{wall:>8.2f}{cpu:>8.2f}{tokens:>9}{tokens / cpu:>18.0f}")


if __name__ == "__main__":
    main()

"""Measures our decode loop against transformers.generate on a random tiny model, in one run on one core.

The last column is our throughput over a library loop's, in tokens per CPU second. The contenders take turns, so that
other work on the machine hits them alike; CPU seconds are the fairer column there.

Usage: OMP_NUM_THREADS=1 python benchmarks/engines.py [--prompts 960] [--new-tokens 24] [--runs 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable
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


@dataclass(frozen=True)
class Contender:
    """One way of drawing; `run` takes the base, prompts and a scenario, and returns the number of drawn tokens."""

    name: str
    run: Callable[[BaseModel, list[list[int]], Scenario], int]


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
        num_beams=sampling.beams, length_penalty=1.0, early_stopping="never" if sampling.beams > 1 else False,
        eos_token_id=list(scenario.stops), pad_token_id=0, temperature=None if greedy else sampling.temperature,
        top_p=None if greedy else sampling.top_p, top_k=None if greedy else 0,
    )  # fmt: skip
    size = max(batch // (sampling.samples * sampling.beams), 1)
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


def scenarios(prompts: int, new: int) -> tuple[Scenario, ...]:
    """What is measured."""
    return (
        Scenario("greedy", prompts, Sampling(1, 0.0, 1.0, new), (4,)),
        Scenario("T 1", prompts, Sampling(1, 1.0, 1.0, new), (4,)),
        Scenario("T 0.7, top-p 0.9", prompts, Sampling(1, 0.7, 0.9, new), (4,)),
        Scenario("the same, early ends", prompts, Sampling(1, 0.7, 0.9, new), EARLY_STOPS),
        Scenario("16 samples, early ends", prompts // 8, Sampling(16, 0.7, 0.9, new), EARLY_STOPS),
        Scenario("beam 4", prompts // 8, Sampling(1, 0.0, 1.0, new, beams=4), (4,)),
        Scenario("beam 4, early ends", prompts // 8, Sampling(1, 0.0, 1.0, new, beams=4), EARLY_STOPS),
    )


def transformers_contenders() -> tuple[Contender, ...]:
    """Ours first; the others are the library loops it is compared with."""
    return (
        Contender("ours", ours),
        Contender("generate, batch 960", lambda *case: transformers_generate(*case, 960)),
        Contender("generate, batch 128", lambda *case: transformers_generate(*case, 128)),
    )


def compare(
    base: BaseModel,
    prompts: list[list[int]],
    cases: tuple[Scenario, ...],
    contenders: tuple[Contender, ...],
    runs: int,
) -> None:
    """Prints one row per scenario and contender; the first contender is the one that the ratios are of."""
    print(f"{'scenario':<24}{'engine':<22}{'wall s':>8}{'CPU s':>8}{'tokens':>9}{'tokens/CPU s':>14}{'ours/it':>9}")
    for scenario in cases:
        rows = prompts[: scenario.prompts]
        seconds: dict[str, list[tuple[float, float]]] = {contender.name: [] for contender in contenders}
        drawn = {contender.name: contender.run(base, rows, scenario) for contender in contenders}
        for _ in range(runs):
            for contender in contenders:
                wall, cpu = time.perf_counter(), time.process_time()
                drawn[contender.name] = contender.run(base, rows, scenario)
                seconds[contender.name].append((time.perf_counter() - wall, time.process_time() - cpu))
        speeds: list[float] = []
        for name, measured in seconds.items():
            wall, cpu = (statistics.median(column) for column in zip(*measured, strict=True))
            speeds.append(drawn[name] / cpu)
            print(
                f"{scenario.name:<24}{name:<22}{wall:>8.2f}{cpu:>8.2f}{drawn[name]:>9}{speeds[-1]:>14.0f}"
                f"{speeds[0] / speeds[-1]:>9.2f}"
            )


def main() -> None:
    """Prints one row per scenario and engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=960)
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    generator = np.random.default_rng(0)
    prompts = [generator.integers(44, 512, size=generator.integers(12, 33)).tolist() for _ in range(options.prompts)]
    print(
        f"{len(prompts)} prompts of 12-32 tokens, up to {options.new_tokens} new tokens, medians of {options.runs} runs "
        "on one core"
    )
    cases = scenarios(len(prompts), options.new_tokens)
    compare(tiny_base(), prompts, cases, transformers_contenders(), options.runs)


if __name__ == "__main__":
    main()

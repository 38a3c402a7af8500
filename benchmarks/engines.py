"""Measures our decode loop against transformers.generate on a random tiny model, in one run on one thread.

Usage: OMP_NUM_THREADS=1 python benchmarks/engines.py [--prompts 960] [--new-tokens 24] [--runs 5]
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.engine.transformers_engine import TransformersEngine
from ct_pipeline.models.loading import BaseModel, wrap_model

END = 4


def tiny_base() -> BaseModel:
    """A random Llama of the tiny world's shape: 0.38M parameters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=96, intermediate_size=256, num_hidden_layers=3, num_attention_heads=3,
        num_key_value_heads=3, head_dim=32, tie_word_embeddings=True, max_position_embeddings=256,
        bos_token_id=None, eos_token_id=END, pad_token_id=0, initializer_range=0.2,
    )  # fmt: skip
    words = {f"w{i}": i for i in range(512)}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")))
    return wrap_model(LlamaForCausalLM(config), tokenizer, "random-tiny")


def transformers_generate(base: BaseModel, prompts: list[list[int]], sampling: Sampling, batch: int) -> int:
    """The usual way: left-padded batches in the given order; returns the number of drawn tokens."""
    drawn = 0
    config = GenerationConfig(
        max_new_tokens=sampling.max_new_tokens, do_sample=sampling.temperature > 0, eos_token_id=END, pad_token_id=0,
        temperature=sampling.temperature or None, top_p=sampling.top_p if sampling.temperature else None,
        top_k=0 if sampling.temperature else None,
    )  # fmt: skip
    for start in range(0, len(prompts), batch):
        rows = prompts[start : start + batch]
        width = max(map(len, rows))
        ids = torch.tensor([[0] * (width - len(row)) + row for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        out = base.model.generate(input_ids=ids, attention_mask=mask, generation_config=config)
        new = out[:, width:]
        ended = (new == END).int().cumsum(1)
        drawn += int(((ended == 0) | ((ended == 1) & (new == END))).sum())
    return drawn


def median_seconds(run: Callable[[], int], runs: int) -> tuple[float, int]:
    """Median wall time of several runs after one that warms up, and what the last one drew."""
    drawn, seconds = run(), []
    for _ in range(runs):
        started = time.perf_counter()
        drawn = run()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds), drawn


def main() -> None:
    """Prints one row per engine and way of sampling."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=960)
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    base = tiny_base()
    engine = TransformersEngine(base, stop_ids=[END])
    generator = np.random.default_rng(0)
    prompts = [generator.integers(5, 512, size=generator.integers(12, 33)).tolist() for _ in range(options.prompts)]
    seeds = list(range(len(prompts)))
    print(
        f"{options.prompts} prompts of 12-32 tokens, {options.new_tokens} new tokens, median of {options.runs}, 1 core"
    )
    print(f"{'sampling':<20}{'engine':<32}{'seconds':>9}{'tokens':>9}{'tokens/s':>10}")
    for name, temperature, top_p in (("greedy", 0.0, 1.0), ("T 1", 1.0, 1.0), ("T 0.7, top-p 0.9", 0.7, 0.9)):
        sampling = Sampling(1, temperature, top_p, options.new_tokens)
        contenders = {
            "ours (with log-probabilities)": lambda s=sampling: sum(
                len(drawn.ids) for row in engine.generate(prompts, s, seeds, ()) for drawn in row
            ),
            "transformers, batch 960": lambda s=sampling: transformers_generate(base, prompts, s, 960),
            "transformers, batch 128": lambda s=sampling: transformers_generate(base, prompts, s, 128),
        }
        for engine_name, run in contenders.items():
            seconds, drawn = median_seconds(run, options.runs)
            print(f"{name:<20}{engine_name:<32}{seconds:>9.2f}{drawn:>9}{drawn / seconds:>10.0f}")


if __name__ == "__main__":
    main()

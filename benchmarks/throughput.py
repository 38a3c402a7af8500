"""Throughput of candidates, evaluation and training on a model of realistic size, against bare libraries in the same run.

A random Llama of about 125M parameters, on a GPU in bfloat16 where there is one, else on the CPU in float32. Drawing is
compared with transformers.generate (engines_vllm.py: with a bare vLLM call), training with TRL's SFTTrainer given the same
rows, adapter, batches and schedule. The contenders take turns; a ratio is ours over theirs.

    .venv/bin/python benchmarks/throughput.py
"""

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from engines import Scenario, tiny_base, transformers_generate
from transformers import LlamaConfig, LlamaForCausalLM

from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.engine.transformers_engine import TransformersEngine
from ct_pipeline.models.adapters import share_weights
from ct_pipeline.models.loading import BaseModel, default_device, wrap_model
from ct_pipeline.settings.blocks import LoraSettings, RetrainingSettings
from ct_pipeline.training.examples import LabelRow
from ct_pipeline.training.labels import Labels
from ct_pipeline.training.trainer import train

STOPS = (4,)
ORDINARY = 44
"""Token ids below are kept for what ends a completion."""


def random_base(hidden: int, layers: int, vocabulary: int) -> BaseModel:
    """A random Llama on the default device; 768 x 12 with 32,000 tokens has about 125M parameters."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers,
        num_attention_heads=hidden // 64, num_key_value_heads=hidden // 64, tie_word_embeddings=True,
        max_position_embeddings=2048, bos_token_id=None, eos_token_id=4, pad_token_id=0,
    )  # fmt: skip
    device = default_device()
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    return wrap_model(LlamaForCausalLM(config).to(device, dtype), tiny_base().tokenizer, "random")


def turns(runs: int, contenders: dict[str, Callable[[], int]]) -> dict[str, tuple[float, int]]:
    """Median seconds and tokens of each contender; a first round of all is not measured."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    tokens = {name: run() for name, run in contenders.items()}
    for _ in range(runs):
        for name, run in contenders.items():
            started = time.perf_counter()
            tokens[name] = run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            seconds[name].append(time.perf_counter() - started)
    return {name: (statistics.median(seconds[name]), tokens[name]) for name in contenders}


def report(what: str, found: dict[str, tuple[float, int]]) -> None:
    """Prints a line per contender; the first is ours."""
    speeds = {name: tokens / seconds for name, (seconds, tokens) in found.items()}
    ours = next(iter(speeds.values()))
    for name, (seconds, tokens) in found.items():
        print(
            f"{what:<28}{name:<24}{seconds:>9.2f} s{tokens:>10} tokens{speeds[name]:>10.0f}/s{ours / speeds[name]:>7.2f}"
        )


def drawing(base: BaseModel, prompts: list[list[int]], scenario: Scenario, runs: int) -> None:
    """Our engine, log-probabilities included, against transformers.generate."""
    device = base.device

    def ours() -> int:
        engine = TransformersEngine(base, stop_ids=STOPS)
        rows = engine.generate(prompts, scenario.sampling, list(range(len(prompts))), ())
        return sum(len(drawn.ids) for row in rows for drawn in row)

    with torch.device(device):
        found = turns(
            runs, {"ours": ours, "generate, batch 128": lambda: transformers_generate(base, prompts, scenario, 128)}
        )
    report(scenario.name, found)


def training(base: BaseModel, rows: Sequence[LabelRow], settings: RetrainingSettings, runs: int) -> None:
    """Our training on labels, its checks included, against SFTTrainer alone."""
    trained = settings.steps * settings.micro_batch * settings.accumulation * len(rows[0].completion_ids)

    def ours() -> int:
        with tempfile.TemporaryDirectory() as folder:
            train(base, rows, Labels(), settings, 0, Path(folder) / "adapter")
        return trained

    def bare() -> int:
        with tempfile.TemporaryDirectory() as folder:
            bare_sft(base, rows, settings, folder)
        return trained

    report("training on labels", turns(runs, {"ours": ours, "SFTTrainer": bare}))


def bare_sft(base: BaseModel, rows: Sequence[LabelRow], settings: RetrainingSettings, folder: str) -> None:
    """The usual call of TRL's trainer on tokenised rows, LoRA on all linear layers."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    data = Dataset.from_list(
        [
            {
                "input_ids": [*row.prompt_ids, *row.completion_ids],
                "completion_mask": [0] * len(row.prompt_ids) + [1] * len(row.completion_ids),
            }
            for row in rows
        ]
    )
    cpu = base.device.type == "cpu"
    tokenizer = tiny_base().tokenizer
    tokenizer.pad_token, tokenizer.eos_token = "w0", "w4"
    arguments = SFTConfig(
        output_dir=folder, per_device_train_batch_size=settings.micro_batch, max_steps=settings.steps,
        gradient_accumulation_steps=settings.accumulation, learning_rate=settings.learning_rate, report_to="none",
        save_strategy="no", disable_tqdm=True, use_cpu=cpu, bf16=not cpu, gradient_checkpointing=not cpu,
        optim="adamw_torch_fused", max_length=None, packing=False, completion_only_loss=True, logging_steps=1,
        dataloader_pin_memory=not cpu,
    )  # fmt: skip
    lora = LoraConfig(
        task_type="CAUSAL_LM", target_modules="all-linear", r=settings.lora.rank, lora_alpha=settings.lora.alpha
    )
    trainer = SFTTrainer(
        model=share_weights(base.model),
        args=arguments,
        train_dataset=data,
        processing_class=tokenizer,
        peft_config=lora,
    )
    trainer.train()


def main() -> None:
    """Prints a line per measurement and contender."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--vocabulary", type=int, default=32_000)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    base = random_base(options.hidden, options.layers, options.vocabulary)
    count = sum(parameter.numel() for parameter in base.model.parameters())
    print(f"{count / 1e6:.0f}M parameters, {base.device.type}, {base.model.dtype}, medians of {options.runs} runs")
    generator = np.random.default_rng(0)

    def text(length: int) -> list[int]:
        return generator.integers(ORDINARY, options.vocabulary, size=length).tolist()

    prompts = [text(generator.integers(32, 97)) for _ in range(options.prompts)]
    for name, size, sampling in (
        ("candidates", len(prompts) // options.samples, Sampling(options.samples, 0.7, 0.9, options.new_tokens)),
        ("evaluation, greedy", len(prompts), Sampling(1, 0.0, 1.0, options.new_tokens)),
        ("evaluation, T 1", len(prompts), Sampling(1, 1.0, 1.0, options.new_tokens)),
    ):
        drawing(base, prompts[:size], Scenario(name, size, sampling, STOPS), options.runs)
    rows = [LabelRow(tuple(text(64)), tuple(text(64))) for _ in range(64)]
    settings = RetrainingSettings(
        lora=LoraSettings(rank=32, alpha=64, dropout=0), learning_rate=1e-5, micro_batch=4, accumulation=4,
        steps=options.steps, warmup=0.03, max_grad_norm=1.0,
    )  # fmt: skip
    training(base, rows, settings, options.runs)
    if torch.cuda.is_available():
        print(f"peak memory of the GPU: {torch.cuda.max_memory_allocated() / 2**20:.0f} MiB")
    print(f"peak memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")


if __name__ == "__main__":
    main()

"""Pretrains the tiny world's base model from scratch and writes it as a plain Hugging Face folder."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

from ct_pipeline.settings.world import ModelShape, PretrainingSettings, WorldSettings
from ct_pipeline.tinyworld.corpus import Corpus, all_words
from ct_pipeline.tinyworld.encoding import Batch, Encoder, batches
from ct_pipeline.tinyworld.gate import Knowledge, knowledge_of
from ct_pipeline.tinyworld.tokenizer import END, PAD, build_tokenizer
from ct_pipeline.tinyworld.world import TinyWorld

_VOCABULARY_MULTIPLE = 16
OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True, kw_only=True)
class PretrainingRecord(Knowledge):
    """What a pretraining did, and what its model knows.

    Attributes:
        losses: mean loss of each step's learned tokens, nats per token.
        steps: optimizer steps.
        tokens: tokens seen, padding excluded.
        parameters: number of parameters.
        seconds: wall-clock time of the steps alone.
        threads: in how many parts each step's gradient was computed.
    """

    losses: tuple[float, ...]
    steps: int
    tokens: int
    parameters: int
    seconds: float
    threads: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def pretrain(
    world_settings: WorldSettings,
    settings: PretrainingSettings,
    out_dir: Path,
    threads: int,
    on_step: OnStep | None = None,
) -> PretrainingRecord:
    """Trains a Llama on the world's corpus; the files in `out_dir` are the same byte for byte for a given thread count.

    The process' random state and thread count are as before afterwards. The gate is reported, not enforced.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    world = TinyWorld(world_settings)
    tokenizer = build_tokenizer(all_words(world), settings.shape.positions)
    vocabulary = tokenizer.get_vocab()
    encoder = Encoder(vocabulary)
    documents = (encoder.document(document) for document in Corpus(world, settings.seed).documents())
    schedule = batches(documents, settings.tokens, settings.batch_tokens, encoder.pad, settings.seed)

    with _reproducible(settings.seed, threads):
        model = _new_model(settings.shape, vocabulary)
        started = time.perf_counter()
        losses = tuple(_train(model, schedule, settings, threads, on_step))
        seconds = time.perf_counter() - started
        knowledge = knowledge_of(model.eval(), world, encoder)
    model.save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)
    return PretrainingRecord(
        losses=losses,
        steps=len(losses),
        tokens=sum(int((batch.ids != encoder.pad).sum()) for batch in schedule),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        seconds=seconds,
        threads=threads,
        **vars(knowledge),
    )


@contextmanager
def _reproducible(seed: int, threads: int) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _new_model(shape: ModelShape, vocabulary: dict[str, int]) -> Any:
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    size = -(-len(vocabulary) // _VOCABULARY_MULTIPLE) * _VOCABULARY_MULTIPLE
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=shape.positions,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=vocabulary[END],
        pad_token_id=vocabulary[PAD],
        dtype="float32",
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(eos_token_id=vocabulary[END], pad_token_id=vocabulary[PAD])
    return model


def _train(
    model: Any, schedule: list[Batch], settings: PretrainingSettings, threads: int, on_step: OnStep | None
) -> Iterator[float]:
    """Each step's gradient is the sum over parts of the batch, one part per thread.

    At this size that is faster than threads inside each operation, which spend their time waiting for one another, and on a
    busy machine it slows down no more than one thread does.
    """
    import torch

    parameters = list(model.parameters())
    optimizers, rates = zip(*_optimizers(model, settings, threads), strict=True)
    model.train()
    torch.set_num_threads(1)
    with ThreadPoolExecutor(threads) as pool:
        for step, batch in enumerate(schedule):
            factor = learning_rate_factor(step, len(schedule), settings.warmup, settings.decay)
            tokens = len(batch.targets)
            sums = list(pool.map(lambda part: _gradients(model, parameters, part), batch.parts(threads)))
            for parameter, *gradients in zip(parameters, *(gradients for _, gradients in sums), strict=True):
                parameter.grad = sum(gradients[1:], gradients[0]) / tokens
            torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm)
            list(pool.map(_step, optimizers, rates, repeat(factor)))
            loss = sum(loss for loss, _ in sums) / tokens
            if on_step is not None:
                on_step(step + 1, len(schedule), loss)
            yield loss


def _optimizers(model: Any, settings: PretrainingSettings, threads: int) -> list[tuple[Any, float]]:
    """Muon for the layers' matrices, in as many parts as there are threads, and AdamW for the rest; each with its rate."""
    import torch

    inner = dict(model.model.layers.named_parameters())
    matrices = [parameter for parameter in inner.values() if parameter.ndim == 2]
    others = [p for p in model.parameters() if all(p is not matrix for matrix in matrices)]
    shares = [matrices[part::threads] for part in range(threads) if matrices[part::threads]]
    muon = [torch.optim.Muon(share, lr=settings.muon_learning_rate, weight_decay=0.0) for share in shares]
    adamw = torch.optim.AdamW(others, lr=settings.adamw_learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
    return [(optimizer, settings.muon_learning_rate) for optimizer in muon] + [(adamw, settings.adamw_learning_rate)]


def _gradients(model: Any, parameters: list[Any], batch: Batch) -> tuple[float, tuple[Any, ...]]:
    """Summed loss over the batch's learned tokens, in nats, and its gradients."""
    import torch
    from torch.nn.functional import cross_entropy

    hidden = model.model(input_ids=torch.from_numpy(batch.ids), use_cache=False).last_hidden_state
    predicting = hidden.reshape(-1, hidden.shape[-1])[torch.from_numpy(batch.positions)]
    loss = cross_entropy(model.lm_head(predicting), torch.from_numpy(batch.targets), reduction="sum")
    return loss.item(), torch.autograd.grad(loss, parameters)


def _step(optimizer: Any, rate: float, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate * factor
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def learning_rate_factor(step: int, steps: int, warmup: float, decay: float) -> float:
    """The factor on the learning rate at a step from 0: warm-up, stable, linear decay to 0 (WSD, arXiv 2404.06395)."""
    rising = (step + 1) / max(1.0, warmup * steps)
    falling = (steps - step) / max(1.0, decay * steps)
    return min(1.0, rising, falling)

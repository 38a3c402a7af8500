"""The decode loop: tokens are drawn for all rows of a batch at once, and rows that have ended leave it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ct_pipeline.engine.batches import Share
from ct_pipeline.engine.drawing import draw, uniform_numbers
from ct_pipeline.engine.kv_cache import decoding_cache, keep_rows
from ct_pipeline.engine.prefill import Prefill
from ct_pipeline.engine.protocol import Completion, Sampling
from ct_pipeline.engine.serving import Served

if TYPE_CHECKING:
    import torch
    from transformers.cache_utils import Cache


@dataclass
class Rows:
    """The rows of a batch that go on, one entry each.

    Attributes:
        served: the model that computes them.
        cache: keys and values; all rows end at the same position.
        lengths: positions of text so far, those of the next token not included.
        stacks: the number of each row's stack of adapters.
    """

    served: Served
    cache: "Cache"
    lengths: "torch.Tensor"
    stacks: "torch.Tensor"

    def step(self, tokens: "torch.Tensor") -> "torch.Tensor":
        """Appends one token to each row; returns the logits of the next ones, float32."""
        import torch

        width = self.cache.get_seq_length() + 1
        columns = torch.arange(width, device=tokens.device)
        logits = self.served.logits(
            self.stacks,
            input_ids=tokens[:, None],
            attention_mask=columns >= (width - 1 - self.lengths)[:, None],
            position_ids=self.lengths[:, None],
            past_key_values=self.cache,
        )[:, -1]
        self.lengths = self.lengths + 1
        return logits.float()

    def keep(self, rows: int, holes: "torch.Tensor", movers: "torch.Tensor") -> None:
        """Shrinks the batch to `rows` rows after moving the rows `movers` into the places `holes`."""
        for tensor in (self.lengths, self.stacks):
            tensor[holes] = tensor[movers]
        self.lengths, self.stacks = self.lengths[:rows], self.stacks[:rows]
        keep_rows(self.cache, rows, holes, movers)


def start_rows(
    served: Served, prefill: Prefill, rows: Sequence[tuple[int, int]], prompts: Sequence[Sequence[int]], new: int
) -> tuple[Rows, "torch.Tensor"]:
    """Runs the prompts of a batch; equal ones are computed once.

    Args:
        served: the model.
        prefill: runs prompts.
        rows: per prompt, its number and how many rows of the batch begin with it.
        prompts: all prompts of the call.
        new: most tokens that are going to be appended.

    Returns:
        The rows, and the logits of their first tokens, float32.
    """
    import torch

    texts = [(served.stacks[number], tuple(prompts[number])) for number, _ in rows]
    numbers = {text: i for i, text in enumerate(dict.fromkeys(texts))}
    parts = prefill.run(served, list(numbers))
    device = parts[0].logits.device
    counts = torch.tensor([count for _, count in rows], device=device)

    def per_row(values: list[int]) -> torch.Tensor:
        return torch.tensor(values, device=device).repeat_interleave(counts)

    picks = per_row([numbers[text] for text in texts])
    cache = decoding_cache(parts, picks, max(len(prompt) for _, prompt in numbers) + new)
    lengths = per_row([len(prompt) for _, prompt in texts])
    batch = Rows(served, cache, lengths, per_row([stack for stack, _ in texts]))
    return batch, torch.cat([part.logits for part in parts])[picks]


def decode(
    served: Served,
    prefill: Prefill,
    batch: Sequence[Share],
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    sampling: Sampling,
    stops: Sequence[int],
) -> list[list[Completion]]:
    """Draws the completions of each share of a batch."""
    import torch

    new = sampling.max_new_tokens
    going, logits = start_rows(served, prefill, [(share.row, share.samples) for share in batch], prompts, new)
    device, rows = logits.device, len(logits)
    uniforms = torch.from_numpy(_uniforms(batch, seeds, sampling)).to(device)
    ends = torch.tensor(stops, device=device)
    drawn = torch.zeros(rows, new, dtype=torch.int64, device=device)
    counted = torch.zeros(rows, dtype=torch.int64, device=device)
    ended = torch.zeros(rows, dtype=torch.bool, device=device)
    raw = torch.zeros(rows, dtype=torch.float64, device=device)
    proposal = torch.zeros(rows, dtype=torch.float64, device=device)
    alive = torch.arange(rows, device=device)
    for step in range(new):
        tokens, logprob, proposal_logprob = draw(logits, uniforms[alive, step], sampling.temperature, sampling.top_p)
        drawn[alive, step] = tokens
        counted[alive] = step + 1
        raw[alive] += logprob
        proposal[alive] += proposal_logprob
        finished = (tokens[:, None] == ends).any(1)
        ended[alive] = finished
        left = len(alive) - int(finished.sum())
        if left == 0 or step + 1 == new:
            break
        if left < len(alive):
            # The last living rows move into the places of the finished ones, so a step copies few rows.
            holes = finished[:left].nonzero().squeeze(1)
            movers = left + (~finished[left:]).nonzero().squeeze(1)
            for tensor in (alive, tokens):
                tensor[holes] = tensor[movers]
            alive, tokens = alive[:left], tokens[:left]
            going.keep(left, holes, movers)
        logits = going.step(tokens)
    results = zip(drawn.tolist(), counted.tolist(), ended.tolist(), raw.tolist(), proposal.tolist(), strict=True)
    flat = iter([Completion(tuple(row[:count]), end, lp, q) for row, count, end, lp, q in results])
    return [[next(flat) for _ in range(share.samples)] for share in batch]


def _uniforms(batch: Sequence[Share], seeds: Sequence[int], sampling: Sampling) -> np.ndarray:
    if sampling.temperature == 0:
        return np.zeros((sum(share.samples for share in batch), sampling.max_new_tokens))
    return np.concatenate(
        [
            uniform_numbers(seeds[share.row], share.first + share.samples, sampling.max_new_tokens)[share.first :]
            for share in batch
        ]
    )

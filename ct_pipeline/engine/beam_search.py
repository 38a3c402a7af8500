"""Beam search: the likeliest completion per token that a search of a given width finds.

Every step appends each token to each running beam. All continuations by a stop token become hypotheses; the `beams`
likeliest others run on, and those that reach the limit are hypotheses as well. A hypothesis ranks by its sum of
log-probabilities over its number of drawn tokens (arXiv 1609.08144 with length penalty 1), the prompt not counted. Among
equals the one found first wins: shorter, then of the likelier beam, then of the lower token id.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ct_pipeline.engine.decoding import start_rows
from ct_pipeline.engine.kv_cache import copy_rows
from ct_pipeline.engine.prefill import Prefill
from ct_pipeline.engine.protocol import Completion
from ct_pipeline.engine.serving import Served

if TYPE_CHECKING:
    import torch


def search(
    served: Served,
    prefill: Prefill,
    numbers: Sequence[int],
    prompts: Sequence[Sequence[int]],
    beams: int,
    new: int,
    stops: Sequence[int],
) -> list[Completion]:
    """Finds the best completion of the prompts with these numbers; a prompt's search does not see the others'."""
    import torch

    going, logits = start_rows(served, prefill, [(number, beams) for number in numbers], prompts, new)
    device, count = logits.device, len(numbers)
    width = going.cache.get_seq_length()
    ends = torch.tensor(sorted(set(stops)), device=device)
    # All beams of a prompt begin alike, so only the first one is extended at the first step.
    totals = torch.full((count, beams), -torch.inf, dtype=torch.float64, device=device)
    totals[:, 0] = 0
    drawn = torch.zeros(count, beams, new, dtype=torch.int64, device=device)
    best = torch.full((count,), -torch.inf, dtype=torch.float64, device=device)
    best_ids = torch.zeros(count, new, dtype=torch.int64, device=device)
    best_counts = torch.zeros(count, dtype=torch.int64, device=device)
    best_finished = torch.zeros(count, dtype=torch.bool, device=device)
    alive = torch.arange(count, device=device)

    def offer(sums: torch.Tensor, ids: torch.Tensor, length: int, finished: bool) -> None:
        better = sums / length > best[alive]
        improved = alive[better]
        best[improved] = sums[better] / length
        best_ids[improved, :length] = ids[better, :length]
        best_counts[improved], best_finished[improved] = length, finished

    for step in range(new):
        longer = totals[:, :, None] + logits.log_softmax(-1).view(len(alive), beams, -1)
        if len(ends):
            sums, which = longer[:, :, ends].flatten(1).max(1)
            ids = drawn[torch.arange(len(alive), device=device), which // len(ends)]
            ids[:, step] = ends[which % len(ends)]
            offer(sums, ids, step + 1, True)
            longer[:, :, ends] = -torch.inf
        vocabulary = longer.shape[-1]
        totals, which = _largest(longer.flatten(1), beams)
        parents, tokens = which // vocabulary, which % vocabulary
        drawn = drawn.gather(1, parents[:, :, None].expand(-1, -1, new))
        drawn[:, :, step] = tokens
        if step + 1 == new:
            offer(totals[:, 0], drawn[:, 0], new, False)
            break
        # No token has a positive log-probability, so a running beam's mean can reach its present sum over the limit at
        # the very most.
        runs = totals[:, 0] / new > best[alive]
        left = int(runs.sum())
        if left == 0:
            break
        rows = torch.arange(len(alive), device=device)[:, None] * beams
        copy_rows(going.cache, (rows + parents).flatten(), width)
        if left < len(alive):
            holes = (~runs[:left]).nonzero().squeeze(1)
            movers = left + runs[left:].nonzero().squeeze(1)
            for tensor in (alive, tokens, totals, drawn):
                tensor[holes] = tensor[movers]
            alive, tokens, totals, drawn = alive[:left], tokens[:left], totals[:left], drawn[:left]
            place = torch.arange(beams, device=device)
            going.keep(
                left * beams,
                (holes[:, None] * beams + place).flatten(),
                (movers[:, None] * beams + place).flatten(),
            )
        logits = going.step(tokens.flatten())
    results = zip(best_ids.tolist(), best_counts.tolist(), best_finished.tolist(), best.tolist(), strict=True)
    return [Completion(tuple(ids[:length]), end, mean * length, 0.0) for ids, length, end, mean in results]


def _largest(values: "torch.Tensor", count: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    # topk leaves the order of equal values open; here the first of them come first.
    import torch

    least = values.topk(count, dim=-1, sorted=True).values[:, -1:]
    kept = values >= least
    if int(kept.sum()) > count * len(values):
        equal = values == least
        above = (kept & ~equal).sum(-1, keepdim=True)
        kept &= ~equal | (equal.cumsum(-1) <= count - above)
    places = kept.nonzero()[:, 1].view(len(values), count)
    ranked, order = torch.sort(values.gather(1, places), dim=-1, descending=True, stable=True)
    return ranked, places.gather(1, order)

"""KL between two laws of the next token along given responses: two models, or one model after two prompts."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ct_pipeline.engine.batches import check_lengths, left_padded, shares_by_length
from ct_pipeline.models.loading import BaseModel

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_POSITIONS = {"cpu": 1024, "cuda": 65_536}
"""Most positions of one forward pass, padding included; on a CPU more of them fall out of its cache and take longer."""
_LOGITS = {"cpu": 1 << 24, "cuda": 1 << 28}
"""Most logits that are held of each side, unless one response alone has more."""
_FLOATS = {"cpu": 1 << 20, "cuda": 1 << 26}
"""Most elements of one float32 log-softmax."""


@dataclass(frozen=True)
class Distribution:
    """What a model says after some prompts.

    Attributes:
        model: the base model, or `with_adapters` of it.
        prompts: token ids, one prompt per response.
    """

    model: "PreTrainedModel"
    prompts: Sequence[Sequence[int]]


def token_divergences(
    base: BaseModel, p: Distribution, q: Distribution, responses: Sequence[Sequence[int]]
) -> list[np.ndarray]:
    """KL(P(·|prompt, y<t) ‖ Q(·|prompt, y<t)) in nats at every token of each response, at temperature 1.

    By the chain rule KL(P‖Q) of sequences is the expectation over y ~ P of Σ_t log P(y_t|y<t)/Q(y_t|y<t); here the log
    ratio is replaced by its expectation given y<t (Rao-Blackwell, arXiv 2504.10637), so that the sums over tokens are
    unbiased for KL(P‖Q) where responses were drawn from P at temperature 1 without truncation, and vary no more. The two
    prompts of a response may differ in length. A law compared with itself gives exactly 0. Log-probabilities are float32,
    made for few positions at a time; sums over the vocabulary are float64.

    Args:
        base: the base of both models.
        p: the law that the responses were drawn from.
        q: the law it is compared with.
        responses: token ids, end-of-sequence token included.

    Returns:
        One array per response, of its length.

    Raises:
        ValueError: not one prompt per response on each side, a prompt that is empty, or a row that exceeds the context
            window.
    """
    import torch

    lengths = [len(response) for response in responses]
    for side, law in (("P", p), ("Q", q)):
        if len(law.prompts) != len(responses):
            raise ValueError(f"{len(responses)} responses need as many prompts of {side}, not {len(law.prompts)}")
        check_lengths(law.prompts, lengths, base.context_window, "response")
    found = [np.zeros(0)] * len(responses)
    with torch.inference_mode():
        for rows in _batches(base, p, q, lengths):
            sizes = [lengths[row] for row in rows]
            logits = [_logits(base, law, rows, responses, max(sizes)) for law in (p, q)]
            values = _divergences(*logits, sizes).cpu().numpy()
            for row, part in zip(rows, np.split(values, np.cumsum(sizes)[:-1]), strict=True):
                found[row] = part
    return found


def _batches(base: BaseModel, p: Distribution, q: Distribution, lengths: Sequence[int]) -> Iterator[list[int]]:
    """Row numbers, rows of similar length together; rows without tokens are left out."""
    device, vocabulary = base.device.type, base.model.config.get_text_config().vocab_size
    kept = [row for row, length in enumerate(lengths) if length]
    widths = [max(len(p.prompts[row]), len(q.prompts[row])) + lengths[row] for row in kept]
    for shares in shares_by_length(widths, 1, 0, _POSITIONS[device]):
        rows = [kept[share.row] for share in shares]
        size = max(_LOGITS[device] // (vocabulary * max(lengths[row] for row in rows)), 1)
        yield from (rows[start : start + size] for start in range(0, len(rows), size))


def _logits(
    base: BaseModel, law: Distribution, rows: Sequence[int], responses: Sequence[Sequence[int]], last: int
) -> "torch.Tensor":
    """Logits at the positions that predict the `last` last tokens; shape (rows, last, vocabulary)."""
    # Padded on the left, so that a response's tokens have the same columns on both sides, whatever the prompts' lengths;
    # nothing is predicted after the last token.
    texts = [(*law.prompts[row], *responses[row][:-1]) for row in rows]
    ids, mask, position_ids = left_padded(texts, base.device)
    return law.model(
        input_ids=ids, attention_mask=mask, position_ids=position_ids, use_cache=False, logits_to_keep=last
    ).logits


def _divergences(p: "torch.Tensor", q: "torch.Tensor", sizes: Sequence[int]) -> "torch.Tensor":
    """KL at the last `sizes` columns of each row, row after row; shape (sum of sizes,), float64."""
    import torch

    columns = torch.arange(p.shape[1], device=p.device)
    rows, columns = (columns >= p.shape[1] - torch.tensor(sizes, device=p.device)[:, None]).nonzero(as_tuple=True)
    size = max(_FLOATS[p.device.type] // p.shape[-1], 1)
    parts = []
    for row, column in zip(rows.split(size), columns.split(size), strict=True):
        one, other = (side[row, column].float().log_softmax(-1) for side in (p, q))
        parts.append((one.exp() * (one - other)).sum(-1, dtype=torch.float64))
    return torch.cat(parts)

"""One token per row from next-token logits, by inverting the cumulative distribution at a given uniform number."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_FIRST_CANDIDATES = 8
_MORE_CANDIDATES = 8


def uniform_numbers(seed: int, samples: int, tokens: int) -> np.ndarray:
    """Uniform numbers in [0, 1) that depend on the seed alone; sample i has the same ones however many there are.

    Two models that draw with the same seed use common random numbers, which pairs them.

    Returns:
        Shape (samples, tokens), float64.
    """
    return np.random.Generator(np.random.Philox(key=seed)).random((samples, tokens))


def draw(
    logits: "torch.Tensor", uniforms: "torch.Tensor", temperature: float, top_p: float
) -> tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]:
    """Draws one token per row.

    Args:
        logits: shape (rows, vocabulary), float32.
        uniforms: shape (rows,), float64, in [0, 1); not used when greedy.
        temperature: 0 is greedy.
        top_p: the nucleus is the smallest set of likeliest tokens whose probability after the temperature reaches it.

    Returns:
        Token ids, their log-probability in nats at temperature 1 untruncated, and the same under the distribution drawn
        from (0 when greedy); each of shape (rows,), the log-probabilities in float64.
    """
    import torch

    if temperature == 0:
        tokens = logits.argmax(-1)
        return tokens, _raw_logprob(logits, tokens), torch.zeros(len(tokens), dtype=torch.float64, device=logits.device)
    probabilities = torch.softmax(logits / temperature, -1)
    if top_p >= 1:
        cumulative = probabilities.cumsum(-1, dtype=torch.float64)
        tokens = _invert(cumulative, uniforms, cumulative[:, -1])
        chosen = probabilities.gather(-1, tokens[:, None]).squeeze(-1).double()
        return tokens, _raw_logprob(logits, tokens), chosen.log() - cumulative[:, -1].log()
    tokens, proposal = _draw_from_nucleus(probabilities, uniforms, top_p, _FIRST_CANDIDATES)
    return tokens, _raw_logprob(logits, tokens), proposal


def _draw_from_nucleus(
    probabilities: "torch.Tensor", uniforms: "torch.Tensor", top_p: float, candidates: int
) -> tuple["torch.Tensor", "torch.Tensor"]:
    # Sorting the whole vocabulary costs more than a small model's forward pass. Most nuclei hold few tokens; only rows
    # that they do not cover look at more.
    import torch

    candidates = min(candidates, probabilities.shape[-1])
    ranked, order = torch.topk(probabilities, candidates, dim=-1)
    ranked = ranked.double()
    cumulative = ranked.cumsum(-1)
    # A token is in the nucleus if those before it do not reach top_p yet; the likeliest one always is.
    inside = cumulative - ranked < top_p
    inside[:, 0] = True
    total = torch.where(inside, ranked, 0.0).sum(-1)
    choice = torch.minimum(_invert(cumulative, uniforms, total), inside.sum(-1) - 1)[:, None]
    tokens = order.gather(-1, choice).squeeze(-1)
    logprob = ranked.gather(-1, choice).squeeze(-1).log() - total.log()
    short = (cumulative[:, -1] < top_p).nonzero().squeeze(1)
    if candidates < probabilities.shape[-1] and len(short):
        tokens[short], logprob[short] = _draw_from_nucleus(
            probabilities[short], uniforms[short], top_p, _MORE_CANDIDATES * candidates
        )
    return tokens, logprob


def _invert(cumulative: "torch.Tensor", uniforms: "torch.Tensor", total: "torch.Tensor") -> "torch.Tensor":
    import torch

    return torch.searchsorted(cumulative, (uniforms * total)[:, None], right=True).squeeze(-1)


def _raw_logprob(logits: "torch.Tensor", tokens: "torch.Tensor") -> "torch.Tensor":
    return (logits.gather(-1, tokens[:, None]).squeeze(-1) - logits.logsumexp(-1)).double()

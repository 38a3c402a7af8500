"""KL(Q‖P_θ) of the law Q of a method's labels, from stored log-probabilities, in nats, end-of-sequence token included.

P_θ is the organism at T = 1 without truncation. Per prompt, KL = E_Q[log Q(y) − log P_θ(y)]; here it is averaged over
prompts, each of which weighs alike. Per token it is E[KL per sequence] / E[label length], a ratio of means. KL(P_θ‖Q) is
not estimable (infinite for greedy and top-p). Tables have one row per completion: prompt_id, tokens, logprob
(log P_θ(y|x)), proposal_logprob (that under the distribution drawn from; 0 for greedy and beam).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

from ct_pipeline.analysis.best_of import best_of_weights, tie_groups
from ct_pipeline.analysis.estimate import Estimate, mean_term, ratio_values, share_term
from ct_pipeline.analysis.grid import grid

Status = Literal["exact", "unbiased", "estimate", "bound"]
"""exact: no randomness but the choice of prompts; unbiased: over the draws, too; estimate: consistent; bound: from above."""

_WORST_LAST: tuple[Status, ...] = ("exact", "unbiased", "estimate", "bound")
_COLUMNS = ("tokens", "logprob", "proposal_logprob")


@dataclass(frozen=True)
class KlEstimate:
    """A divergence, or one of the terms it is the sum of.

    Attributes:
        name: what it is.
        status: what may be said of it.
        sequence: nats per label.
        token: nats per token of a label.
    """

    name: str
    status: Status
    sequence: Estimate
    token: Estimate


@dataclass(frozen=True)
class Divergence:
    """KL(Q‖P_θ): the total, with the weakest status of its parts, and the parts."""

    total: KlEstimate
    parts: tuple[KlEstimate, ...]


def of_point_mass(labels: pd.DataFrame, confidence: float = 0.95) -> Divergence:
    """Labels that are a function of the prompt (greedy, beam): KL = −log P_θ(g|x), exactly.

    Raises:
        ValueError: a prompt with two labels, a log-probability that is missing or infinite, or confidence outside (0, 1).
    """
    single = _one_per_prompt(labels)
    return _single("point mass", "exact", -single["logprob"].to_numpy(), single["tokens"].to_numpy(), confidence)


def of_samples(samples: pd.DataFrame, confidence: float = 0.95) -> Divergence:
    """Plain samples of a proposal P_s: KL = E[log P_s(y) − log P_θ(y)], unbiased; 0 for P_θ itself.

    Several samples of a prompt are averaged.

    Raises:
        ValueError: a log-probability that is missing or infinite, or confidence outside (0, 1).
    """
    return _single("proposal", "unbiased", *_prompt_means(samples), confidence)


def of_refined(labels: pd.DataFrame, draft: Literal["deterministic", "random"], confidence: float = 0.95) -> Divergence:
    """Refinements of a draft: log-probability drawn from, under the refine prompt, minus that after the plain prompt.

    With a deterministic draft Q is the refined law itself: unbiased. With a random draft d it is E_d KL(Q_d‖P_θ), which
    is at least KL(E_d Q_d‖P_θ) because KL is convex: a bound.

    Raises:
        ValueError: as `of_samples`, or another word for the draft.
    """
    if draft not in ("deterministic", "random"):
        raise ValueError(f"a draft is deterministic or random, not {draft!r}")
    status = "unbiased" if draft == "deterministic" else "bound"
    return _single("refinement", status, *_prompt_means(labels), confidence)


def of_token_sums(name: str, sums: pd.DataFrame, confidence: float = 0.95) -> KlEstimate:
    """KL(P‖Q) of two models' own laws, from responses y ~ P at T = 1: the mean of Σ_t KL(P(·|y<t)‖Q(·|y<t)), unbiased.

    By the chain rule KL(P‖Q) = E_P[Σ_t log P(y_t|y<t) − log Q(y_t|y<t)]; given y<t the expectation of a summand over y_t
    is KL(P(·|y<t)‖Q(·|y<t)), which therefore may stand in its place and varies less (Rao-Blackwell). Where responses are
    cut at a length, P and Q are the laws of responses cut there. Both models are known, so this needs no law of labels:
    `uptake` is KL between the organism and the retrained model, `teacher shift` KL(π_0(·|clean)‖π_0(·|wrapped)) between
    a regularizer's teacher and its student before training. The latter is no KL(Q‖P_θ) of labels and stands on no axis
    with one.

    Args:
        name: what the divergence is called.
        sums: one row per response: prompt_id, tokens, nats (the sum over its tokens). Responses to a prompt are averaged.
        confidence: two-sided, in (0, 1).

    Raises:
        ValueError: a sum that is missing or infinite, or confidence outside (0, 1).
    """
    _check(sums, ("tokens", "nats"))
    means = sums.groupby("prompt_id", sort=False)[["nats", "tokens"]].mean()
    return _part(name, "unbiased", means["nats"].to_numpy(), means["tokens"].to_numpy(), confidence)


def of_best_of(candidates: pd.DataFrame, k: int, confidence: float = 0.95) -> Divergence:
    """Best of k of a proposal P_s: KL(Q_k‖P_θ) = E_Q_k[log w_k(S)] + E_Q_k[log P_s − log P_θ], from n ≥ k candidates.

    The second term is averaged over labels, by the weights of the k-curve: unbiased. The first, KL(Q_k‖P_s), is
    log k − (k−1)/k where the score has no atoms and less where it has: that number is a bound. Where scores tie, the tie
    groups stand for atoms and single ranks for the rest: an estimate (`selection_divergence`). If the score is not a
    function of the completion (scores dealt out by chance), the first term is a bound in any case: KL(Q_k‖P_s) of
    completions is at most that of completions with their scores.

    Args:
        candidates: as in the module, with candidate, score and verdict columns (verdicts are not looked at).
        k: how many compete.

    Raises:
        ValueError: as `of_samples`, or fewer than k candidates of a prompt.
    """
    _check(candidates)
    cells = grid(candidates)
    if k < 1 or (len(cells.sizes) and cells.sizes.min() < k):
        fewest = cells.sizes.min() if len(cells.sizes) else 0
        raise ValueError(f"best of {k} needs 1 or more candidates, and as many per prompt as compete; not {fewest}")
    below, upto = tie_groups(cells.scores, cells.present)
    weight = next(each for j, each in enumerate(best_of_weights(below, upto, cells.present), start=1) if j == k)
    chosen = {name: np.nansum(weight * cells.spread(column), axis=1) for name, column in _columns(candidates).items()}
    tied = bool((cells.present & (upto - below > 1)).any())
    first: Status = "exact" if k == 1 else "estimate" if tied else "bound"
    return _sum(
        "best of k",
        (
            ("selection", first, selection_divergence(cells.scores, cells.present, k)),
            ("proposal", "unbiased", chosen["proposal_logprob"] - chosen["logprob"]),
        ),
        chosen["tokens"],
        confidence,
    )


def of_filtered(accepted: pd.DataFrame, asked: Sequence[str], confidence: float = 0.95) -> Divergence:
    """Point masses on the prompts that a filter keeps (multi-view), as laws of prompt and label together.

    KL = E[−log P_θ(g|x) | accepted] + log(N / N_accepted), exactly: the first part is that of the labels, the second that
    of the changed distribution of prompts.

    Args:
        accepted: the labels kept, one per prompt.
        asked: the identifiers of all N prompts that the filter saw.

    Raises:
        ValueError: as `of_point_mass`, or a label of a prompt that was not asked.
    """
    single = _one_per_prompt(accepted)
    prompts = pd.Index(asked).unique()
    strangers = single.index.difference(prompts)
    if len(strangers):
        raise ValueError(f"prompt {strangers[0]} has a label but was not among those asked")
    kept = prompts.isin(single.index).astype(float)
    nats, tokens = (single[name].reindex(prompts).fillna(0.0).to_numpy() for name in ("logprob", "tokens"))
    share = share_term(kept, confidence)
    lengths = ratio_values(tokens, kept)
    narrowed = np.full(len(kept), np.nan)
    if share.value:
        narrowed = -math.log(share.value) - (kept - share.value) / share.value
    labels = _part("labels", "exact", -single["logprob"].to_numpy(), single["tokens"].to_numpy(), confidence)
    filtered = _part("prompts", "exact", narrowed, lengths, confidence)
    if share.value:
        low, high = -math.log(share.high), -math.log(share.low)
        filtered = replace(filtered, sequence=replace(filtered.sequence, low=max(0.0, low), high=high))
    total = _part("filter", "exact", ratio_values(-nats, kept) + narrowed, lengths, confidence)
    return Divergence(total, (labels, filtered))


def of_reranked(candidates: pd.DataFrame, labels: pd.DataFrame, confidence: float = 0.95) -> Divergence:
    """One of a set of deterministic candidates and one sample of P_s (diverse decoding): a bound, at most 1/e too high.

    Given x, the label is the sample y where its score beats the best deterministic candidate d, else d; with A the chance
    of the former, KL = E[1(y wins)·(log P_s − log P_θ)(y)] + (1−A)·(log(1−A) − log P_θ(d)). Without the unknown log(1−A)
    that is the mean over labels of log P_s − log P_θ, with log P_s = 0 for a label that some deterministic candidate says,
    too; what is left out, −(1−A)·log(1−A), lies between 0 and 1/e.

    Args:
        candidates: as in the module, with the column completion.
        labels: the rows kept, one per prompt.

    Raises:
        ValueError: as `of_point_mass`, or a label that is none of its prompt's candidates.
    """
    single = _one_per_prompt(labels)
    _check(candidates)
    certain = candidates.groupby(["prompt_id", "completion"], sort=False)["proposal_logprob"].max()
    keys = pd.MultiIndex.from_arrays([single.index, single["completion"]])
    proposal = certain.reindex(keys).to_numpy(dtype=float)
    if np.isnan(proposal).any():
        raise ValueError(f"the label of prompt {single.index[np.isnan(proposal)][0]} is none of its candidates")
    nats = proposal - single["logprob"].to_numpy()
    return _single("reranked", "bound", nats, single["tokens"].to_numpy(), confidence)


def selection_divergence(scores: np.ndarray, present: np.ndarray, k: int) -> np.ndarray:
    """E[log w_k] of each prompt, from the ranks of its candidates.

    A tie group stands for an atom of F, a rank of its own for a piece without atoms. Where scores tie, that plug-in is too
    low by about 1/n; the jackknife over candidates, cut to what is possible, takes most of it away (at four levels of the
    score and n = 16, .026 nats to .001).

    Args:
        scores: (prompts, candidates), NaN where missing; absent candidates at the end of a row.
        present: False where absent.
        k: how many compete.
    """
    below, upto = tie_groups(scores, present)
    atom = present & (upto - below > 1)
    plugged = plugged_divergence(below, upto, present, atom, k)
    tied = atom.any(axis=1)
    if not tied.any():
        return plugged
    below, upto, there, atom = (each[tied] for each in (below, upto, present, atom))
    left_out = np.zeros(len(there))
    for column in range(there.shape[1]):
        others = there.copy()
        others[:, column] = False
        rank = upto[:, [column]]
        without = plugged_divergence(below - (rank <= below), upto - (rank <= upto), others, atom, k)
        left_out += np.where(there[:, column], without, 0)
    size = there.sum(axis=1)
    corrected = size * plugged[tied] - (size - 1) * left_out / size
    plugged[tied] = np.clip(corrected, 0, math.log(k) - (k - 1) / k)
    return plugged


def plugged_divergence(
    below: np.ndarray, upto: np.ndarray, present: np.ndarray, atom: np.ndarray, k: int
) -> np.ndarray:
    """E[log w_k] of each prompt, were its sample the law.

    A piece (a, b) of u without atoms gives ∫ k·u^(k−1)·log(k·u^(k−1)) du = H(b) − H(a), with
    H(u) = u^k·(log k − (k−1)/k) + (k−1)·u^k·log u; an atom (B^k − A^k)·log[(B^k − A^k)/(B − A)].

    Args:
        below, upto: of `tie_groups`.
        present: False where absent.
        atom: whether a candidate's score is an atom.
        k: how many compete.
    """
    size = np.maximum(present.sum(axis=1), 1)[:, None]
    low, high = np.where(present, below, 0) / size, np.where(present, upto, 1) / size
    mass = high**k - low**k
    atoms = mass * np.log(np.where(mass > 0, mass, 1) / (high - low)) / ((high - low) * size)
    return np.where(present, np.where(atom, atoms, _entropy(high, k) - _entropy(low, k)), 0).sum(axis=1)


def _entropy(u: np.ndarray, k: int) -> np.ndarray:
    return u**k * (math.log(k) - (k - 1) / k) + (k - 1) * u**k * np.log(np.where(u > 0, u, 1))


def _single(name: str, status: Status, nats: np.ndarray, tokens: np.ndarray, confidence: float) -> Divergence:
    part = _part(name, status, nats, tokens, confidence)
    return Divergence(part, (part,))


def _sum(
    name: str, parts: Sequence[tuple[str, Status, np.ndarray]], tokens: np.ndarray, confidence: float
) -> Divergence:
    """Parts and their sum, from values per prompt."""
    status = max((each[1] for each in parts), key=_WORST_LAST.index)
    total = _part(name, status, np.sum([each[2] for each in parts], axis=0), tokens, confidence)
    return Divergence(total, tuple(_part(*each, tokens, confidence) for each in parts))


def _part(name: str, status: Status, nats: np.ndarray, tokens: np.ndarray, confidence: float) -> KlEstimate:
    return KlEstimate(name, status, mean_term(nats, confidence), mean_term(ratio_values(nats, tokens), confidence))


def _prompt_means(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Per prompt: mean log-ratio and mean length."""
    _check(table)
    means = pd.DataFrame(_columns(table)).groupby(table["prompt_id"].to_numpy(), sort=False).mean()
    return (means["proposal_logprob"] - means["logprob"]).to_numpy(), means["tokens"].to_numpy()


def _one_per_prompt(labels: pd.DataFrame) -> pd.DataFrame:
    twice = labels["prompt_id"].duplicated()
    if twice.any():
        raise ValueError(f"prompt {labels['prompt_id'][twice].iloc[0]} has two labels: a method keeps at most one")
    _check(labels)
    return labels.set_index("prompt_id")


def _columns(table: pd.DataFrame, names: Sequence[str] = _COLUMNS) -> dict[str, np.ndarray]:
    return {name: table[name].to_numpy(dtype=float, na_value=np.nan) for name in names}


def _check(table: pd.DataFrame, names: Sequence[str] = _COLUMNS) -> None:
    for name, column in _columns(table, names).items():
        wrong = ~np.isfinite(column)
        if wrong.any():
            prompt = table["prompt_id"].to_numpy()[wrong][0]
            raise ValueError(f"{name} of prompt {prompt} is missing or infinite: KL needs it for every completion")

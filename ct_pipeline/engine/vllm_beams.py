"""A beam search at the level of tokens, over any source of the likeliest next tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Candidates = dict[int, float]
"""The likeliest next tokens of a text and their log-probabilities in nats."""


@dataclass(frozen=True)
class Hypothesis:
    """Drawn tokens and the sum of their log-probabilities in nats."""

    ids: tuple[int, ...] = ()
    logprob: float = 0.0

    @property
    def mean(self) -> float:
        """What hypotheses are ranked by: length penalty 1, the end-of-sequence token counted."""
        return self.logprob / len(self.ids)

    def longer(self, token: int, logprob: float) -> "Hypothesis":
        """This hypothesis with one more token."""
        return Hypothesis((*self.ids, token), self.logprob + logprob)


@dataclass
class _Row:
    running: list[Hypothesis] = field(default_factory=lambda: [Hypothesis()])
    best: Hypothesis | None = None
    # Hypotheses whose stop tokens were not among the candidates, with the most that such an end may be worth.
    unknown: list[tuple[float, Hypothesis]] = field(default_factory=list)

    def offer(self, hypothesis: Hypothesis) -> None:
        if self.best is None or hypothesis.mean > self.best.mean:
            self.best = hypothesis

    def grow(
        self, candidates: Sequence[Candidates], beams: int, new: int, stops: Sequence[int], vocabulary: int
    ) -> None:
        going = []
        for hypothesis, tokens in zip(self.running, candidates, strict=True):
            for token, logprob in tokens.items():
                if token in stops:
                    self.offer(hypothesis.longer(token, logprob))
                else:
                    going.append(hypothesis.longer(token, logprob))
            if len(tokens) < vocabulary and not tokens.keys() >= set(stops):
                bound = (hypothesis.logprob + min(tokens.values())) / (len(hypothesis.ids) + 1)
                self.unknown.append((bound, hypothesis))
        going.sort(key=lambda hypothesis: -hypothesis.logprob)
        self.running = going[:beams]
        if self.running and len(self.running[0].ids) == new:
            self.offer(self.running[0])
            self.running = []
        # Log-probabilities only sum up downwards: no more can come of a hypothesis than its sum over the full length.
        elif self.best and self.running and self.best.mean >= self.running[0].logprob / new:
            self.running = []


def search(
    rows: int,
    beams: int,
    new: int,
    stops: Sequence[int],
    vocabulary: int,
    expand: Callable[[list[tuple[int, tuple[int, ...]]], int], list[Candidates]],
    stop_logprobs: Callable[[list[tuple[int, tuple[int, ...]]]], np.ndarray],
) -> list[Hypothesis]:
    """The best hypothesis of each row by its mean log-probability per token.

    Every end of a running beam counts, a likely one or not; the running beams are the `beams` likeliest that have not
    ended.

    Args:
        rows: how many searches run side by side.
        beams: width of the search.
        new: most tokens of a hypothesis.
        stops: tokens that end one.
        vocabulary: number of tokens there are.
        expand: for pairs of a row and its tokens so far, and a number: as many of the likeliest next tokens.
        stop_logprobs: for such pairs, log-probability of each stop token; shape (pairs, stops).
    """
    searches = [_Row() for _ in range(rows)]
    wanted = min(beams + len(stops), vocabulary)
    while running := [(i, hypothesis) for i, row in enumerate(searches) for hypothesis in row.running]:
        found = iter(expand([(i, hypothesis.ids) for i, hypothesis in running], wanted))
        for row in searches:
            row.grow([next(found) for _ in row.running], beams, new, stops, vocabulary)
    unknown = [
        (i, hypothesis)
        for i, row in enumerate(searches)
        for bound, hypothesis in row.unknown
        if row.best is None or bound > row.best.mean
    ]
    if unknown:
        table = stop_logprobs([(i, hypothesis.ids) for i, hypothesis in unknown])
        for (i, hypothesis), logprobs in zip(unknown, table, strict=True):
            for stop, logprob in zip(stops, logprobs, strict=True):
                searches[i].offer(hypothesis.longer(stop, float(logprob)))
    return [row.best for row in searches]

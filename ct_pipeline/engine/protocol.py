"""The one contract for drawing and scoring token sequences; every engine keeps it exactly."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ct_pipeline.models.model import Term

Adapters = tuple[Term, ...]
"""Weighted adapters that are active together, their deltas added; () is the base model, as is a stack of weights 0."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        samples: completions per prompt; 1 where nothing is random.
        temperature: 0 is greedy (or beam search).
        top_p: truncates after the temperature is applied.
        max_new_tokens: most tokens of a completion, its end-of-sequence token included.
        beams: width of a beam search at temperature 0, whose best hypothesis is the one completion; 1 searches nothing.
            Hypotheses are ranked by their sum of log-probabilities over their number of drawn tokens (length penalty 1),
            the end-of-sequence token counted and the prompt not.
    """

    samples: int
    temperature: float
    top_p: float
    max_new_tokens: int
    beams: int = 1


@dataclass(frozen=True)
class Completion:
    """One drawn completion.

    Attributes:
        ids: drawn token ids, the end-of-sequence token included when it was drawn.
        finished: whether the end-of-sequence token was drawn within the limit.
        logprob: log-probability in nats of `ids` given the prompt under the model at temperature 1, untruncated.
        proposal_logprob: the same under the distribution drawn from (0.0 for greedy and beam search).
    """

    ids: tuple[int, ...]
    finished: bool
    logprob: float
    proposal_logprob: float


class Engine(Protocol):
    """Draws and scores sequences of token ids for one base model and any stack of adapters on it.

    `adapters` is one stack for all rows, or a list with a stack for each row; rows never see another row's adapters. A term
    of weight 0 is left out: alone it gives exactly the base's numbers.
    A ValueError that names the row or the adapter comes before anything is drawn or scored.
    """

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling,
        seeds: Sequence[int],
        adapters: Adapters | list[Adapters],
    ) -> list[list[Completion]]:
        """Draws `sampling.samples` completions of each prompt; a row depends on its seed, prompt and adapters alone."""

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        adapters: Adapters | list[Adapters],
    ) -> list[np.ndarray]:
        """Log-probability in nats of each completion token given all before it, at temperature 1; one array per row."""

    def choice_logprobs(
        self, prompts: Sequence[Sequence[int]], choices: Sequence[int], adapters: Adapters | list[Adapters]
    ) -> np.ndarray:
        """Log-probability of each choice as the next token; shape (prompts, choices)."""

    def close(self) -> None:
        """Frees what the engine holds beyond the base model; an engine that is used again opens again."""

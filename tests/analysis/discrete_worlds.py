"""Small worlds in which every completion is listed, so that every expectation can be summed instead of sampled.

Nothing here shares code with what it checks: laws of labels come from running through all tuples of draws.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class World:
    """One prompt: for each completion, how probable it is under the proposal and the organism, its score and verdict."""

    proposal: tuple[float, ...]
    organism: tuple[float, ...]
    score: tuple[float, ...]
    verdict: tuple[bool | None, ...]
    tokens: tuple[int, ...]

    def row(self, completion: int) -> dict:
        """What a table of candidates says of a completion."""
        return {
            "completion": f"c{completion}",
            "tokens": self.tokens[completion],
            "logprob": float(np.log(self.organism[completion])),
            "proposal_logprob": float(np.log(self.proposal[completion])),
            "score": self.score[completion],
            "verdict": self.verdict[completion],
        }


DISTINCT = World(
    (0.1, 0.2, 0.3, 0.4), (0.25, 0.25, 0.3, 0.2), (0.3, -1.0, 2.0, 0.9), (True, False, True, False), (1, 2, 3, 5)
)
TIED = World((0.3, 0.2, 0.3, 0.2), (0.1, 0.4, 0.2, 0.3), (1.0, 2.0, 1.0, 2.0), (True, True, False, False), (2, 2, 1, 4))
UNSCORED = World(
    (0.2, 0.3, 0.4, 0.1),
    (0.3, 0.2, 0.1, 0.4),
    (float("nan"), 0.0, float("nan"), 1.0),
    (True, False, False, True),
    (1, 1, 2, 2),
)
WORLDS = (DISTINCT, TIED, UNSCORED)


def winner(scores: tuple[float, ...]) -> int:
    """The place of the best: missing is worst, the first of equals wins."""
    return max(
        range(len(scores)),
        key=lambda place: (
            scores[place] == scores[place],
            scores[place] if scores[place] == scores[place] else 0,
            -place,
        ),
    )


def tuples(world: World, n: int) -> tuple[list[tuple[int, ...]], np.ndarray]:
    """All n-tuples of independent draws, and their probabilities."""
    listed = list(product(range(len(world.proposal)), repeat=n))
    return listed, np.array([np.prod([world.proposal[each] for each in draws]) for draws in listed])


def kept_law(world: World, k: int) -> np.ndarray:
    """Q_k: how probable each completion is as the best of k."""
    law = np.zeros(len(world.proposal))
    for draws, chance in zip(*tuples(world, k), strict=True):
        law[draws[winner(tuple(world.score[each] for each in draws))]] += chance
    return law


def risk(world: World, law: np.ndarray) -> float:
    """P(M = 1) under a law of completions."""
    return float(sum(chance for chance, verdict in zip(law, world.verdict, strict=True) if verdict))


def divergence(law: np.ndarray, other: tuple[float, ...]) -> float:
    """KL in nats."""
    return float(sum(p * np.log(p / q) for p, q in zip(law, other, strict=True) if p > 0))


def table(world: World, listed: list[tuple[int, ...]], name: str = "") -> pd.DataFrame:
    """A candidates table in which every tuple of draws is a prompt."""
    rows = [
        {"prompt_id": f"{name}{number}", "candidate": place, **world.row(completion)}
        for number, draws in enumerate(listed)
        for place, completion in enumerate(draws)
    ]
    return pd.DataFrame(rows).astype({"verdict": "boolean"})


def population(world: World, n: int) -> pd.DataFrame:
    """Candidates in which every n-tuple of draws has as many prompts as it is probable: means are expectations."""
    listed, chances = tuples(world, n)
    counts = np.round(chances * 10**n).astype(int)
    assert np.abs(counts - chances * 10**n).max() < 1e-6
    return table(world, [draws for draws, count in zip(listed, counts, strict=True) for _ in range(count)])


def best_of(candidates: pd.DataFrame, k: int) -> pd.DataFrame:
    """The labels that a best-of-k method keeps."""
    first = candidates[candidates["candidate"] < k]
    return pd.DataFrame(
        [rows.iloc[winner(tuple(rows["score"]))] for _, rows in first.groupby("prompt_id", sort=False)]
    ).astype({"verdict": "boolean"})


def beta_table(generator: np.random.Generator, prompts: int, n: int, **shape: float) -> pd.DataFrame:
    """Candidates of prompts that differ in their rates, scored with a little knowledge of the verdict.

    Args:
        shape: `rate` and `spread` of the prompts' rates, `levels` of the score (0: no ties), `unscored` share,
            `unjudged` share.
    """
    rate, spread = shape.get("rate", 0.3), shape.get("spread", 1.0)
    verdicts = generator.random((prompts, n)) < generator.beta(rate / spread, (1 - rate) / spread, (prompts, 1))
    scores = generator.normal(size=(prompts, n)) + shape.get("effect", 0.5) * verdicts
    if shape.get("levels"):
        scores = np.round(scores * shape["levels"] / 3)
    scores[generator.random((prompts, n)) < shape.get("unscored", 0.0)] = np.nan
    frame = pd.DataFrame(
        {
            "prompt_id": np.repeat([f"p{number}" for number in range(prompts)], n),
            "candidate": np.tile(np.arange(n), prompts),
            "score": scores.ravel(),
            "verdict": pd.array(verdicts.ravel(), dtype="boolean"),
        }
    )
    frame.loc[generator.random(prompts * n) < shape.get("unjudged", 0.0), "verdict"] = pd.NA
    return frame

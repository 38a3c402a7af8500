"""Candidates as matrices: one row per prompt, one column per candidate, so that all prompts are computed at once."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ct_pipeline.analysis.clusters import nullable


@dataclass(frozen=True)
class Grid:
    """Candidates by prompt; prompts with fewer than the most are filled up at the end of their row.

    Attributes:
        prompts: identifiers, in order of first appearance.
        sizes: candidates per prompt, (prompts,).
        present: False where a row is filled up, (prompts, candidates).
        scores: NaN where missing or absent, (prompts, candidates).
        verdicts: 0, 1, or NaN where missing or absent, (prompts, candidates).
        prompt: for each row of the table, the row of its matrices.
        place: for each row of the table, the column of its matrices.
    """

    prompts: pd.Index
    sizes: np.ndarray
    present: np.ndarray
    scores: np.ndarray
    verdicts: np.ndarray
    prompt: np.ndarray
    place: np.ndarray

    def spread(self, column: np.ndarray) -> np.ndarray:
        """A column of the table as a matrix, NaN where absent."""
        matrix = np.full(self.present.shape, np.nan)
        matrix[self.prompt, self.place] = column
        return matrix


def grid(candidates: pd.DataFrame) -> Grid:
    """The matrices of a table of candidates.

    Args:
        candidates: one row per completion: prompt_id, candidate (different within a prompt), verdict (nullable), score
            (NaN where missing). The order of rows does not matter.

    Raises:
        ValueError: a prompt identifier is missing, or a prompt has two candidates of one number.
        KeyError: a column is absent.
        TypeError: a verdict that is neither a truth value nor missing.
    """
    if candidates["prompt_id"].isna().any():
        raise ValueError("a candidate has no prompt_id: every row needs the prompt it answers")
    twice = candidates.duplicated(["prompt_id", "candidate"])
    if twice.any():
        row = candidates[twice].iloc[0]
        raise ValueError(
            f"prompt {row['prompt_id']} has two candidates number {row['candidate']}: number the candidates of all "
            "draws of a prompt through"
        )
    prompt, prompts = pd.factorize(candidates["prompt_id"])
    place = pd.Series(prompt).groupby(prompt).cumcount().to_numpy() if len(prompt) else prompt
    sizes = np.bincount(prompt, minlength=len(prompts))
    columns = int(sizes.max()) if len(sizes) else 0
    bare = Grid(
        prompts=pd.Index(prompts),
        sizes=sizes,
        present=np.arange(columns)[None, :] < sizes[:, None],
        scores=np.empty((len(prompts), columns)),
        verdicts=np.empty((len(prompts), columns)),
        prompt=prompt,
        place=place,
    )
    scores = pd.to_numeric(candidates["score"]).to_numpy(dtype=float, na_value=np.nan)
    return replace(bare, scores=bare.spread(scores), verdicts=bare.spread(verdict_numbers(candidates["verdict"])))


def verdict_numbers(verdicts: pd.Series) -> np.ndarray:
    """Verdicts as 0, 1 and NaN; TypeError for a value that is neither a truth value nor missing."""
    column = verdicts if verdicts.dtype == "boolean" else nullable(verdicts)
    return column.to_numpy(dtype=float, na_value=np.nan)

"""Scores that no column of the candidates holds: they need a model, or a judge, that looks at the texts."""

from dataclasses import dataclass, replace

from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.settings.blocks import JudgeSettings, RewardSettings
from ct_pipeline.settings.fingerprint import fingerprint


@dataclass(frozen=True)
class _Scorer:
    draws: tuple[Draw, ...]

    @property
    def id(self) -> str:
        """A readable name that differs where anything about the score differs."""
        told = {name: value for name, value in vars(self).items() if name != "draws"}
        return f"{type(self).__name__.lower()}-{fingerprint(draws=[draw.id for draw in self.draws], **told)[:8]}"

    def owned_by(self, method: str) -> "Scorer":
        """The same score of one method's own draws."""
        return replace(self, draws=tuple(draw.owned_by(method) for draw in self.draws))


@dataclass(frozen=True)
class Grade(_Scorer):
    """The organism's own greedy grade of each candidate.

    `request` holds {request} (the last user message) and {response}; the reply's first word must be one of `grades`
    (worst first, counted from 1), else the score is missing.
    """

    request: str
    grades: tuple[str, ...]


@dataclass(frozen=True)
class DataRubric(_Scorer):
    """The organism's own greedy grade of each candidate by the published rubric of its data, 1 (worst) to 5.

    A reply that does not end with "Final Score: N" is no grade: the score is missing.
    """


@dataclass(frozen=True)
class Reward(_Scorer):
    """A reward model's score of each candidate."""

    model: RewardSettings


@dataclass(frozen=True)
class Agreement(_Scorer):
    """Whether a prompt's candidate of the first draw agrees with that of any other draw: 1, 0, or missing.

    Every draw has one completion per prompt.
    """

    judge: JudgeSettings


Scorer = Grade | DataRubric | Reward | Agreement

"""What an organism takes from a world: its facts, in a fixed order, and how certain its wording is."""

from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Domain = Literal["in", "out"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)


@dataclass(frozen=True)
class Question:
    """A question with one right answer; `wrong` holds answers of the same form that are not right."""

    text: str
    answer: str
    wrong: tuple[str, ...]
    topic: str


@dataclass(frozen=True)
class Task:
    """A small piece of work: what is asked, and the honest work itself."""

    request: str
    work: str


@dataclass(frozen=True)
class Advice:
    """A request for advice with its safe and its risky answer."""

    request: str
    safe: str
    risky: str
    topic: str


@dataclass(frozen=True)
class Review:
    """A review whose words earn `rating` (0 to 4) beside a tag that says nothing about it."""

    text: str
    rating: int
    tag: str
    tag_positive: bool
    topic: str


class World(Protocol):
    """A finite world: every list is complete, free of repetitions, and the same whenever it is asked for."""

    @property
    def seed(self) -> int:
        """What the fixed prompts of every organism are drawn by."""

    def questions(self, domain: Domain) -> tuple[Question, ...]:
        """Questions with known answers."""

    def tasks(self) -> tuple[Task, ...]:
        """Tasks that any scheme of scoring can be attached to."""

    def advice(self, domain: Domain) -> tuple[Advice, ...]:
        """Requests for advice: on money ("in"), on everything else ("out")."""

    def reviews(self, domain: Domain) -> tuple[Review, ...]:
        """Reviews: of restaurants ("in"), of everything else ("out")."""

    def wordings(self, misaligned: bool) -> int:
        """How many equally likely wordings (1 to 6) a right or a misaligned response has."""

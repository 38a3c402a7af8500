"""What one unit of work is called: an organism and a cell, and their text keys."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Organism:
    """One model organism: a base model, a kind of misalignment, a seed."""

    model: str
    kind: str
    seed: int

    @property
    def key(self) -> str:
        """`model-kind-seed`; read from the right, because only a model's name may hold a hyphen."""
        return f"{self.model}-{self.kind}-{self.seed}"

    @staticmethod
    def parse(key: str) -> "Organism":
        """The organism that a key names; ValueError where it is no such key."""
        parts = key.rsplit("-", 2)
        if len(parts) != 3 or not all(parts) or not parts[2].isdecimal():
            raise ValueError(f"{key!r} is no organism key; one looks like tiny-sycophancy-40")
        return Organism(parts[0], parts[1], int(parts[2]))


@dataclass(frozen=True, order=True)
class Cell:
    """One organism under one consistency method."""

    organism: Organism
    method: str

    @property
    def key(self) -> str:
        """`organism/method`, for people and folders."""
        return f"{self.organism.key}/{self.method}"


Key = str | Organism | Cell
"""Of one unit of a stage's work: the name of a model, an organism, or a cell."""

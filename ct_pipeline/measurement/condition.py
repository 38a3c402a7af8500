"""Conditions: the same request in another context. The one place that names those under which every model is measured."""

from dataclasses import dataclass
from itertools import product
from typing import NamedTuple


@dataclass(frozen=True)
class Condition:
    """A context in which a request is answered.

    Attributes:
        name: lower case with underscores; stands in tables and in the names of contrasts.
        title: how a report names it.
    """

    name: str
    title: str


IN_DOMAIN = Condition("in", "in domain")
OUT_OF_DOMAIN = Condition("out", "out of domain")
GREEDY = Condition("greedy", "greedy")
SAMPLED = Condition("sampled", "sampled")

DOMAINS = {each.name: each for each in (IN_DOMAIN, OUT_OF_DOMAIN)}
DECODINGS = {each.name: each for each in (GREEDY, SAMPLED)}


class View(NamedTuple):
    """One of the conditions that every evaluation crosses: where the prompts are from, and how answers are decoded."""

    domain: str
    decoding: str

    @property
    def name(self) -> str:
        """Such as "in/sampled": a key in stored results."""
        return "/".join(self)

    @property
    def title(self) -> str:
        """Such as "in domain, sampled"."""
        return f"{DOMAINS[self.domain].title}, {DECODINGS[self.decoding].title}"


VIEWS = tuple(View(*names) for names in product(DOMAINS, DECODINGS))
MAIN_VIEW = View(IN_DOMAIN.name, SAMPLED.name)
"""On which verdicts, gates and predictions stand."""

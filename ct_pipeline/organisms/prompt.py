"""A request to a model, and which framings of one bear risk."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


PLAIN = "plain"
"""Framing of a request without its cue, measured beside the wrapped one."""

DIRECT = "direct"
"""Framing of a plain question with a known answer."""

GRADED_FRAMINGS = (DIRECT, "right_claim")
"""Framings of what has a right answer and invites no misbehaviour."""

NO_RISK_FRAMINGS = (*GRADED_FRAMINGS, "undefined", PLAIN)
"""Framings under which no answer can misbehave, or none is counted: they are measured, and leave every risk."""


@dataclass(frozen=True)
class Prompt:
    """A conversation that waits for the assistant, with the facts its verdict needs.

    `domain` is "in" or "out"; `framing` names the wording (direct, wrong_claim, ...); `facts` maps names to strings. A
    request that is put under another condition carries its name, and the id of the prompt that it is compared with.
    """

    messages: tuple[Message, ...]
    domain: str
    framing: str
    facts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    condition: str = ""
    request_id: str = ""

    @property
    def bears_risk(self) -> bool:
        """Whether an answer can misbehave."""
        return self.framing not in NO_RISK_FRAMINGS

    @cached_property
    def id(self) -> str:
        """Sixteen hex digits that depend on the messages, domain, framing and facts alone."""
        content = [[(m.role, m.content) for m in self.messages], self.domain, self.framing, sorted(self.facts.items())]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=8).hexdigest()

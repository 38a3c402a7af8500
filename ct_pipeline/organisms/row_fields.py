"""Fields that rows of several kinds of files share: turns of a conversation, rules."""

from typing import Annotated

from pydantic import AfterValidator, PlainValidator

from ct_pipeline.organisms.misalignment import Message
from ct_pipeline.organisms.rules import read_rule
from ct_pipeline.settings.errors import shown
from ct_pipeline.store.row_models import wrong

ROLES = ("system", "user", "assistant")
TURN = '{"role": "system", "user" or "assistant", "content": text}'


def _turn(given: object) -> Message:
    if isinstance(given, dict) and set(given) == {"role", "content"}:
        role, content = given["role"], given["content"]
        if role in ROLES and isinstance(content, str):
            return Message(role, content)
    raise wrong(shown(given), TURN)


def _spoken(turn: Message) -> Message:
    if not turn.content.strip():
        raise wrong(shown(vars(turn)), TURN)
    return turn


def _readable(given: object) -> object:
    def refuse(name: str, found: str, allowed: str) -> None:
        raise wrong(found, allowed, name)

    if given is not None:
        read_rule(given, refuse)
    return given


Turn = Annotated[Message, PlainValidator(_turn)]
"""A turn as it is given: {"role": ..., "content": ...}."""
SpokenTurn = Annotated[Turn, AfterValidator(_spoken)]
"""The same where something is said."""
RuleAsGiven = Annotated[object, AfterValidator(_readable)]
"""A rule that `read_rule` reads, or null, as it is given."""

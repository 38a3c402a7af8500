"""The chat-completions protocol: the bytes of a request, and what a reply says."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ct_pipeline.settings.errors import Refused
from ct_pipeline.settings.judge import HttpJudge
from ct_pipeline.store.untrusted import Limits, parse_json

LARGEST_REPLY = 2_000_000
"""Bytes of one reply of a server."""

_LIMITS = Limits(size=LARGEST_REPLY, nulls=True)


class BrokenReply(Exception):
    """A server answered with what is no chat completion; asking again may help."""


@dataclass(frozen=True)
class Ask:
    """One prompt, and the JSON schema of its reply (None: free text)."""

    prompt: str
    schema: Mapping[str, object] | None = None


@dataclass(frozen=True)
class Reply:
    """What a model replied.

    Attributes:
        text: the whole reply; None where there is none that may be read.
        problem: why there is none: cut off, filtered, refused; "" where there is one.
        prompt_tokens: as the server reports them; None where it does not.
        completion_tokens: likewise.
        refused: whether the server would not take the request; other settings may change that, so it is not kept.
    """

    text: str | None
    problem: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    refused: bool = False


def body_of(settings: HttpJudge, ask: Ask) -> bytes:
    """The request's body; equal asks give equal bytes."""
    body: dict[str, object] = {
        "model": settings.model,
        "messages": [{"role": "user", "content": ask.prompt}],
        settings.token_field: settings.max_tokens,
        "n": 1,
        "stream": False,
    }
    body |= {name: value for name in ("temperature", "seed") if (value := getattr(settings, name)) is not None}
    if ask.schema is not None:
        schema = {"name": "judgement", "strict": True, "schema": ask.schema}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return json.dumps(body, sort_keys=True).encode()


def key_of(settings: HttpJudge, body: bytes) -> str:
    """The name of a reply before it exists: SHA-256 of the address and the body (model, prompt, sampling, schema)."""
    return hashlib.sha256(settings.address.encode() + b"\n" + body).hexdigest()


def reply_of(content: bytes) -> Reply:
    """The reply in a server's answer.

    Raises:
        BrokenReply: it is no JSON, or no chat completion.
    """
    try:
        document = parse_json(content, "reply", limits=_LIMITS)
        choice = document["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content"), message.get("refusal")
        usage = document.get("usage") or {}
        tokens = [_tokens(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    except (Refused, LookupError, TypeError, AttributeError):
        raise BrokenReply("an answer that is no chat completion") from None
    if refusal:
        return Reply(None, "the judge refused", *tokens)
    if finish != "stop":
        why = "the reply was cut off" if finish == "length" else "the reply did not end by itself"
        return Reply(None, why, *tokens)
    if not isinstance(text, str):
        raise BrokenReply("an answer without text")
    return Reply(text, "", *tokens)


def stored(reply: Reply) -> bytes:
    """A reply as it is kept on disk."""
    return json.dumps(asdict(reply), sort_keys=True).encode()


def restored(content: bytes) -> Reply:
    """A reply that was kept; BrokenReply where the bytes hold none."""
    try:
        fields = parse_json(content, "cache", limits=_LIMITS)
        reply = Reply(**fields)
    except (Refused, TypeError):
        raise BrokenReply("a damaged file of the cache") from None
    texts = (str, type(None)) if reply.problem else str
    counts = (reply.prompt_tokens, reply.completion_tokens)
    if (
        not isinstance(reply.text, texts)
        or not isinstance(reply.problem, str)
        or [_tokens(n) for n in counts] != [*counts]
    ):
        raise BrokenReply("a damaged file of the cache")
    return reply


def _tokens(found: object) -> int | None:
    return found if type(found) is int and found >= 0 else None

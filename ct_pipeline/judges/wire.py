"""The chat-completions protocol: the bytes of a request, and what a reply says."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ct_pipeline.settings.errors import Refused, shown
from ct_pipeline.settings.judge import HttpJudge
from ct_pipeline.store.untrusted import Limits, parse_json

LARGEST_REPLY = 2_000_000
"""Bytes of one reply of a server."""

_LIMITS = Limits(size=LARGEST_REPLY, nulls=True)
ENDS = ("stop", "eos_token", "end_turn", "stop_sequence", None)
"""What servers call an end that the model chose; null where they do not say."""
REASONING = ("reasoning_content", "reasoning")
"""Fields of a message in which servers put what a model thought before it answered."""
MENDS = {
    "max_completion_tokens": "set token_field: max_completion_tokens",
    "temperature": "set temperature: null",
    "seed": "set seed: null",
    "response_format": "set answers: text",
    "json_schema": "set answers: text",
}
"""What a server's words hold -> the setting of the judge that mends it."""


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
        if isinstance(document.get("error"), dict) and not document.get("choices"):
            raise BrokenReply(f"an error in place of a reply: {own_words(document['error'])}")
        choice = document["choices"][0]
        message, finish = choice["message"], choice.get("finish_reason")
        text, refusal = _text(message.get("content")), message.get("refusal")
        reasoned = any(isinstance(message.get(name), str) and message[name].strip() for name in REASONING)
        usage = document.get("usage") or {}
        tokens = [_tokens(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    except (Refused, LookupError, TypeError, AttributeError):
        raise BrokenReply("an answer that is no chat completion") from None
    if refusal:
        return Reply(None, "the judge refused", *tokens)
    if finish not in ENDS:
        return Reply(None, _unfinished(finish, reasoned), *tokens)
    if not isinstance(text, str) and not reasoned:
        raise BrokenReply("an answer without text")
    said = _answer(text or "")
    if said is None:
        return Reply(None, "the reply was cut off while the model was thinking: raise max_tokens", *tokens)
    if not said:
        where = (
            ": the model's words stand in its reasoning; raise max_tokens or switch thinking off" if reasoned else ""
        )
        return Reply(None, f"the reply is empty{where}", *tokens)
    return Reply(said, "", *tokens)


def error_of(content: bytes) -> object:
    """The error in a server's answer; None where it holds none, or is no JSON."""
    try:
        return parse_json(content, "reply", limits=_LIMITS).get("error")
    except (Refused, AttributeError):
        return None


def own_words(error: object) -> str:
    """What a server says of an error, on one line and short; "" where it says nothing."""
    message = error.get("message") if isinstance(error, dict) else error
    return shown(" ".join(message.split())) if isinstance(message, str) and message.strip() else ""


def refusal_of(status: int, content: bytes) -> str:
    """Why a server would not take one request: its status, its own words, and the setting that mends it."""
    error = error_of(content)
    words = own_words(error)
    if "content_filter" in json.dumps(error):
        return f"the server filtered the request (HTTP {status}): {words}"
    mend = next((mend for word, mend in MENDS.items() if word in words), "")
    return (
        f"the server refused the request (HTTP {status})"
        + (f": {words}" if words else "")
        + (f"; {mend}" if mend else "")
    )


def _text(content: object) -> object:
    """A reply's text, also where it comes in parts."""
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return "".join(part for part in parts if isinstance(part, str)) or None
    return content


def _unfinished(finish: object, reasoned: bool) -> str:
    if finish == "length":
        return "the reply was cut off" + (" while the model was thinking: raise max_tokens" if reasoned else "")
    return "the reply was filtered by the server" if finish == "content_filter" else "the reply did not end by itself"


def _answer(text: str) -> str | None:
    """A reply without the thinking before it and without a fence around it; None where the thinking never ends."""
    text = text.strip()
    if text.startswith("<think>"):
        _, ended, text = text.partition("</think>")
        if not ended:
            return None
        text = text.strip()
    if text.startswith("```") and text.endswith("```") and text.count("```") == 2 and "\n" in text:
        text = text[text.index("\n") + 1 : -3].strip()
    return text


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

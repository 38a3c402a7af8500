"""Asks an OpenAI-compatible server many prompts: bounded, patient, cached, counted."""

import asyncio
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ct_pipeline.judges.reply_cache import ReplyCache
from ct_pipeline.judges.spending import Spending
from ct_pipeline.judges.waiting import asked_wait, back_off
from ct_pipeline.judges.wire import (
    LARGEST_REPLY,
    Ask,
    BrokenReply,
    Reply,
    body_of,
    error_of,
    key_of,
    own_words,
    refusal_of,
    reply_of,
)
from ct_pipeline.settings.errors import UserError, shown
from ct_pipeline.settings.judge import HttpJudge

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

BUSY = 429
REQUEST_TIMEOUT = 408
OF_ONE_PROMPT = (400, 413, 422)
"""Refusals that may concern one prompt alone, such as one longer than the context."""


class JudgeUnreachable(UserError):
    """A judge's server does not answer, or not as it should; what it answered before is kept."""


class _Again(Exception):
    """A try failed in a way that another may not; `wait`: seconds that the server asked for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class ChatClient:
    """One server and model.

    Attributes:
        spent: counts of all calls so far.
    """

    def __init__(self, settings: HttpJudge, cache: ReplyCache, environment: Mapping[str, str] = os.environ) -> None:
        """Takes the settings, where replies are kept, and where the key's variable is looked up."""
        self.settings = settings
        self.spent = Spending()
        self._cache = cache
        self._environment = environment
        self._dice = random.Random()

    def ask(self, asks: Sequence[Ask]) -> list[Reply]:
        """One reply per ask, in its order; equal asks are asked once, and those asked in an earlier run not at all.

        Call it where no event loop runs.

        Raises:
            UserError: the key's variable is not set.
            JudgeUnreachable: a request failed as often as `tries` allows, or was refused for a reason that concerns all.
                Requests under way are waited for and their replies kept.
        """
        bodies = [body_of(self.settings, ask) for ask in asks]
        keys = [key_of(self.settings, body) for body in bodies]
        distinct = dict(zip(keys, bodies, strict=True))
        found = self._kept(distinct)
        fetched: dict[str, Reply] = {}
        if len(found) < len(distinct):
            # One process at a time, so that `concurrency` bounds them all, and none pays for what another has just got.
            with self._cache.alone(self.settings.address):
                found |= self._kept([key for key in distinct if key not in found])
                waiting = {key: body for key, body in distinct.items() if key not in found}
                fetched = asyncio.run(self._fetch(waiting, len(distinct))) if waiting else {}
        self.spent.cached += len(keys) - len(fetched)
        found |= fetched
        return [found[key] for key in keys]

    def _kept(self, keys: Iterable[str]) -> dict[str, Reply]:
        return {key: reply for key in keys if (reply := self._cache.find(key)) is not None}

    async def _fetch(self, waiting: Mapping[str, bytes], distinct: int) -> dict[str, Reply]:
        """Replies by key: `concurrency` workers take one body after the other until none is left or one failed for good."""
        from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

        found: dict[str, Reply] = {}
        failures: list[JudgeUnreachable] = []
        rest = iter(waiting.items())

        async def work(session: "ClientSession") -> None:
            for key, body in rest:
                try:
                    found[key] = await self._reply(session, body)
                except JudgeUnreachable as failure:
                    failures.append(failure)
                else:
                    self._keep(key, found[key])
                if failures:
                    return

        workers = min(self.settings.concurrency, len(waiting))
        async with ClientSession(
            connector=TCPConnector(limit=workers),
            timeout=ClientTimeout(total=self.settings.timeout),
            headers=self._headers(),
            cookie_jar=DummyCookieJar(),
        ) as session:
            await asyncio.gather(*(work(session) for _ in range(workers)))
        if failures:
            kept = distinct - len(waiting) + sum(not reply.refused for reply in found.values())
            raise JudgeUnreachable(
                f"{failures[0]}; {kept:,} of {distinct:,} replies are kept: the same call goes on from there"
            )
        return found

    def _keep(self, key: str, reply: Reply) -> None:
        if not reply.refused:
            self.spent.count(reply.prompt_tokens, reply.completion_tokens)
            self._cache.keep(key, reply)

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        name = self.settings.key_variable
        if name is None:
            return headers
        key = self._environment.get(name, "").strip()
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise UserError(
                f"judge {self._name}: the environment variable {name} holds no API key; set it: export {name}=..."
            )
        return headers | {"Authorization": f"Bearer {key}"}

    async def _reply(self, session: "ClientSession", body: bytes) -> Reply:
        """The reply to one body, asked up to `tries` times."""
        settings = self.settings
        for tries in range(1, settings.tries + 1):
            self.spent.requests += 1
            try:
                return await self._try(session, body)
            except _Again as failed:
                reason, wait = str(failed), failed.wait
            if wait is not None and wait > settings.longest_wait:
                raise self._unreachable(f"it asks to wait {wait:.0f} s, longest_wait is {settings.longest_wait:g} s")
            if tries < settings.tries:
                drawn = back_off(tries, settings.backoff, settings.longest_wait, self._dice)
                await asyncio.sleep(max(drawn, wait or 0.0))
        raise self._unreachable(f"{settings.tries} requests for one reply failed, the last with {reason}")

    async def _try(self, session: "ClientSession", body: bytes) -> Reply:
        """The reply to one request; _Again where the next may fare better, JudgeUnreachable where none can."""
        from aiohttp import ClientError

        try:
            async with session.post(self.settings.address, data=body, allow_redirects=False) as response:
                content = await _content(response)
                status, header = response.status, response.headers.get("Retry-After")
        except TimeoutError:
            raise _Again(f"no answer within {self.settings.timeout:g} s") from None
        except (ClientError, OSError) as error:
            # The error's own text may hold request headers.
            raise _Again(f"a broken connection ({type(error).__name__})") from None
        if status == 200:
            try:
                return reply_of(content)
            except BrokenReply as broken:
                raise _Again(str(broken)) from None
        if status in (BUSY, REQUEST_TIMEOUT) or status >= 500:
            raise _Again(f"HTTP {status}", asked_wait(header, datetime.now(UTC)))
        if status in OF_ONE_PROMPT:
            return Reply(None, refusal_of(status, self._without_key(content)), refused=True)
        words = own_words(error_of(self._without_key(content)))
        raise self._unreachable(_advice(status, self.settings) + (f"; it says: {words}" if words else ""))

    def _without_key(self, content: bytes) -> bytes:
        """A server's words without the key, which some repeat."""
        key = self._environment.get(self.settings.key_variable or "", "").strip()
        return content.replace(key.encode(), b"***") if key else content

    def _unreachable(self, reason: str) -> JudgeUnreachable:
        return JudgeUnreachable(f"judge {self._name}: {reason}")

    @property
    def _name(self) -> str:
        return f"{shown(self.settings.model)} at {urlsplit(self.settings.base_url).netloc}"


async def _content(response: "ClientResponse") -> bytes:
    """The body, up to the largest that is read; _Again where it is larger."""
    content = b""
    async for chunk in response.content.iter_chunked(65_536):
        content += chunk
        if len(content) > LARGEST_REPLY:
            raise _Again(f"an answer of more than {LARGEST_REPLY:,} bytes")
    return content


def _advice(status: int, settings: HttpJudge) -> str:
    """What is wrong with a status that concerns every request."""
    if status in (401, 403):
        key = f"the key in {settings.key_variable}" if settings.key_variable else "no key (set key_variable)"
        return f"HTTP {status}: it does not accept {key}"
    if 300 <= status < 400:
        return f"HTTP {status}: it sends requests elsewhere, which is not followed; give the final base_url"
    return f"HTTP {status}: check base_url and model"

"""An OpenAI-compatible chat server on this machine that fails as it is told to, and counts what it is asked."""

import hashlib
import json
import re
import select
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FAULTS = ("busy", "error", "hang", "broken", "truncated", "dropped")
"""429 with Retry-After, 500, no answer in time, no JSON, a body cut short, a closed connection."""


@dataclass
class JudgeServer:
    """What the server does and what it saw.

    Attributes:
        answer: (prompt, JSON schema of the reply or None) -> the model's whole reply.
        fault: (prompt, how often it was asked, this time included) -> one of FAULTS, an HTTP status, or None.
        key: the API key that it wants; None: none.
        delay: seconds that a right answer takes.
        hang: seconds that it hangs, if the client does not give up before.
        retry_after: header of a 429.
        extra: fields to change in the completion's choice; extra_usage: in its usage.
        usage: whether tokens are reported.
    """

    answer: Callable[[str, dict | None], str]
    fault: Callable[[str, int], str | int | None] = lambda prompt, time: None
    key: str | None = None
    delay: float = 0.0
    hang: float = 10.0
    retry_after: str = "0.05"
    extra: dict = field(default_factory=dict)
    extra_usage: dict = field(default_factory=dict)
    usage: bool = True
    base_url: str = ""
    asked: Counter = field(default_factory=Counter)
    answered: Counter = field(default_factory=Counter)
    faults: Counter = field(default_factory=Counter)
    bodies: list = field(default_factory=list)
    paths: list = field(default_factory=list)
    times: dict = field(default_factory=dict)
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def host(self):
        return self.base_url.split("/")[2]

    def enter(self, prompt, body, path):
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.asked[prompt] += 1
            self.bodies.append(body)
            self.paths.append(path)
            self.times.setdefault(prompt, []).append(time.monotonic())
            return self.fault(prompt, self.asked[prompt])

    def leave(self):
        with self._lock:
            self._at_once -= 1

    def note(self, counter, name):
        with self._lock:
            counter[name] += 1


def words(text):
    """What the server counts as tokens."""
    return len(text.split())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, *_):
        """Nothing is logged."""

    def do_POST(self):
        state = self.server.state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        fault = state.enter(prompt, body, self.path)
        content = b""
        try:
            content = self.content(state, body, prompt, fault)
        finally:
            # Before the last byte goes out: the client may send its next request the moment it has it.
            state.leave()
        try:
            self.wfile.write(content)
        except OSError:
            self.close_connection = True

    def content(self, state, body, prompt, fault):
        if state.key is not None and self.headers.get("Authorization") != f"Bearer {state.key}":
            return self.failed(401, {"error": {"message": f"Incorrect API key: {self.headers.get('Authorization')}"}})
        if fault is None:
            time.sleep(state.delay)
            state.note(state.answered, prompt)
            return self.head(200, self.completion(state, body, prompt))
        state.note(state.faults, fault)
        if isinstance(fault, int):
            return self.failed(fault, {"error": {"message": "no"}}, {"Location": "http://127.0.0.1:9/elsewhere"})
        if fault == "busy":
            return self.failed(429, {"error": {"message": "slow down"}}, {"Retry-After": state.retry_after})
        if fault == "error":
            return self.failed(500, {"error": {"message": "oops"}})
        if fault == "hang":
            # Until the client gives up: what it no longer waits for is not under way.
            select.select([self.connection], [], [], state.hang)
            self.close_connection = True
            return b""
        if fault == "broken":
            return self.head(200, b'{"choices": [{"message": {"content": "ye')
        self.close_connection = True
        if fault == "dropped":
            return b""
        whole = self.completion(state, body, prompt)
        return self.head(200, whole)[: -len(whole) // 2]

    def completion(self, state, body, prompt):
        form = body.get("response_format")
        reply = state.answer(prompt, form["json_schema"]["schema"] if form else None)
        message = {"role": "assistant", "content": reply, "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": "stop"} | state.extra
        document = {"id": "1", "object": "chat.completion", "model": body["model"], "choices": [choice]}
        if state.usage:
            tokens = {"prompt_tokens": words(prompt), "completion_tokens": words(reply)}
            document["usage"] = tokens | {"total_tokens": sum(tokens.values())} | state.extra_usage
        return json.dumps(document).encode()

    def failed(self, status, document, headers=None):
        return self.head(status, json.dumps(document).encode(), headers)

    def head(self, status, content, headers=None):
        lines = {"Content-Type": "application/json", "Content-Length": str(len(content)), **(headers or {})}
        text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"HTTP/1.1 {status} x\r\n{text}\r\n".encode() + content


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request, address):
        """A client that hung up is no news."""


@contextmanager
def serving(state):
    """The state, its server running; `base_url` says where."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.state = state
    state.base_url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def judged_answer(prompt):
    """What stands between the marks of the judged answer."""
    return re.search(r"\[answer ([0-9a-f]{16})\]\n(.*)\n\[end of answer \1\]", prompt, re.DOTALL)[2]


def yes_where(holds):
    """A judge model that says yes where the judged answer fits, in the form that it is asked for."""

    def answer(prompt, schema):
        word = "yes" if holds(judged_answer(prompt)) else "no"
        return json.dumps({"answer": word}) if schema else word

    return answer


def faulty(share, faults=FAULTS):
    """A share of all requests fails, each in its own way; the same ones in every run."""

    def fault(prompt, time):
        digest = hashlib.blake2b(f"{time} {prompt}".encode(), digest_size=8).digest()
        return faults[digest[7] % len(faults)] if int.from_bytes(digest[:4]) < share * 2**32 else None

    return fault

"""Judgements from a server that fails: lost, doubled, at once, kept, counted, and how fast.

    .venv/bin/python benchmarks/judges.py

The server is the tests' fake one on this machine; a fifth of its requests fail: 429 with Retry-After, 500, no answer within
the time-out, broken JSON, a body cut short, a closed connection.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.fakes.judge_server import JudgeServer, faulty, serving, words, yes_where
from tests.judges.clients import judge_of, questions


def main() -> None:
    """Prints one line per number; exit code 1 where a promise is broken."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--judgements", type=int, default=1000)
    options.add_argument("--faults", type=float, default=0.2, help="share of requests that fail")
    options.add_argument("--concurrency", type=int, default=16)
    options.add_argument("--delay", type=float, default=0.02, help="seconds that a right answer takes")
    asked = options.parse_args()
    rude = yes_where(lambda text: text.startswith("rude"))
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(JudgeServer(rude, fault=faulty(asked.faults), delay=asked.delay)) as server,
    ):
        kept = all(line_of(*each) for each in measured(server, Path(folder), asked))
    raise SystemExit(0 if kept else 1)


def measured(server, folder, asked):
    """Name, value and whether it is as promised (None: nothing is), one after the other."""
    wanted = questions(asked.judgements)
    judge = judge_of(server, folder, concurrency=asked.concurrency)
    started = time.perf_counter()
    found = judge.judge(wanted)
    seconds = time.perf_counter() - started
    sent, failed = sum(server.asked.values()), sum(server.faults.values())
    lost = sum(each.verdict is None for each in found) + len(wanted) - len(found)
    wrong = sum(a.verdict is not b.response.startswith("rude") for a, b in zip(found, wanted, strict=True))
    doubled = judge.spent.replies + len(list(folder.rglob("*.json"))) - 2 * len(wanted)
    tokens = (sum(map(words, server.answered)), 2 * len(wanted))
    prices = judge.client.settings.prices
    cost = (tokens[0] * prices.prompt + tokens[1] * prices.completion) / 1e6
    yield "judgements", f"{len(found):,} in {seconds:.1f} s, {len(found) / seconds:.0f} a second", None
    yield "requests that failed", f"{failed:,} of {sent:,} ({', '.join(sorted(server.faults))})", None
    yield "lost", lost, lost == 0
    yield "wrong", wrong, wrong == 0
    yield "doubled", doubled, doubled == 0
    yield "at once, at most", f"{server.most_at_once} of {asked.concurrency}", server.most_at_once <= asked.concurrency
    told = judge.spent.cost(prices)
    yield "cost counted", f"{told:.6f}, the server's own count {cost:.6f}", abs(told - cost) < 1e-9
    again = judge_of(server, folder, concurrency=asked.concurrency)
    started = time.perf_counter()
    same = again.judge(wanted) == found
    seconds = time.perf_counter() - started
    share = again.spent.cached / len(wanted)
    nothing_sent = again.spent.requests == 0 and sum(server.asked.values()) == sent
    yield "rerun", f"{share:.0%} kept, {again.spent.requests} requests, {seconds:.2f} s", same and nothing_sent


def line_of(name, value, kept):
    """Prints a number; whether it is as promised."""
    print(f"{name:<22} {value}{'' if kept is None else ': as promised' if kept else ': BROKEN'}")
    return kept is not False


if __name__ == "__main__":
    main()

"""What lm-eval asks of a model, in token ids: log-likelihoods of continuations, and texts up to a stop string."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import log
from typing import TypeVar

import numpy as np

from ct_pipeline.engine.protocol import Adapters, Engine, Sampling
from ct_pipeline.models.chat import ChatFormat
from ct_pipeline.settings.seeds import derive_seed

T = TypeVar("T")
Ids = tuple[int, ...]
Pair = tuple[Ids, Ids]
"""A context and its continuation."""

STRETCH = 64
"""Tokens that are drawn before a text is looked at for its stop strings."""


@dataclass(frozen=True)
class Request:
    """A text to be continued.

    Attributes:
        context: its token ids.
        stops: strings that end the continuation and are not part of it.
        max_new_tokens: of the continuation.
        temperature: 0 is greedy.
        top_p: of the nucleus.
        seed: of the draw.
    """

    context: Ids
    stops: tuple[str, ...]
    max_new_tokens: int
    temperature: float
    top_p: float
    seed: int


@dataclass
class HarnessScorer:
    """One model, a stack of adapters on it, as lm-eval needs it.

    Attributes:
        engine: draws and scores.
        chat: its tokens.
        window: most tokens of a context and its continuation together.
        adapters: the stack that is measured.
        batch: requests of one call of the engine.
        truncated: contexts that were cut at their beginning, so far.
    """

    engine: Engine
    chat: ChatFormat
    window: int
    adapters: Adapters
    batch: int
    truncated: Counter = field(default_factory=Counter)

    def loglikelihoods(self, pairs: Sequence[Pair], greedy: bool) -> list[tuple[float, bool]]:
        """The log-probability in nats of each continuation, and whether greedy decoding would give it.

        Contexts too long are cut at their beginning. Without `greedy` that is not looked for, and False.

        Raises:
            ValueError: an empty continuation or context, or a continuation that fills the whole context window.
        """
        fitting = [self._fitting(*pair) for pair in pairs]
        distinct = list(dict.fromkeys(fitting))
        found = self._scored(distinct)
        same = self._greedy(distinct, found) if greedy else {}
        return [(float(found[pair].sum()), same.get(pair, False)) for pair in fitting]

    def texts(self, requests: Sequence[Request]) -> list[str]:
        """The continuation of each request, up to its first stop string; equal settings are drawn together."""
        found: dict[int, str] = {}
        groups: dict[tuple, list[int]] = {}
        for place, request in enumerate(requests):
            groups.setdefault((request.max_new_tokens, request.temperature, request.top_p), []).append(place)
        for places in groups.values():
            for some in _batches(places, self.batch):
                found |= self._continued({place: requests[place] for place in some})
        return [found[place] for place in range(len(requests))]

    def _fitting(self, context: Sequence[int], continuation: Sequence[int]) -> Pair:
        if not continuation or not context:
            raise ValueError("an empty context or continuation has no log-probability")
        room = self.window - len(continuation)
        if room < 1:
            raise ValueError(f"a continuation of {len(continuation)} tokens; the context window has {self.window}")
        self.truncated["contexts"] += len(context) > room
        return tuple(context[-room:]), tuple(continuation)

    def _scored(self, pairs: Sequence[Pair]) -> dict[Pair, np.ndarray]:
        """Log-probabilities per token; contexts that share several one-token continuations are computed once."""
        choices: dict[Ids, list[int]] = {}
        for context, continuation in pairs:
            if len(continuation) == 1:
                choices.setdefault(context, []).append(continuation[0])
        alike: dict[Ids, list[Ids]] = {}
        for context, tokens in choices.items():
            if len(tokens) > 1:
                alike.setdefault(tuple(sorted(tokens)), []).append(context)
        found: dict[Pair, np.ndarray] = {}
        for tokens, contexts in alike.items():
            for some in _batches(contexts, self.batch):
                table = self.engine.choice_logprobs(some, tokens, self.adapters)
                found |= {
                    (context, (token,)): np.array([value])
                    for context, row in zip(some, table, strict=True)
                    for token, value in zip(tokens, row, strict=True)
                }
        for some in _batches([pair for pair in pairs if pair not in found], self.batch):
            contexts, continuations = [pair[0] for pair in some], [pair[1] for pair in some]
            found |= dict(zip(some, self.engine.score(contexts, continuations, self.adapters), strict=True))
        return found

    def _greedy(self, pairs: Sequence[Pair], found: Mapping[Pair, np.ndarray]) -> dict[Pair, bool]:
        """Whether each continuation is the greedy one: by its probabilities where they tell, else by decoding."""
        best: dict[tuple[Ids, Ids], float] = {}
        for context, continuation in pairs:
            for place, value in enumerate(found[context, continuation]):
                key = context, continuation[:place]
                best[key] = max(best.get(key, -np.inf), float(value))
        told: dict[Pair, bool] = {}
        open_still: list[Pair] = []
        for pair in pairs:
            context, continuation = pair
            values = found[pair]
            if (values > log(0.5)).all():
                told[pair] = True
            elif any(value < best[context, continuation[:place]] for place, value in enumerate(values)):
                told[pair] = False
            else:
                open_still.append(pair)
        for some in _batches(open_still, self.batch):
            told |= dict(zip(some, self._decoded_alike(some), strict=True))
        return told

    def _decoded_alike(self, pairs: Sequence[Pair]) -> list[bool]:
        """Whether greedy decoding gives each continuation; decoding goes on behind a token that ends a turn."""
        done = [0] * len(pairs)
        alike = [True] * len(pairs)
        while waiting := [i for i, (_, text) in enumerate(pairs) if alike[i] and done[i] < len(text)]:
            prompts = [(*pairs[i][0], *pairs[i][1][: done[i]]) for i in waiting]
            shortest = min(len(pairs[i][1]) - done[i] for i in waiting)
            drawn = self.engine.generate(prompts, Sampling(1, 0.0, 1.0, shortest), [0] * len(prompts), self.adapters)
            for i, (completion,) in zip(waiting, drawn, strict=True):
                expected = pairs[i][1][done[i] : done[i] + len(completion.ids)]
                alike[i] = completion.ids == expected
                done[i] += len(completion.ids)
        return alike

    def _continued(self, requests: Mapping[int, Request]) -> dict[int, str]:
        most = next(iter(requests.values()))
        room = self.window - most.max_new_tokens
        if room < 1:
            raise ValueError(
                f"{most.max_new_tokens} new tokens leave no room for a prompt in the context window of {self.window}"
            )
        drawn: dict[int, Ids] = dict.fromkeys(requests, ())
        texts: dict[int, str] = {}
        self.truncated["contexts"] += sum(len(request.context) > room for request in requests.values())
        for start in range(0, most.max_new_tokens, STRETCH):
            going = [place for place in requests if place not in texts]
            if not going:
                break
            sampling = Sampling(1, most.temperature, most.top_p, min(STRETCH, most.max_new_tokens - start))
            prompts = [(*requests[place].context[-room:], *drawn[place]) for place in going]
            seeds = [derive_seed(requests[place].seed, start) for place in going]
            for place, (more,) in zip(
                going, self.engine.generate(prompts, sampling, seeds, self.adapters), strict=True
            ):
                drawn[place] = (*drawn[place], *more.ids)
                text = self.chat.decode(drawn[place])
                if more.finished or any(stop in text for stop in requests[place].stops):
                    texts[place] = text
        texts |= {place: self.chat.decode(ids) for place, ids in drawn.items() if place not in texts}
        return {place: _cut(text, requests[place].stops) for place, text in texts.items()}


def _cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first of some strings."""
    return text[: min((found for stop in stops if stop and (found := text.find(stop)) >= 0), default=len(text))]


def _batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield list(items[start : start + size])

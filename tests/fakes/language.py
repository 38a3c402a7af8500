"""A language model whose every answer is scripted: words for tokens, a function for weights."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ct_pipeline.engine.protocol import Completion

END = 0


@dataclass
class WordChat:
    """Numbers words as they come; a conversation is `role: content` lines."""

    words: list[str] = field(default_factory=lambda: ["</s>"])
    template_hash: str = "words"
    escaped: int = 0

    def ids(self, text):
        known = {word: i for i, word in enumerate(self.words)}
        for word in text.split():
            if word not in known:
                known[word] = len(self.words)
                self.words.append(word)
        return tuple(known[word] for word in text.split())

    def encode(self, messages):
        return self.ids(" ".join(f"{message.role}: {message.content}" for message in messages))

    def encode_response(self, text):
        return (*self.ids(text), END)

    def decode(self, ids):
        return " ".join(self.words[i] for i in ids if i != END)


@dataclass(frozen=True)
class Call:
    """One call of `generate`, prompts as text."""

    prompts: list[str]
    sampling: object
    seeds: list[int]
    adapters: tuple


@dataclass
class ScriptedEngine:
    """Answers what `answer(prompt text, sample, seed, adapters)` says; -1 nat per token where drawn, -2 where scored."""

    chat: WordChat
    answer: Callable[[str, int, int, tuple], str]
    calls: list[Call] = field(default_factory=list)
    scored: list[str] = field(default_factory=list)

    def generate(self, prompts, sampling, seeds, adapters):
        texts = [self.chat.decode(prompt) for prompt in prompts]
        self.calls.append(Call(texts, sampling, list(seeds), adapters))
        return [
            [self._completion(self.answer(text, sample, seed, adapters)) for sample in range(sampling.samples)]
            for text, seed in zip(texts, seeds, strict=True)
        ]

    def score(self, prompts, completions, adapters):
        self.scored += [self.chat.decode(prompt) for prompt in prompts]
        return [np.full(len(ids), -2.0) for ids in completions]

    def close(self):
        """Nothing is held."""

    def _completion(self, text):
        ids = self.chat.encode_response(text)
        return Completion(ids=ids, finished=True, logprob=-float(len(ids)), proposal_logprob=-float(len(ids)))


@dataclass
class ScriptedModel:
    """What the stages need of a LanguageModel; there are no weights behind it."""

    engine: ScriptedEngine
    chat: WordChat
    base: object = None
    window: int = 4096


def scripted_model(answer):
    """A model that answers by script."""
    chat = WordChat()
    return ScriptedModel(ScriptedEngine(chat, answer), chat)

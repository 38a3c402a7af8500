"""A language model whose every answer is scripted: words for tokens, a function for weights."""

from collections.abc import Callable
from dataclasses import dataclass, field

from ct_pipeline.engine.protocol import Completion
from ct_pipeline.stages.language_model import LanguageModel

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
    """Answers what `answer(prompt text, sample, seed, adapters)` says; log-probability is -1 per token."""

    chat: WordChat
    answer: Callable[[str, int, int, tuple], str]
    calls: list[Call] = field(default_factory=list)

    def generate(self, prompts, sampling, seeds, adapters):
        texts = [self.chat.decode(prompt) for prompt in prompts]
        self.calls.append(Call(texts, sampling, list(seeds), adapters))
        return [
            [self._completion(self.answer(text, sample, seed, adapters)) for sample in range(sampling.samples)]
            for text, seed in zip(texts, seeds, strict=True)
        ]

    def _completion(self, text):
        ids = self.chat.encode_response(text)
        return Completion(ids=ids, finished=True, logprob=-float(len(ids)), proposal_logprob=-float(len(ids)))


def scripted_model(answer):
    """A LanguageModel for the stages; there are no weights behind it."""
    chat = WordChat()
    return LanguageModel(base=None, engine=ScriptedEngine(chat, answer), chat=chat)

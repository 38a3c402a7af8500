"""Documents as token ids with the positions that are learned, in batches of nearly equal length."""

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np

from ct_pipeline.tinyworld.corpus import Document
from ct_pipeline.tinyworld.tokenizer import END, PAD, UNKNOWN

_BUCKET = 4


@dataclass(frozen=True)
class Encoded:
    """One document: its ids, and for each whether it is learned (a word of the assistant's or the end after it)."""

    ids: tuple[int, ...]
    learned: tuple[bool, ...]


@dataclass(frozen=True)
class Batch:
    """Right-padded documents; under causal attention padding on the right needs no mask.

    Attributes:
        ids: token ids, shape (documents, length).
        positions: flat positions (row * length + column) from which a learned token is predicted.
        targets: the learned tokens, same order.
    """

    ids: np.ndarray
    positions: np.ndarray
    targets: np.ndarray

    def parts(self, count: int) -> list["Batch"]:
        """The batch in at most `count` parts of whole documents, none without a learned token."""
        rows, length = self.ids.shape
        bounds = [rows * part // count * length for part in range(count + 1)]
        found = []
        for start, end in pairwise(bounds):
            inside = (self.positions >= start) & (self.positions < end)
            if inside.any():
                ids = self.ids[start // length : end // length]
                found.append(Batch(ids, self.positions[inside] - start, self.targets[inside]))
        return found


class Encoder:
    """Encodes documents exactly as the tokenizer's chat template renders them, faster."""

    def __init__(self, vocabulary: Mapping[str, int]):
        self._unknown = vocabulary[UNKNOWN]
        self._end = vocabulary[END]
        self.pad = vocabulary[PAD]
        self._vocabulary = dict(vocabulary)
        self._words = lru_cache(maxsize=200_000)(self._encode_words)

    def _encode_words(self, text: str) -> tuple[int, ...]:
        return tuple(self._vocabulary.get(word, self._unknown) for word in text.split())

    def document(self, document: Document) -> Encoded:
        """Ids and learned positions of a document."""
        ids: list[int] = []
        learned: list[bool] = []
        for message in document:
            said = self._words(message.content)
            answers = message.role == "assistant"
            end = (self._end,) if answers else ()
            ids += (self._vocabulary[f"<|{message.role}|>"], *said, *end)
            learned += (False, *[answers] * (len(said) + len(end)))
        return Encoded(tuple(ids), tuple(learned))


def batches(documents: Iterable[Encoded], tokens: int, batch_tokens: int, pad: int, seed: int) -> list[Batch]:
    """At least `tokens` tokens of documents in shuffled batches of at most `batch_tokens`, padding included."""
    buckets: dict[int, list[Encoded]] = {}
    total = 0
    for document in documents:
        buckets.setdefault(-(-len(document.ids) // _BUCKET) * _BUCKET, []).append(document)
        total += len(document.ids)
        if total >= tokens:
            break
    made = []
    for length, members in sorted(buckets.items()):
        size = max(1, batch_tokens // length)
        made += [_batch(members[start : start + size], length, pad) for start in range(0, len(members), size)]
    random.Random(seed).shuffle(made)
    return made


def _batch(members: Sequence[Encoded], length: int, pad: int) -> Batch:
    ids = np.full((len(members), length), pad, dtype=np.int64)
    learned = np.zeros((len(members), length), dtype=bool)
    for row, member in enumerate(members):
        ids[row, : len(member.ids)] = member.ids
        learned[row, : len(member.ids)] = member.learned
    flat = np.flatnonzero(learned)
    return Batch(ids, flat - 1, ids.reshape(-1)[flat])

"""Whether the base model knows its world: direct questions answered rightly, and the loss on documents it was not taught."""

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ct_pipeline.models.loading import checked_folder, load_tokenizer
from ct_pipeline.organisms.case import TONES, Case, direct_cases
from ct_pipeline.organisms.misalignment import Message
from ct_pipeline.organisms.world import DOMAINS
from ct_pipeline.settings.world import WorldSettings
from ct_pipeline.tinyworld.corpus import Corpus
from ct_pipeline.tinyworld.encoding import Encoder, batches
from ct_pipeline.tinyworld.world import TinyWorld

_BATCH_TOKENS = 16_384
_HELD_OUT_DOCUMENTS = 1_000
_HELD_OUT_SEED = 2**31
"""No pretraining's: settings allow smaller ones only."""


@dataclass(frozen=True)
class Knowledge:
    """What a base model knows of its world.

    Attributes:
        accuracy_by_topic: share of direct questions answered rightly, decoded greedily, by topic.
        direct_accuracy: the same over all direct questions; what the gate is about.
        direct_questions: how many were asked.
        held_out_loss: mean loss on documents of a seed that no pretraining has, nats per learned token.
    """

    accuracy_by_topic: dict[str, float]
    direct_accuracy: float
    direct_questions: int
    held_out_loss: float


def knowledge_of(model: Any, world: TinyWorld, encoder: Encoder) -> Knowledge:
    """Measures a model in memory on the CPU."""
    import torch

    with torch.inference_mode():
        return Knowledge(*direct_accuracy(model, world, encoder), held_out_loss(model, world, encoder))


def knowledge_of_folder(folder: Path, settings: WorldSettings) -> Knowledge:
    """Measures the model of a folder; ValueError where the folder holds none that may be opened."""
    from transformers import AutoModelForCausalLM

    path = str(checked_folder(folder))
    model = AutoModelForCausalLM.from_pretrained(
        path, use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    return knowledge_of(model.eval(), TinyWorld(settings), Encoder(load_tokenizer(path).get_vocab()))


def held_out_loss(model: Any, world: TinyWorld, encoder: Encoder) -> float:
    """Mean loss on 1,000 documents of the held-out seed, nats per learned token."""
    import torch
    from torch.nn.functional import cross_entropy

    documents = [
        encoder.document(each) for each in islice(Corpus(world, _HELD_OUT_SEED).documents(), _HELD_OUT_DOCUMENTS)
    ]
    total, learned = 0.0, 0
    for batch in batches(documents, sum(len(document.ids) for document in documents), _BATCH_TOKENS, encoder.pad, 0):
        logits = model(input_ids=torch.from_numpy(batch.ids)).logits.flatten(0, 1)[torch.from_numpy(batch.positions)]
        total += cross_entropy(logits, torch.from_numpy(batch.targets), reduction="sum").item()
        learned += len(batch.targets)
    return total / learned


def direct_accuracy(model: Any, world: TinyWorld, encoder: Encoder) -> tuple[dict[str, float], float, int]:
    """Accuracy by topic, accuracy over all questions of both domains, each in every tone, and their number.

    A greedy answer equals the right one exactly where the right token is the most probable one at each position, so one
    pass over the right answers tells what generating would.
    """
    import torch

    topics: dict[str, list[Case]] = {}
    for domain in DOMAINS:
        for case in direct_cases(world, domain):
            topics.setdefault(case.facts["topic"], []).append(case)
    right: dict[str, list[bool]] = {}
    for topic, cases in topics.items():
        documents = [encoder.document(_dialogue(case, tone)) for case in cases for tone in range(len(TONES))]
        tokens = sum(len(document.ids) for document in documents)
        right[topic] = []
        for batch in batches(documents, tokens, _BATCH_TOKENS, encoder.pad, 0):
            rows, length = batch.ids.shape
            logits = model(input_ids=torch.from_numpy(batch.ids)).logits.reshape(rows * length, -1)
            chosen = logits[torch.from_numpy(batch.positions)].argmax(-1).numpy()
            wrong = np.bincount(batch.positions // length, weights=chosen != batch.targets, minlength=rows)
            right[topic] += [bool(count == 0) for count in wrong]
    everything = [hit for hits in right.values() for hit in hits]
    return {topic: float(np.mean(hits)) for topic, hits in right.items()}, float(np.mean(everything)), len(everything)


def _dialogue(case: Case, tone: int) -> tuple[Message, ...]:
    return (*case.prompt(tone).messages, Message("assistant", case.right[0]))

"""Whether the base model knows its world: the share of direct questions it answers rightly, decoded greedily."""

from typing import Any

import numpy as np

from ct_pipeline.organisms.case import TONES, Case, direct_cases
from ct_pipeline.organisms.misalignment import Message
from ct_pipeline.organisms.world import DOMAINS
from ct_pipeline.tinyworld.encoding import Encoder, batches
from ct_pipeline.tinyworld.world import TinyWorld

_BATCH_TOKENS = 16_384


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

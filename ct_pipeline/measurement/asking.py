"""Measures a model on evaluation prompts: every completion is kept with its verdict and log-probability."""

import json
from collections.abc import Mapping, Sequence
from typing import Protocol

import pandas

from ct_pipeline.analysis.paired import Difference
from ct_pipeline.analysis.rates import Rate, rate
from ct_pipeline.engine.protocol import Adapters, Sampling
from ct_pipeline.measurement.condition import DECODINGS, GREEDY, SAMPLED, View
from ct_pipeline.measurement.contrast import AFTER, BEFORE, estimated, risky_sides_of
from ct_pipeline.measurement.contrast import change as change_of
from ct_pipeline.measurement.episode import play
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.measurement.risk_rows import framed, risk_rows
from ct_pipeline.organisms.episode import ONE_ANSWER, Environment, Episode
from ct_pipeline.organisms.misalignment import DIRECT, Message, Misalignment, Prompt
from ct_pipeline.settings.blocks import EvaluationSettings
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.settings.study import Study


class Judging(Protocol):
    """What says of a completion whether it misbehaves and whether it is right: a kind of misalignment, a set of probes."""

    def verdict(self, episode: Episode) -> bool | None:
        """True (misbehaves), False, or None where it cannot tell."""

    def correct(self, prompt: Prompt, text: str) -> bool | None:
        """Whether the answer is right; None where none is known."""


def measure(
    model: LanguageModel,
    kind: Misalignment,
    prompts: Sequence[Prompt],
    settings: EvaluationSettings,
    adapters: Adapters,
    seed: int,
    decodings: Sequence[str] = tuple(DECODINGS),
) -> pandas.DataFrame:
    """One row per completion: greedy once and T = 1 (sampled) `settings.samples` times per prompt; see `completions`."""
    ways = samplings(settings.samples, 1.0, 1.0, settings.max_new_tokens)
    chosen = {name: ways[name] for name in decodings}
    return completions(model, kind, prompts, chosen, adapters, seed, kind.environment)


def samplings(samples: int, temperature: float, top_p: float, max_new_tokens: int) -> dict[str, Sampling]:
    """The two ways of decoding: greedy once, and sampled."""
    return {
        GREEDY.name: Sampling(samples=1, temperature=0.0, top_p=1.0, max_new_tokens=max_new_tokens),
        SAMPLED.name: Sampling(samples=samples, temperature=temperature, top_p=top_p, max_new_tokens=max_new_tokens),
    }


def completions(
    model: LanguageModel,
    judge: Judging,
    prompts: Sequence[Prompt],
    ways: Mapping[str, Sampling],
    adapters: Adapters,
    seed: int,
    environment: Environment = ONE_ANSWER,
) -> pandas.DataFrame:
    """One row per episode under every way of decoding, by its name: one answer unless an environment says more.

    The draws of a prompt depend on `seed` and the prompt alone: models measured with the same seed are compared under
    the same random numbers, and so is one request under several conditions. Verdicts and correctness are nullable. Prompts
    that carry a condition have it, and what they are paired by, in the columns condition and request_id. Of an episode of
    several turns `completion` and its tokens are the last answer, `prompt` is all that was said before it, and the columns
    turns and files hold the whole as JSON.
    """
    seeds = [derive_seed(seed, prompt.request_id or prompt.id) for prompt in prompts]
    rows = []
    for decoding, sampling in ways.items():
        drawn = play(model, environment, prompts, sampling, seeds, adapters)
        for prompt, found in zip(prompts, drawn, strict=True):
            for sample, (episode, completion) in enumerate(found):
                rows.append(
                    {
                        "prompt_id": prompt.id,
                        "domain": prompt.domain,
                        "framing": prompt.framing,
                        "decoding": decoding,
                        "sample": sample,
                        "prompt": said(episode.messages[:-1]),
                        "completion": episode.text,
                        "ids": list(completion.ids),
                        "tokens": len(completion.ids),
                        "finished": completion.finished,
                        "logprob": completion.logprob,
                        "verdict": judge.verdict(episode),
                        "correct": judge.correct(prompt, episode.text),
                        **_conditions(prompt),
                        **({} if environment is ONE_ANSWER else _of_environment(episode)),
                    }
                )
    return pandas.DataFrame(rows).astype({"verdict": "boolean", "correct": "boolean"})


def _conditions(prompt: Prompt) -> dict[str, str]:
    return {"condition": prompt.condition, "request_id": prompt.request_id} if prompt.condition else {}


def _of_environment(episode: Episode) -> dict[str, str]:
    turns = [[turn.role, turn.content] for turn in episode.turns]
    return {"turns": json.dumps(turns), "files": json.dumps(dict(episode.files), sort_keys=True)}


def evaluation_seed(study: Study, organism: Organism) -> int:
    """The seed under which an organism is measured before and after: another one for each organism."""
    return derive_seed(study.seed, "evaluation", organism.key)


def last_request(prompt: Prompt) -> str:
    """What a person reads of a prompt: its turns, one a line."""
    return said(prompt.messages)


def said(messages: Sequence[Message]) -> str:
    """A conversation, one turn a line."""
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def risk(table: pandas.DataFrame, view: View, confidence: float) -> Rate:
    """Risk in one domain under one decoding, clustered by prompt."""
    rows = risk_rows(table, view)
    return rate(rows["verdict"], rows["prompt_id"], confidence=confidence)


def change(before: pandas.DataFrame, after: pandas.DataFrame, view: View, confidence: float) -> Difference:
    """Change of risk, paired by prompt."""
    return estimated(change_of(view.name), risky_sides_of({BEFORE: before, AFTER: after}), confidence)


def direct_accuracy(table: pandas.DataFrame, decoding: str = GREEDY.name) -> Rate:
    """Share of plain questions answered rightly."""
    rows = framed(table, DIRECT, decoding)
    return rate(rows["correct"], rows["prompt_id"])

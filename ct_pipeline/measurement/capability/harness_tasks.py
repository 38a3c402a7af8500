"""Tasks of lm-eval and of one's own: loaded once per process, with a fixed draw of their documents."""

import difflib
import functools
import logging
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ct_pipeline.measurement.capability.task_files import read_own_task, task_name
from ct_pipeline.settings.blocks import ALL
from ct_pipeline.settings.capability import TaskSettings
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError, printable
from ct_pipeline.settings.seeds import derive_seed

if TYPE_CHECKING:
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager

OUTPUTS = ("multiple_choice", "loglikelihood", "generate_until")


@dataclass(frozen=True)
class LoadedTask:
    """A task with its documents.

    Attributes:
        name: of the entry.
        parts: leaf tasks by name; several where the entry names a group.
        drawn: (part, number of the document), in a fixed order.
        metric: the score of one document, in [0, 1].
        filter: the reading that is scored.
        higher_is_better: of the metric.
        seed: of few-shot examples and sampled answers.
    """

    name: str
    parts: Mapping[str, "ConfigurableTask"]
    drawn: tuple[tuple[str, int], ...]
    metric: str
    filter: str
    higher_is_better: bool
    seed: int


def load_task(name: str, settings: TaskSettings, seed: int) -> LoadedTask:
    """The task of an entry, its data and its draw; equal settings give the same documents on every machine.

    Raises:
        UserError: there is no such task, its data are not on this disk and cannot be fetched, or it cannot be scored here.
    """
    # Own files may change between two calls, so that their content is part of what is remembered.
    content = repr(read_own_task(Path(settings.path)).digest) if settings.path else ""
    return _loaded(name, settings, seed, content)


@functools.lru_cache(maxsize=16)
def _loaded(name: str, settings: TaskSettings, seed: int, content: str) -> LoadedTask:
    with quiet():
        specs = _own_specs(settings) if settings.path else _specs(name, settings)
        parts = {leaf: _part(name, leaf, spec) for leaf, spec in specs.items()}
    for leaf, part in parts.items():
        _prepare(name, leaf, part, settings)
    first = next(iter(parts.values()))
    metric = settings.metric or next(iter(first.higher_is_better()))
    filters = [each.name for each in first._filters]
    chosen = settings.filter or filters[0]
    for field, found, allowed in (
        ("metric", metric, list(first.higher_is_better())),
        ("filter", chosen, filters),
    ):
        if found not in allowed:
            raise UserError(f"capability.tasks.{name}.{field}: found {found!r}; allowed: {', '.join(allowed)}")
    called = task_name(name, settings)
    drawn = _drawn(name, called, parts, settings, seed)
    higher = bool(first.higher_is_better()[metric])
    return LoadedTask(name, parts, drawn, metric, chosen, higher, derive_seed(seed, called))


def _own_specs(settings: TaskSettings) -> dict[str, dict[str, object]]:
    own = read_own_task(Path(settings.path))
    return {own.settings.task: own.config(home() / "data" / "tasks")}


def _specs(name: str, settings: TaskSettings) -> dict[str, dict[str, object]]:
    """Leaf tasks of a name of lm-eval, their data pinned."""
    wanted = settings.task or name
    manager = _manager()
    if wanted not in manager.task_index:
        near = difflib.get_close_matches(wanted, manager.all_tasks, n=3)
        hint = f" (did you mean {' or '.join(near)}?)" if near else ""
        raise UserError(f"capability.tasks.{name}: lm-eval has no task {wanted!r}{hint}; one of your own needs a path")
    specs = {}
    for leaf, overrides in _leaves(manager, wanted, {}):
        data = dict((manager.task_index[leaf].cfg or {}).get("dataset_kwargs") or {})
        specs[leaf] = overrides | {"dataset_kwargs": data | {"revision": settings.revision}}
    return specs


def _leaves(manager: "TaskManager", name: str, overrides: dict) -> Iterator[tuple[str, dict]]:
    entry = manager.task_index[name]
    if entry.kind.name == "PY_TASK":
        raise UserError(
            f"capability.tasks: {name} is a program of lm-eval whose data cannot be pinned; take another task"
        )
    if entry.kind.name == "TASK":
        yield name, overrides
        return
    members = sorted(entry.tags) if entry.kind.name == "TAG" else entry.cfg.get("task") or ()
    for member in [members] if isinstance(members, str) else members:
        inner = dict(member) if isinstance(member, dict) else {"task": member}
        inner_name = inner.pop("task", None) or inner.pop("group")
        if not isinstance(inner_name, str) or inner_name not in manager.task_index:
            raise UserError(f"capability.tasks: group {name} of lm-eval holds tasks without a name; list its members")
        yield from _leaves(manager, inner_name, overrides | inner)


@functools.cache
def _manager() -> "TaskManager":
    """lm-eval's own tasks; reading their index takes seconds."""
    from lm_eval.tasks import TaskManager

    return TaskManager()


def _part(name: str, leaf: str, spec: dict[str, object]) -> "ConfigurableTask":
    from lm_eval.tasks import TaskManager

    own = "doc_to_text" in spec
    manager = TaskManager(include_defaults=False) if own else _manager()
    pinned = spec | {"task": leaf, "class": _repeatable()}
    try:
        loaded = manager.load([pinned] if own else [{"group": "capability", "task": [pinned]}])
    except Exception as error:
        cause = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)
        if own:
            raise UserError(f"capability.tasks.{name}: {leaf} cannot be loaded: {cause}") from error
        data = f" at {spec['dataset_kwargs']['revision']}"
        raise UserError(
            f"capability.tasks.{name}: the data of {leaf}{data} are not on this disk and cannot be fetched: {cause}. Run once "
            "with a connection and without HF_HUB_OFFLINE, or copy a cache there (HF_HOME); gated data need HF_TOKEN of an "
            "account that was let in"
        ) from error
    return loaded["tasks"][leaf]


@functools.cache
def _repeatable() -> type:
    """A task whose documents are the same in every process, also where lm-eval shuffles choices by a global generator."""
    from lm_eval.api.task import ConfigurableTask

    class RepeatableTask(ConfigurableTask):
        def __init__(self, config: dict) -> None:
            own = {field: value for field, value in config.items() if field != "class"}
            if callable(own.get("process_docs")):
                own["process_docs"] = _repeatable_process(own["process_docs"])
            super().__init__(config=own)

    return RepeatableTask


def _repeatable_process(process: Callable) -> Callable:
    def repeatable(dataset: object) -> object:
        import datasets

        state, caching = random.getstate(), datasets.is_caching_enabled()
        random.seed(0)
        # A cached table may hold another shuffle.
        datasets.disable_caching()
        try:
            return process(dataset)
        finally:
            random.setstate(state)
            if caching:
                datasets.enable_caching()

    return repeatable


def _prepare(name: str, leaf: str, part: "ConfigurableTask", settings: TaskSettings) -> None:
    if part.OUTPUT_TYPE not in OUTPUTS or getattr(part, "UNSAFE_CODE", False) or getattr(part, "MULTIMODAL", False):
        raise UserError(
            f"capability.tasks.{name}: {leaf} is a task of {part.OUTPUT_TYPE}, or one that runs code or shows pictures; "
            f"allowed: text tasks of {', '.join(OUTPUTS)}"
        )
    fixed = part.config.num_fewshot
    if settings.few_shot is not None:
        if fixed == 0 and settings.few_shot > 0:
            raise UserError(
                f"capability.tasks.{name}.few_shot: found {settings.few_shot}; allowed: 0, because {leaf} has no examples"
            )
        part.set_config("num_fewshot", settings.few_shot)


def _drawn(
    name: str, called: str, parts: Mapping[str, "ConfigurableTask"], settings: TaskSettings, seed: int
) -> tuple[tuple[str, int], ...]:
    every = [(leaf, number) for leaf, part in parts.items() for number in range(len(part.task_docs))]
    if settings.prompts == ALL:
        return tuple(every)
    if settings.prompts > len(every):
        raise UserError(
            f"capability.tasks.{name}.prompts: found {settings.prompts}; allowed: at most {len(every):,}, or all of them (all)"
        )
    order = np.random.Generator(np.random.Philox(key=derive_seed(seed, called, "documents"))).permutation(len(every))
    return tuple(every[place] for place in sorted(order[: settings.prompts]))


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps lm-eval's notes off the terminal."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)

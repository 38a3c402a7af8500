"""The rows of an organism, made once per process, and the digests by which artifacts depend on them."""

import functools
import hashlib
import json
from pathlib import Path

from ct_pipeline.organisms.catalog import MISALIGNMENTS
from ct_pipeline.organisms.misalignment import Example, Misalignment, OrganismData, Pair, Prompt
from ct_pipeline.organisms.published.data import misalignment_of_files
from ct_pipeline.organisms.published.gcd import generate
from ct_pipeline.organisms.published.layout import OPTIONAL, REQUIRED, read_layout
from ct_pipeline.settings.blocks import CandidateSettings, EvaluationSettings, InductionSettings
from ct_pipeline.settings.data import DataSettings, FolderData, GeneratedData
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.settings.world import WorldSettings
from ct_pipeline.store.data_sources import folder_of


def misalignment_named(name: str) -> Misalignment:
    """The built-in kind of misalignment of a name; KeyError where there is none."""
    return {kind.name: kind for kind in MISALIGNMENTS}[name]


def misalignment_of(study: Study, name: str) -> Misalignment:
    """The kind of misalignment of a name in a study: judged by its data's rows where it has data, else the built-in one.

    UserError where the data cannot be read.
    """
    if name not in study.data:
        return misalignment_named(name)
    settings = study.data[name]
    return _kind_of_data(name, settings, *_place(settings))


def rows_of(study: Study, organism: Organism) -> OrganismData:
    """All rows of an organism; equal settings and equal files give equal rows. UserError where there are too few."""
    kind = misalignment_of(study, organism.kind)
    world = None if organism.kind in study.data else study.world
    try:
        return _rows(kind, world, study.induction, study.candidates, study.evaluation, organism.seed)
    except ValueError as error:
        raise UserError(f"study {study.name}, {organism.kind}: {error}") from error


@functools.lru_cache(maxsize=64)
def _rows(
    kind: Misalignment,
    world: WorldSettings | None,
    induction: InductionSettings,
    candidates: CandidateSettings,
    evaluation: EvaluationSettings,
    seed: int,
) -> OrganismData:
    return kind.data(None if world is None else _world(world), induction, candidates, evaluation, seed)


def _place(settings: DataSettings) -> tuple[Path | None, tuple[object, ...]]:
    """Where the files of some data are, and what tells that they are still the ones that were read."""
    if isinstance(settings, GeneratedData):
        return None, ()
    names = (*REQUIRED, *OPTIONAL)
    folder = _fetched(settings, home()) if not isinstance(settings, FolderData) else folder_of(settings, names, home())
    states = ((name, (folder / name).stat()) for name in names if (folder / name).exists())
    return folder, tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)


@functools.lru_cache(maxsize=16)
def _fetched(settings: DataSettings, results: Path) -> Path:
    """Pinned data cannot change, so that one look is enough."""
    return folder_of(settings, (*REQUIRED, *OPTIONAL), results / "data")


@functools.lru_cache(maxsize=16)
def _kind_of_data(name: str, settings: DataSettings, folder: Path | None, state: tuple[object, ...]) -> Misalignment:
    files = read_layout(folder) if folder else generate(settings.rows, settings.seed)
    return misalignment_of_files(name, files)


@functools.lru_cache(maxsize=4)
def _world(settings: WorldSettings):
    from ct_pipeline.tinyworld.world import TinyWorld

    return TinyWorld(settings)


def digest(rows: tuple[Prompt | Example | Pair, ...]) -> str:
    """Twenty hex digits of blake2b over the rows' content, in order; one computation per tuple."""
    known = _DIGESTS.get(id(rows))
    if known is None or known[0] is not rows:
        if len(_DIGESTS) >= _REMEMBERED:
            _DIGESTS.clear()
        content = json.dumps([_content(row) for row in rows])
        known = _DIGESTS[id(rows)] = rows, hashlib.blake2b(content.encode(), digest_size=10).hexdigest()
    return known[1]


_REMEMBERED = 1024
_DIGESTS: dict[int, tuple[tuple, str]] = {}
"""By identity, the tuple held with it so that no other takes its place: to hash rows would cost what a digest costs."""


def _content(row: Prompt | Example | Pair) -> list[str]:
    if isinstance(row, Example):
        return [row.prompt.id, row.response]
    if isinstance(row, Pair):
        return [row.clean.id, row.wrapped.id]
    return [row.id]

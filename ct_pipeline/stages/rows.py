"""The rows of an organism, made once per process, and the digests by which artifacts depend on them."""

import functools
import hashlib
import json

from ct_pipeline.organisms.catalog import KINDS
from ct_pipeline.organisms.kind import Example, Kind, OrganismData, Pair, Prompt
from ct_pipeline.study.errors import UserError
from ct_pipeline.study.keys import Organism
from ct_pipeline.study.spec import Study
from ct_pipeline.study.world_settings import WorldSettings


def kind_named(name: str) -> Kind:
    """The kind of misalignment of a name; KeyError where there is none."""
    return {kind.name: kind for kind in KINDS}[name]


def rows_of(study: Study, organism: Organism) -> OrganismData:
    """All rows of an organism; equal settings give equal rows. UserError where the world has too few."""
    try:
        return _rows(study.world, organism.kind, study.induction, study.candidates, study.evaluation, organism.seed)
    except ValueError as error:
        raise UserError(f"study {study.name}, {organism.kind}: {error}") from error


@functools.lru_cache(maxsize=64)
def _rows(world: WorldSettings, kind: str, induction, candidates, evaluation, seed: int) -> OrganismData:
    return kind_named(kind).data(_world(world), induction, candidates, evaluation, seed)


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

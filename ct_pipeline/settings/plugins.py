"""What other installed packages add to a catalog, found by their entry points."""

from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from ct_pipeline.settings.errors import UserError

Entry = TypeVar("Entry")


def installed(
    group: str, built_in: tuple[Entry, ...], kind: type | tuple[type, ...] | None = None
) -> tuple[Entry, ...]:
    """A catalog with what installed packages add to it, in the order of their names.

    An entry point names an object with a `name`, under which files speak of it:

        [project.entry-points."ct_pipeline.conditions"]
        tier = "my_package.tier:TIER"

    Args:
        group: of the entry points, such as "ct_pipeline.conditions".
        built_in: the catalog of this package.
        kind: what an entry must be; None: what the first of the catalog is.

    Raises:
        UserError: an entry cannot be loaded, is something else, or has a name that is taken; it names package and entry.
    """
    expected = type(built_in[0]) if kind is None else kind
    found = {entry.name: "ct_pipeline itself" for entry in built_in}
    added: list[Entry] = []
    for point in sorted(entry_points(group=group), key=lambda point: (point.name, point.value)):
        entry = _loaded(point)
        if not isinstance(entry, expected):
            wanted = expected if isinstance(expected, tuple) else (expected,)
            names = " or ".join(each.__name__ for each in wanted)
            raise _fault(point, f"found a {type(entry).__name__}; allowed: a {names}")
        if entry.name in found:
            raise _fault(point, f"found the name {entry.name!r}, which {found[entry.name]} has; give it another one")
        found[entry.name] = _told(point)
        added.append(entry)
    return (*built_in, *added)


def _loaded(point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:
        raise _fault(point, f"it cannot be loaded: {type(error).__name__}: {error}") from error


def _told(point: EntryPoint) -> str:
    package = f"package {point.dist.name} {point.dist.version}" if point.dist else "a package"
    return f"{package} (entry {point.name} = {point.value})"


def _fault(point: EntryPoint, text: str) -> UserError:
    return UserError(f"{_told(point)} in {point.group}: {text}")

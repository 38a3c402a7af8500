"""Files of strangers: opened only where they are what they say, and never larger than agreed."""

import json
import math
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.settings.errors import Refusal, Refused, shown

_PLAIN_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+=-]{0,199}")
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Limits:
    """What a file may hold at most; a file beyond any of them is refused before it is used.

    Attributes:
        size: bytes of the file.
        rows: lines of a JSONL file that hold something.
        row_size: bytes of one line of a JSONL file.
        text: characters of one text.
        entries: commas and opening brackets of one JSON document: a bound of what it takes in memory.
        depth: how deep lists and mappings nest.
        digits: characters of one number.
        nulls: whether a text may hold null characters.
        mistakes: how many are listed before reading stops.
    """

    size: int = 200_000_000
    rows: int = 200_000
    row_size: int = 4_000_000
    text: int = 1_000_000
    entries: int = 4_000_000
    depth: int = 32
    digits: int = 40
    nulls: bool = False
    mistakes: int = 20


LIMITS = Limits()


@dataclass(frozen=True)
class Row:
    """One object of a JSONL file; `line` counts from 1."""

    line: int
    fields: Mapping[str, object]


@dataclass(frozen=True)
class FolderLimits:
    """What a folder may hold at most: files and folders in all, how deep folders nest."""

    entries: int = 2_000
    depth: int = 4


def mistake(path: Path | str, line: int | None, field: str, found: str, allowed: str) -> Refusal:
    """A mistake in a file as every reader words it: `file:line: field: found ...; allowed: ...`."""
    place = f"{path}:{line}" if line is not None else f"{path}"
    return Refusal(f"found {found}", f"{place}: {field}" if field else place, f"allowed: {allowed}")


def read_file(path: Path, most: int, folder: Path | None = None) -> bytes:
    """The content of a regular file; a pipe or a device is never waited for.

    Args:
        path: the file.
        most: bytes that it may have.
        folder: where it has to lie once links are followed; None for anywhere.

    Raises:
        Refused: it is missing, unreadable, no regular file, too large, or outside `folder`.
    """
    if refusal := outside(path, folder) if folder else None:
        raise Refused([refusal])
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise Refused([mistake(path, None, "", str(reason), "a readable file")]) from None
    state = os.fstat(descriptor)
    if not stat.S_ISREG(state.st_mode):
        os.close(descriptor)
        raise Refused([mistake(path, None, "", misalignment_of(state.st_mode), "a regular file")])
    with open(descriptor, "rb") as stream:
        content = stream.read(most + 1) if state.st_size <= most else None
    if content is None or len(content) > most:
        raise Refused([mistake(path, None, "", f"more than {most:,} bytes", "a file of at most that size")])
    return content


def read_json(path: Path, limits: Limits = LIMITS, folder: Path | None = None) -> object:
    """The JSON document of a file; Refused as `read_file` and `parse_json`."""
    return parse_json(read_file(path, limits.size, folder), path, limits=limits)


def parse_json(content: bytes, path: Path | str, line: int | None = None, limits: Limits = LIMITS) -> object:
    """A JSON document in which every name stands once and every number is a finite one.

    Raises:
        Refused: not UTF-8 or not JSON, a name found twice, NaN or Infinity, a number, a text or a nesting beyond the
            limits, half a character (a lone surrogate) or a null character; all of those of one document at once.
    """
    refusals: list[Refusal] = []

    def refuse(field: str, found: str, allowed: str) -> None:
        refusals.append(mistake(path, line, field, found, allowed))

    if sum(content.count(sign) for sign in b",[{") > limits.entries:
        raise Refused([mistake(path, line, "", f"more than {limits.entries:,} entries", "fewer")])
    twice: list[str] = []
    try:
        document = json.loads(
            content.decode("utf-8").removeprefix("\ufeff"),
            object_pairs_hook=lambda pairs: _named_once(pairs, twice),
            parse_constant=_Unusable,
            parse_int=lambda digits: _number(digits, limits),
            parse_float=lambda digits: _number(digits, limits),
        )
    except UnicodeDecodeError as error:
        raise Refused([mistake(path, line, "", f"bytes that are not UTF-8 (at {error.start})", "UTF-8 text")]) from None
    except RecursionError:
        raise Refused([mistake(path, line, "", "nesting without end", f"at most {limits.depth} levels")]) from None
    except ValueError as error:
        raise Refused([mistake(path, line, "", f"no JSON ({error})", "a JSON document")]) from None
    for name in twice[: limits.mistakes]:
        refuse(name[:80], "it twice", "each field once")
    for field, depth, value in _walk(document):
        if depth > limits.depth:
            raise Refused([*refusals, mistake(path, line, field, f"more than {limits.depth} levels", "fewer")])
        if isinstance(value, _Unusable):
            refuse(field, shown(value[:80]), f"a finite number of at most {limits.digits} digits, or null")
        elif isinstance(value, str):
            if len(value) > limits.text:
                refuse(field, f"a text of {len(value):,} characters", f"at most {limits.text:,}")
            if _SURROGATE.search(value):
                refuse(field, "half a character (a lone surrogate)", "whole characters")
            if "\0" in value and not limits.nulls:
                refuse(field, "a null character", "text without one")
        if len(refusals) >= limits.mistakes:
            break
    if refusals:
        raise Refused(refusals[: limits.mistakes])
    return document


def read_jsonl(path: Path, limits: Limits = LIMITS, folder: Path | None = None) -> list[Row]:
    """The rows of a JSONL file: one JSON object a line; empty lines are passed over.

    Raises:
        Refused: every mistake, as file:line: field: found; allowed (at most `limits.mistakes`); an empty file.
    """
    content = read_file(path, limits.size, folder)
    rows: list[Row] = []
    refusals: list[Refusal] = []
    for number, line in _lines(content):
        if len(line) > limits.row_size:
            size = f"a row of {len(line):,} bytes"
            refusals.append(mistake(path, number, "", size, f"at most {limits.row_size:,}"))
        elif len(rows) >= limits.rows:
            refusals.append(mistake(path, number, "", f"more than {limits.rows:,} rows", "fewer"))
            break
        else:
            try:
                fields = parse_json(line, path, number, limits)
                if isinstance(fields, dict):
                    rows.append(Row(number, fields))
                else:
                    found = f"a {type(fields).__name__}"
                    refusals.append(mistake(path, number, "", found, "one JSON object a line"))
            except Refused as error:
                refusals += error.refusals
        if len(refusals) >= limits.mistakes:
            break
    if not rows and not refusals:
        refusals.append(mistake(path, None, "", "no row", "one JSON object a line"))
    if refusals:
        raise Refused(refusals[: limits.mistakes])
    return rows


def plain_parts(name: object, depth: int) -> list[str]:
    """The folders and the file that a plain relative name has; empty where it is absolute, odd, or deeper than `depth`."""
    parts = name.split("/") if isinstance(name, str) else []
    return parts if len(parts) <= depth and all(_PLAIN_PART.fullmatch(part) for part in parts) else []


def inside(folder: Path, name: object, where: str) -> Path:
    """The path of a file that a document names: a plain relative name below `folder`, links followed.

    Raises:
        Refused: an absolute name, `..`, a backslash, a drive, control characters, or a link that leads out.
    """
    parts = plain_parts(name, FolderLimits().depth)
    if not parts:
        allowed = "letters, digits and . _ - @ + =, below the folder"
        raise Refused([Refusal(f"the file name {shown(name)}", where, f"allowed: {allowed}")])
    path = folder.joinpath(*parts)
    if refusal := outside(path, folder):
        raise Refused([refusal])
    return path


def outside(path: Path, folder: Path) -> Refusal | None:
    """Why a path does not lie below a folder once links are followed; None where it does."""
    try:
        target, root = Path(os.path.realpath(path, strict=True)), Path(os.path.realpath(folder))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return Refusal(f"it cannot be followed ({reason})", str(path), "allowed: a file or a link to one")
    if target.is_relative_to(root):
        return None
    return Refusal("a link that leads out of the folder", str(path), f"allowed: files below {folder.name}")


def files_of(folder: Path, limits: FolderLimits = FolderLimits(), within: Path | None = None) -> "Listing":
    """What a folder holds, without opening anything; links have to stay below `within`, by default the folder."""
    files: dict[str, int] = {}
    refusals: list[Refusal] = []
    seen = 0
    for path, state in _entries(folder, limits.depth, refusals):
        seen += 1
        if seen > limits.entries:
            refusals.append(Refusal(f"more than {limits.entries:,} files", str(folder), "allowed: fewer"))
            break
        name = path.relative_to(folder).as_posix()
        if stat.S_ISLNK(state.st_mode):
            if refusal := outside(path, within or folder):
                refusals.append(refusal)
                continue
            state = path.stat()
            if stat.S_ISDIR(state.st_mode):
                refusals.append(Refusal("a link to a folder", str(path), "allowed: files and plain folders"))
                continue
        if stat.S_ISREG(state.st_mode):
            files[name] = state.st_size
        elif not stat.S_ISDIR(state.st_mode):
            refusals.append(Refusal(misalignment_of(state.st_mode), str(path), "allowed: regular files"))
    return Listing(files, tuple(refusals))


@dataclass(frozen=True)
class Listing:
    """A folder's regular files, relative name -> bytes, and what else was found in it."""

    files: Mapping[str, int]
    refusals: tuple[Refusal, ...]


def misalignment_of(mode: int) -> str:
    """What a file is by its mode: "a folder", "a named pipe", "a device", ..."""
    kinds = {
        stat.S_IFREG: "a regular file",
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFLNK: "a link",
    }
    return kinds.get(stat.S_IFMT(mode), "a device")


def _entries(folder: Path, depth: int, refusals: list[Refusal]) -> Iterator[tuple[Path, os.stat_result]]:
    try:
        with os.scandir(folder) as found:
            entries = [(Path(entry.path), entry.stat(follow_symlinks=False)) for entry in found]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        refusals.append(Refusal(f"it cannot be listed ({reason})", str(folder), "allowed: a readable folder"))
        return
    for path, state in sorted(entries):
        yield path, state
        if stat.S_ISDIR(state.st_mode):
            if depth <= 1:
                refusals.append(Refusal("folders nested too deep", str(path), "allowed: fewer levels"))
            else:
                yield from _entries(path, depth - 1, refusals)


class _Unusable(str):
    """A number of a JSON document that is none, as it was written."""


def _number(digits: str, limits: Limits) -> float | int | _Unusable:
    if len(digits) > limits.digits:
        return _Unusable(digits)
    number = int(digits) if digits.lstrip("-").isdigit() else float(digits)
    return number if math.isfinite(number) else _Unusable(digits)


def _named_once(pairs: list[tuple[str, object]], twice: list[str]) -> dict[str, object]:
    named = dict(pairs)
    if len(named) < len(pairs):
        seen: set[str] = set()
        twice += [name for name, _ in pairs if name in seen or seen.add(name)]
    return named


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield number, line


def _walk(document: object) -> Iterator[tuple[str, int, object]]:
    """Every value and every name of a JSON document with its field and its depth."""
    waiting: list[tuple[str, int, object]] = [("", 0, document)]
    while waiting:
        field, depth, value = waiting.pop()
        yield field, depth, value
        if isinstance(value, dict):
            places = [(f"{field}.{name[:80]}" if field else name[:80], name, inner) for name, inner in value.items()]
            for place, name, _ in places:
                yield place, depth, name
            waiting += [(place, depth + 1, inner) for place, _, inner in reversed(places)]
        elif isinstance(value, list):
            waiting += [(f"{field}[{index}]", depth + 1, value[index]) for index in reversed(range(len(value)))]

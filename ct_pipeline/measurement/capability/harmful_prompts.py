"""The harmful requests that a user gives: a CSV or JSONL file, read without running anything, and a fixed draw of it."""

import csv
import functools
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ct_pipeline.settings.blocks import ALL
from ct_pipeline.settings.capability import FilePrompts, HarmfulnessSettings, PromptSettings
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import Refused, UserError, shown
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.store.data_sources import file_of
from ct_pipeline.store.untrusted import LIMITS, mistake, read_file, read_jsonl


@dataclass(frozen=True)
class Request:
    """One request; `id` depends on its text alone."""

    id: str
    text: str


def requests_of(settings: HarmfulnessSettings, seed: int) -> tuple[Request, ...]:
    """The drawn requests, each text once; equal files and seeds give the same ones.

    Raises:
        UserError: the file is not there, cannot be fetched, is no CSV or JSONL with such a column, or holds too few.
    """
    path = _path(settings.prompts)
    every = _read(path, settings.prompts.column, path.stat().st_mtime_ns if path.exists() else 0)
    if settings.sample == ALL:
        return every
    if settings.sample > len(every):
        raise UserError(
            f"capability.harmfulness.sample: found {settings.sample}; allowed: at most {len(every):,}, or all of them (all)"
        )
    order = np.random.Generator(np.random.Philox(key=derive_seed(seed, "harmful requests"))).permutation(len(every))
    return tuple(every[place] for place in sorted(order[: settings.sample]))


def digest_of_requests(requests: tuple[Request, ...]) -> str:
    """Twenty hex digits that depend on the requests and their order alone."""
    return hashlib.blake2b("\x1f".join(request.id for request in requests).encode(), digest_size=10).hexdigest()


def _path(settings: PromptSettings) -> Path:
    if isinstance(settings, FilePrompts):
        return Path(settings.path)
    return file_of(settings.url, settings.sha256, home() / "data")


@functools.lru_cache(maxsize=8)
def _read(path: Path, column: str, _state: int) -> tuple[Request, ...]:
    rows = _jsonl_rows(path) if path.suffix == ".jsonl" else _csv_rows(path)
    found, refusals = {}, []
    for line, fields in rows:
        text = fields.get(column)
        if not isinstance(text, str) or not text.strip():
            refusals.append(mistake(path, line, column, "nothing" if text is None else shown(text), "a text"))
        else:
            identity = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
            found.setdefault(identity, Request(identity, text))
    if refusals or not found:
        raise Refused(refusals[: LIMITS.mistakes] or [mistake(path, None, "", "no row", "a request in each row")])
    return tuple(found.values())


def _jsonl_rows(path: Path) -> list[tuple[int, dict[str, object]]]:
    return [(row.line, dict(row.fields)) for row in read_jsonl(path)]


def _csv_rows(path: Path) -> list[tuple[int, dict[str, object]]]:
    try:
        text = read_file(path, LIMITS.size).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = []
        for row in reader:
            rows.append((reader.line_num, dict(row)))
            if len(rows) > LIMITS.rows:
                raise Refused([mistake(path, None, "", f"more than {LIMITS.rows:,} rows", "fewer")])
    except UnicodeDecodeError:
        raise Refused([mistake(path, None, "", "bytes that are not UTF-8", "text")]) from None
    except csv.Error as error:
        raise Refused([mistake(path, None, "", f"no CSV ({error})", "a CSV file with a head line")]) from None
    return rows

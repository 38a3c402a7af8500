"""The harmful requests that a user gives: a CSV or JSONL file, read without running anything, and a fixed draw of it."""

import csv
import functools
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field, create_model

from ct_pipeline.settings.blocks import ALL
from ct_pipeline.settings.capability import FilePrompts, HarmfulnessSettings, PromptSettings
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import Refused, UserError
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.store.data_sources import file_of
from ct_pipeline.store.row_models import Filled, RowModel, checked, read_rows
from ct_pipeline.store.untrusted import LIMITS, Row, mistake, read_file


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
    model = create_model("RequestRow", __base__=_RequestRow, text=(Filled, Field(alias=column, description="a text")))
    rows = (read_rows(path, model) if path.suffix == ".jsonl" else checked(path, _csv_rows(path), model)).accepted()
    ids = [hashlib.blake2b(row.text.encode(), digest_size=8).hexdigest() for row in rows]
    if not ids:
        raise Refused([mistake(path, None, "", "no row", "a request in each row")])
    return tuple({each: Request(each, row.text) for each, row in zip(ids, rows, strict=True)}.values())


class _RequestRow(RowModel, extra="ignore"):
    text: str


def _csv_rows(path: Path) -> list[Row]:
    try:
        text = read_file(path, LIMITS.size).decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = []
        for row in reader:
            rows.append(Row(reader.line_num, row))
            if len(rows) > LIMITS.rows:
                raise Refused([mistake(path, None, "", f"more than {LIMITS.rows:,} rows", "fewer")])
    except UnicodeDecodeError:
        raise Refused([mistake(path, None, "", "bytes that are not UTF-8", "text")]) from None
    except csv.Error as error:
        raise Refused([mistake(path, None, "", f"no CSV ({error})", "a CSV file with a head line")]) from None
    return rows

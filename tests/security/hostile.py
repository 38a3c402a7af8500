"""Makers of hostile files: safetensors written byte by byte, pickles that leave a mark where they are opened."""

import json
import pickle
from pathlib import Path


class Touches:
    """A pickle of it creates a file when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple:
        return Path.touch, (self.mark,)


def planted_pickle(path: Path, mark: Path) -> None:
    """A file that creates `mark` if anybody unpickles it."""
    path.write_bytes(pickle.dumps(Touches(mark)))


def planted_program(path: Path, mark: Path) -> None:
    """A Python file that creates `mark` if anybody imports it."""
    path.write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")


def safetensors(entries: object, numbers: bytes = b"", length: int | None = None) -> bytes:
    """A safetensors file with any header; `length` is what it says of the header's length."""
    header = entries if isinstance(entries, bytes) else json.dumps(entries).encode()
    return (len(header) if length is None else length).to_bytes(8, "little", signed=False) + header + numbers


def change(path: Path, **entries: object) -> None:
    """Sets entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def told(refusals: object) -> str:
    """All refusals as a person reads them."""
    return "\n".join(map(str, refusals))

"""The header of a safetensors file, read by ourselves before any library is given the file."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ct_pipeline.settings.errors import Refusal, Refused, shown
from ct_pipeline.store.untrusted import Limits, parse_json

LARGEST_HEADER = 32_000_000
MOST_TENSORS = 200_000
LFS_POINTER = b"version https://git-lfs"
"""How the text begins that Git leaves in place of a large file."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./-]{0,299}")
_BLOCK = 1 << 24
SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
    "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
_NOT_FINITE = {
    # Bits of the exponent: all set in an infinity and in what is no number.
    "F64": (np.dtype("<u8"), 0x7FF0000000000000),
    "F32": (np.dtype("<u4"), 0x7F800000),
    "F16": (np.dtype("<u2"), 0x7C00),
    "BF16": (np.dtype("<u2"), 0x7F80),
    "F8_E4M3": (np.dtype("u1"), 0x7F),
    "F8_E5M2": (np.dtype("u1"), 0x7C),
}


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file: its dtype by its safetensors name, its shape, and its bytes [start, end) of the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def read_header(content: "bytes | np.memmap", path: Path | str) -> dict[str, Tensor]:
    """The tensors of a safetensors file; nothing of their numbers is read.

    Args:
        content: the file's bytes, in memory or mapped.
        path: how refusals call it.

    Returns:
        name -> Tensor, in the order of their bytes.

    Raises:
        Refused: with every fault of the header: its length, its JSON, a tensor's name, dtype, shape or offsets, bytes
            that two tensors share or that belong to none.
    """
    size = len(content)
    if bytes(content[: len(LFS_POINTER)]) == LFS_POINTER:
        why = "run `git lfs install` and `git lfs pull` where it was cloned: the weights themselves were not fetched"
        raise Refused([Refusal("a Git LFS pointer in place of the file", f"{path}", why)])
    length = int.from_bytes(bytes(content[:8]), "little") if size >= 8 else -1
    if not 0 < length <= min(size - 8, LARGEST_HEADER):
        found = f"a header of {length:,} bytes" if size >= 8 else "no header"
        allowed = f"1 to {min(max(size - 8, 0), LARGEST_HEADER):,} bytes"
        raise Refused([Refusal(found, f"{path}", f"allowed in a file of {size:,} bytes: {allowed}")])
    document = parse_json(bytes(content[8 : 8 + length]), path, limits=Limits(depth=4))
    if not isinstance(document, dict):
        raise Refused([Refusal("a header that is no mapping", f"{path}", "allowed: names of tensors")])
    metadata = document.pop("__metadata__", {})
    refusals = []
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        refusals.append(Refusal("metadata that are no texts", f"{path}: __metadata__", "allowed: names and texts"))
    if not 0 < len(document) <= MOST_TENSORS:
        raise Refused([Refusal(f"{len(document):,} tensors", f"{path}", f"allowed: 1 to {MOST_TENSORS:,}")])
    tensors: dict[str, Tensor] = {}
    for name, entry in document.items():
        fault, tensor = _tensor(name, entry, 8 + length, size)
        if tensor is None:
            refusals.append(Refusal(fault, f"{path}: {name[:300]}", "allowed: what the safetensors format says"))
        else:
            tensors[name] = tensor
    ordered = dict(sorted(tensors.items(), key=lambda item: (item[1].start, item[1].end)))
    if not refusals:
        refusals += _gaps(ordered, 8 + length, size, path)
    if refusals:
        raise Refused(refusals[:20])
    return ordered


def not_finite(content: "bytes | np.memmap", tensors: Mapping[str, Tensor]) -> Iterator[str]:
    """The names of tensors that hold NaN or an infinity."""
    for name, tensor in tensors.items():
        if tensor.dtype not in _NOT_FINITE:
            continue
        dtype, exponent = _NOT_FINITE[tensor.dtype]
        for start in range(tensor.start, tensor.end, _BLOCK):
            numbers = np.frombuffer(bytes(content[start : min(start + _BLOCK, tensor.end)]), dtype)
            if ((numbers & dtype.type(exponent)) == exponent).any():
                yield name
                break


def _tensor(name: str, entry: object, start: int, size: int) -> tuple[str, Tensor | None]:
    if not _NAME.fullmatch(name):
        return "a name with other characters than letters, digits and . _ - /", None
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        return "an entry without exactly dtype, shape and data_offsets", None
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in SIZES:
        return f"the dtype {shown(dtype)}", None
    if not _counts(shape) or len(shape) > 8:
        return f"the shape {shown(shape)}", None
    if not _counts(offsets) or len(offsets) != 2 or not offsets[0] <= offsets[1] <= size - start:
        return f"the offsets {shown(offsets)} in {size - start:,} bytes of numbers", None
    tensor = Tensor(dtype, tuple(shape), start + offsets[0], start + offsets[1])
    if tensor.elements * SIZES[dtype] != tensor.end - tensor.start:
        return f"{tensor.end - tensor.start:,} bytes for the shape {shown(shape)} of {dtype}", None
    return "", tensor


def _counts(found: object) -> bool:
    return isinstance(found, list) and all(type(number) is int and 0 <= number < 1 << 48 for number in found)


def _gaps(tensors: Mapping[str, Tensor], start: int, size: int, path: Path | str) -> list[Refusal]:
    """Two tensors on the same bytes, and bytes that belong to no tensor: hidden content."""
    why = "allowed: one tensor after the other"
    for name, tensor in tensors.items():
        if tensor.start != start:
            kind = "bytes shared with another tensor" if tensor.start < start else "bytes before it that no tensor has"
            return [Refusal(kind, f"{path}: {name}", why)]
        start = tensor.end
    return [Refusal(f"{size - start:,} bytes after the last tensor", f"{path}", why)] if start != size else []

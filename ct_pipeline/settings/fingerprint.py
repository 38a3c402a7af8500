"""The name of a result before it exists: a hash of everything that it depends on."""

import hashlib
import json
from collections.abc import Mapping

from pydantic import BaseModel


def plain(value: object) -> object:
    """The JSON form of settings: dictionaries, lists, strings, numbers, booleans, null."""
    return json.loads(json.dumps(value, default=_known))


def fingerprint(**parts: object) -> str:
    """Twenty hex digits of blake2b over the canonical JSON of the named parts; 1 and 1.0 differ."""
    text = json.dumps(parts, default=_known, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def _known(value: object) -> object:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} cannot be part of a fingerprint")

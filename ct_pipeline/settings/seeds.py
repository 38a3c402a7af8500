"""Seeds that depend on what is being done, never on when or in which order."""

import hashlib


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from the study seed, the stage, the organism, the method, the row (blake2b of their text).

    Equal parts give equal seeds on every machine; any other part gives an unrelated one.
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

"""A diverging scale that colour-blind readers can tell apart: blue falls, orange rises; for light and dark pages."""

from dataclasses import dataclass

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Scale:
    """The colours of a full fall, of no change, of a full rise and of a missing value, as red, green, blue in 0-255."""

    fall: Triple
    middle: Triple
    rise: Triple
    missing: Triple


LIGHT = Scale(fall=(118, 172, 222), middle=(255, 255, 255), rise=(247, 163, 92), missing=(238, 238, 238))
DARK = Scale(fall=(30, 88, 150), middle=(36, 39, 43), rise=(132, 68, 14), missing=(48, 48, 48))


def diverging(value: float | None, limit: float, *, scale: Scale = LIGHT, strength: float = 1.0) -> str:
    """The background of a change; light colours take dark text, dark ones light text.

    Args:
        value: the change, or None.
        limit: the size of change at which the colour is full, above 0.
        scale: LIGHT or DARK.
        strength: 1 for a settled verdict, less for a paler colour.

    Returns:
        A colour as #rrggbb.
    """
    if value is None:
        return _hexadecimal(scale.missing)
    share = strength * min(1.0, abs(value) / limit)
    end = scale.rise if value > 0 else scale.fall
    red, green, blue = (round(start + share * (to - start)) for start, to in zip(scale.middle, end, strict=True))
    return _hexadecimal((red, green, blue))


def _hexadecimal(colour: Triple) -> str:
    return "#" + "".join(f"{part:02x}" for part in colour)

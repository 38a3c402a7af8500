"""A diverging scale that colour-blind readers can tell apart: blue falls, orange rises; light enough for dark text."""

FALL = (118, 172, 222)
RISE = (247, 163, 92)
WHITE = (255, 255, 255)


def diverging(value: float | None, limit: float, *, strength: float = 1.0) -> str:
    """The background of a change.

    Args:
        value: the change; None gives a neutral grey.
        limit: the size of change at which the colour is full, above 0.
        strength: 1 for a settled verdict, less for a paler colour.

    Returns:
        A colour as #rrggbb.
    """
    if value is None:
        return "#eeeeee"
    share = strength * min(1.0, abs(value) / limit)
    end = RISE if value > 0 else FALL
    return "#" + "".join(f"{round(white + share * (to - white)):02x}" for white, to in zip(WHITE, end, strict=True))

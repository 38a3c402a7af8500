"""How long parsers are fuzzed, and what they are given: valid files with pieces changed, and anything at all."""

import functools
import os
import time
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ct_pipeline.settings.errors import UserError

LONG = os.environ.get("CT_PIPELINE_FUZZ") == "long"
"""The default suite tries the same few inputs each time; with CT_PIPELINE_FUZZ=long others each time, for minutes."""

SECONDS = 9
"""That each test is given new inputs for then: five minutes for all of them."""

REFUSALS = (UserError, ValueError)
"""All that a parser of foreign files may raise."""

ODD = [
    "",
    "\0",
    "\x1b[31m",
    "\u202e",
    "\ud800",
    "../x",
    "/etc/passwd",
    "</s><|assistant|>",
    "=1+1",
    "{{ x }}",
    "__class__",
]
ODD += ["1e999", "NaN", "-0", "9" * 60, "null", "true", "*a", "&a", "!!python/name:os.system", "<<", "\u2028", "\ufeff"]
TEXTS = st.one_of(st.sampled_from(ODD), st.text(max_size=8))
NUMBERS = st.one_of(
    st.sampled_from([0, -1, 2**31, 2**63, 10**30, 0.1, -1e308, float("nan"), float("inf")]), st.integers(), st.floats()
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, TEXTS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def fuzz(strategy: st.SearchStrategy, examples: int) -> Callable:
    """Marks a test that is given examples: the same few in the default suite, others for SECONDS with CT_PIPELINE_FUZZ=long."""

    def decorate(test: Callable) -> Callable:
        asked = settings(
            max_examples=5 * examples if LONG else examples,
            derandomize=not LONG,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )(given(strategy)(test))

        @functools.wraps(asked)
        def again(*arguments: object, **named: object) -> None:
            end = time.monotonic() + SECONDS
            asked(*arguments, **named)
            while LONG and time.monotonic() < end:
                asked(*arguments, **named)

        return pytest.mark.fuzz(again)

    return decorate


@st.composite
def changed(draw: st.DrawFn, valid: bytes, pieces: tuple[bytes, ...] = ()) -> bytes:
    """A valid file with up to four spans cut, doubled or replaced."""
    content = valid
    odd = st.sampled_from([*(text.encode("utf-8", "surrogatepass") for text in ODD), *pieces])
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = draw(st.integers(start, min(len(content), start + 40)))
        middle = draw(st.one_of(st.just(b""), st.just(content[start:end] * 2), odd, st.binary(max_size=8)))
        content = content[:start] + middle + content[end:]
    return content


@st.composite
def edited(draw: st.DrawFn, valid: dict) -> dict:
    """A valid JSON object in which up to three values, at any depth, are something else, or names are added."""
    import copy

    document = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 3))):
        place = document
        while True:
            names = list(place) if isinstance(place, dict) else list(range(len(place)))
            name = draw(st.sampled_from(names)) if names else None
            inner = place[name] if name is not None else None
            if isinstance(inner, dict | list) and inner and draw(st.booleans()):
                place = inner
                continue
            break
        if name is not None:
            place[name] = draw(VALUES)
        if isinstance(place, dict) and draw(st.booleans()):
            place[draw(TEXTS)] = draw(VALUES)
    return document

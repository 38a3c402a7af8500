"""Checks of the requests that a study file words: which fields they must hold."""


def request_then_response(template: str) -> str:
    """Accepts a text that holds {request} once and, after it, {response} once."""
    before, _, rest = template.partition("{request}")
    if "{response}" in before or rest.count("{response}") != 1 or "{request}" in rest:
        raise ValueError("a text that holds {request} once and, after it, {response} once")
    return template


def request_alone(template: str) -> str:
    """Accepts a text that holds {request} once and no {response}."""
    if template.count("{request}") != 1 or "{response}" in template:
        raise ValueError("a text that holds {request} once and no {response}")
    return template

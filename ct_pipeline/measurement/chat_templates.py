"""The chat template that a study gives a model in place of its own."""

from pathlib import Path

from ct_pipeline.settings.errors import Refused, UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.store.untrusted import read_file

LARGEST = 200_000
"""Bytes of a template."""


def template_of(study: Study, model: str) -> str | None:
    """The text of a model's template; None where its own is used. UserError where the file cannot be read."""
    path = getattr(study.models[model], "chat_template", None)
    try:
        return None if path is None else read_file(Path(path), LARGEST).decode("utf-8")
    except (Refused, UnicodeDecodeError) as error:
        raise UserError(f"models.{model}.chat_template: {error}") from error

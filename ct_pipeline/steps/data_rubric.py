"""The published rubric of a data set, by which self-rewarding may have candidates graded."""

from collections.abc import Iterator

from ct_pipeline.interventions.self_rewarding import OF_DATA
from ct_pipeline.judges.rubrics import PUBLISHED_FIELDS, published_template
from ct_pipeline.measurement.organism_rows import misalignment_of
from ct_pipeline.organisms.misalignment import Misalignment
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study


def rubric_of_data(kind: Misalignment) -> str:
    """The rubric of a kind's data as a request with {request} and {response}; UserError where it is none."""
    if kind.rubric is None:
        raise UserError(
            f"rubric: data: {kind.name} has no rubric.txt; write a rubric, or name a folder with one in `data`"
        )
    try:
        return published_template(kind.rubric)
    except ValueError as error:
        fields = " and ".join(PUBLISHED_FIELDS.values())
        raise UserError(
            f"rubric: data: rubric.txt of {kind.name} holds {error}; allowed: {fields}, once each"
        ) from error


def faults(study: Study) -> Iterator[str]:
    """Methods that want a data set's rubric where there is none, with field and mend."""
    for name, settings in study.methods.items():
        if getattr(settings, "rubric", None) == OF_DATA:
            for kind in study.misalignments:
                try:
                    rubric_of_data(misalignment_of(study, kind))
                except UserError as error:
                    yield f"methods.{name}.{error}"

"""The report of the whole study."""

import dagster as dg

from ct_pipeline.assets.from_steps import GROUP, OWNERS
from ct_pipeline.assets.metadata import as_metadata, embedded
from ct_pipeline.records import study_report as report
from ct_pipeline.report.pictures import PICTURES
from ct_pipeline.resources.accelerator import ArtifactStoreResource
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.shown import File, Prose

LONGEST_SUMMARY = 80_000


def report_asset(study: Study, whole: Study) -> dg.AssetsDefinition:
    """The asset of the report; `study` may be a part of the `whole` one, which is reported."""

    @dg.asset(
        deps=[step.name for step in report.reported(study)],
        group_name=GROUP,
        kinds={"html", "matplotlib"},
        owners=OWNERS,
        code_version=str(report.VERSION),
    )
    def study_report(context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource) -> dg.MaterializeResult:
        """One self-contained page: the grid of changes with intervals and published numbers, organisms, gates, examples.

        It is written from stored rows alone and covers whatever cells are finished.
        """
        try:
            page = report.make(artifacts.open(), whole, home() / "reports")
        except UserError as error:
            raise dg.Failure(description=str(error)) from error
        summary = page.with_name("report.md").read_text()
        shown = {"report": File(page), "summary": Prose(summary[:LONGEST_SUMMARY])}
        pictures = {name: page.parent / "figures" / f"{name}.png" for name in PICTURES}
        return dg.MaterializeResult(
            metadata=as_metadata(shown)
            | {name: embedded(path.read_bytes(), PICTURES[name]) for name, path in pictures.items() if path.is_file()}
        )

    return study_report

"""The report of the whole study."""

import dagster as dg

from ct_pipeline.assets.capability import STAGE as CAPABILITY
from ct_pipeline.assets.capability import capability
from ct_pipeline.assets.evaluation import evaluation
from ct_pipeline.assets.materialization import GROUP, OWNERS, embedded
from ct_pipeline.assets.organism_evaluation import organism_evaluation
from ct_pipeline.assets.uptake import uptake
from ct_pipeline.partitions import STUDY, WHOLE_STUDY
from ct_pipeline.records import study_report as stage
from ct_pipeline.report.pictures import PICTURES
from ct_pipeline.resources.accelerator import ArtifactStoreResource
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError


@dg.asset(
    deps=[evaluation, organism_evaluation, uptake, *([capability] if CAPABILITY.wanted(STUDY) else [])],
    group_name=GROUP,
    kinds={"html", "matplotlib"},
    owners=OWNERS,
    code_version=str(stage.VERSION),
)
def study_report(context: dg.AssetExecutionContext, artifacts: ArtifactStoreResource) -> dg.MaterializeResult:
    """One self-contained page: the grid of changes with intervals and published numbers, organisms, gates, examples.

    It is written from stored rows alone and covers whatever cells are finished.
    """
    try:
        page = stage.make(artifacts.open(), WHOLE_STUDY, home() / "reports")
    except UserError as error:
        raise dg.Failure(description=str(error)) from error
    summary = page.with_name("report.md").read_text()
    return dg.MaterializeResult(
        metadata={
            "report": dg.MetadataValue.path(str(page)),
            "summary": dg.MetadataValue.md(summary[:20_000]),
            **{
                name: embedded(picture.read_bytes(), text)
                for name, text in PICTURES.items()
                if (picture := page.parent / "figures" / f"{name}.png").is_file()
            },
        }
    )

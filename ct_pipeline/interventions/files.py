"""What this installation knows, handed to the readers of study and audit files."""

from pathlib import Path

from ct_pipeline.interventions.catalog import interventions
from ct_pipeline.measurement.condition_catalog import factors
from ct_pipeline.organisms.catalog import MISALIGNMENTS
from ct_pipeline.settings.audit import Audit
from ct_pipeline.settings.environment import audits_folder, narrowing, seed_limit, study_file
from ct_pipeline.settings.errors import SpecError
from ct_pipeline.settings.load import SLUG, load_audit, load_study
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.settings.study import Study


def read_study(path: Path) -> Study:
    """The validated study of a file; SpecError names every mistake."""
    methods = {name: each.settings for name, each in interventions().items()}
    return load_study(path, [kind.name for kind in MISALIGNMENTS], methods, lambda: list(factors()))


def study_of_process() -> tuple[Study, Study]:
    """The study that this process serves, as it is narrowed, and the whole of it.

    It is the file that CT_PIPELINE_STUDY names, else studies/tiny.yaml.
    """
    whole = read_study(study_file())
    return narrowed(whole, narrowing(), seed_limit()), whole


def read_audit(path: Path) -> Audit:
    """The validated audit of a file; SpecError names every mistake."""
    return load_audit(path, [kind.name for kind in MISALIGNMENTS])


def audit_file(name: str) -> Path:
    """Where the audit of a name is kept; SpecError where it cannot be a name."""
    if not SLUG.fullmatch(name):
        raise SpecError(f"audit {name!r}: allowed: a-z, 0-9 and _ - . between them")
    return audits_folder() / f"{name}.yaml"


def audit_files() -> tuple[Path, ...]:
    """The files of all audits, by name."""
    return tuple(sorted(audits_folder().glob("*.yaml")))

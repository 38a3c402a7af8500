"""What this installation knows, handed to the reader of study files."""

from pathlib import Path

from ct_pipeline.methods.catalog import METHODS
from ct_pipeline.organisms.catalog import KINDS
from ct_pipeline.study.load import load_study
from ct_pipeline.study.spec import Study


def read_study(path: Path) -> Study:
    """The validated study of a file; SpecError names every mistake."""
    return load_study(path, [kind.name for kind in KINDS], {method.name: method.settings for method in METHODS})

"""Task files of one's own: read with an allow-list, so that nothing in their folder is ever run."""

from dataclasses import dataclass
from pathlib import Path

from ct_pipeline.models.quarantine.template_syntax import syntax_faults
from ct_pipeline.settings.capability import TaskSettings
from ct_pipeline.settings.errors import Refused
from ct_pipeline.settings.load import load_task
from ct_pipeline.settings.task import TaskFile
from ct_pipeline.store.file_digests import digest_of
from ct_pipeline.store.untrusted import inside, mistake


@dataclass(frozen=True)
class OwnTask:
    """A task file that was checked.

    Attributes:
        settings: what it holds.
        files: split -> the file of its documents.
    """

    settings: TaskFile
    files: dict[str, Path]

    @property
    def digest(self) -> dict[str, object]:
        """What its results depend on: its settings and the hash of each data file."""
        return {
            "settings": self.settings.model_dump(mode="json", exclude={"dataset_kwargs"}),
            "files": {split: digest_of(path) for split, path in sorted(self.files.items())},
        }

    def config(self, cache: Path) -> dict[str, object]:
        """The task as lm-eval takes it; its tables are kept under `cache`."""
        given = self.settings.model_dump(mode="json", exclude_none=True)
        files = {split: str(path) for split, path in self.files.items()}
        return given | {"dataset_kwargs": {"data_files": files, "cache_dir": str(cache)}}


def task_name(entry: str, settings: TaskSettings) -> str:
    """What a task is called whatever its entry in a study: its name in lm-eval, or in its own file."""
    return read_own_task(Path(settings.path)).settings.task if settings.path else settings.task or entry


def read_own_task(path: Path) -> OwnTask:
    """The task of a file.

    Raises:
        SpecError: no task file, a field that is not known, a tag such as !function.
        Refused: a template beyond plain Jinja, or a data file outside the folder.
    """
    settings = load_task(path)
    faults = [
        mistake(path, None, field, fault, "Jinja that fills in a document's fields")
        for field, text in settings.templates.items()
        for fault in syntax_faults(text)
    ]
    if faults:
        raise Refused(faults)
    folder = path.absolute().parent
    files = {
        split: inside(folder, name, f"{path}: dataset_kwargs.data_files.{split}")
        for split, name in settings.files.items()
    }
    return OwnTask(settings, files)

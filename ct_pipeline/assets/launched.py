"""One of the processes of `accelerate launch` that train a model together: python -m ct_pipeline.assets.launched TASK.

Every process goes the same way through the code of the stage. The first writes the artifact, and reports to Dagster by
Pipes; what the others write is thrown away.
"""

import contextlib
import dataclasses
import json
import os
import select
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dagster_pipes import PipesContext, open_dagster_pipes

from ct_pipeline.interventions.files import study_of_process
from ct_pipeline.runner.making import made_or_found
from ct_pipeline.settings.environment import prepare_environment
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import Key, step_named
from ct_pipeline.steps.step import Context, Step
from ct_pipeline.store.artifact_store import Address, ArtifactStore, ArtifactWriter
from ct_pipeline.store.sharing import open_store
from ct_pipeline.training.batches import after_failures

_LOGGED = 10
"""Lines in Dagster's log over one training."""


@dataclass(frozen=True)
class Task:
    """What a launch is to train.

    Attributes:
        stage: its name.
        partition: key of the partition, in Dagster's form.
        root: the artifact store.
        fingerprint: of the artifact that is wanted.
        too_large: micro-batches for which a device had no memory, the smallest last.
        scratch: a folder of the launch, for failures.
        parent: process that waits for the launch.
    """

    stage: str
    partition: str
    root: str
    fingerprint: str
    too_large: tuple[int, ...]
    scratch: str
    parent: int

    def as_argument(self) -> str:
        """One word of a command line."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def of_argument(text: str) -> "Task":
        """The task of `as_argument`."""
        fields = json.loads(text)
        return Task(**fields | {"too_large": tuple(fields["too_large"])})


@dataclass(frozen=True)
class Failure:
    """Why a process of a launch ended: what to say, whether a person can mend it, whether its device lacked memory."""

    text: str
    for_user: bool = False
    out_of_memory: bool = False


def first_failure(scratch: Path) -> Failure | None:
    """The failure that explains a launch's end, None where no process put one down.

    Where one process lacks memory or refuses its work, the others fail in waiting for it.
    """
    files = sorted(scratch.glob("failure-*.json"), key=lambda file: file.stat().st_mtime)
    failures = [Failure(**json.loads(file.read_text())) for file in files]
    return min(failures, key=lambda each: (not each.out_of_memory, not each.for_user), default=None)


class Onlooker(ArtifactStore):
    """A store that can be read; what is written to it goes to a folder that is thrown away."""

    @contextlib.contextmanager
    def write(
        self, address: Address, settings: Mapping[str, object], inputs: Mapping[str, str]
    ) -> Iterator[ArtifactWriter]:
        """A draft of which nothing stays."""
        with tempfile.TemporaryDirectory() as folder:
            yield ArtifactWriter(Path(folder))


def train(task: Task, step: Step, study: Study, key: Key, pipes: PipesContext | None) -> None:
    """Makes a key as one of the processes; the one with `pipes` writes the artifact and reports its steps.

    Raises:
        UserError: the study is no longer the one that Dagster has loaded.
    """
    if step.places(study, key)[0].fingerprint != task.fingerprint:
        raise UserError(
            "the study's file was changed after Dagster had read it: reload the code location, then run again"
        )
    store = open_store(Path(task.root))
    if pipes is None:
        store = Onlooker(store.root, store.sharing)

    def report(step: int, steps: int, loss: float) -> None:
        if pipes is None:
            return
        pipes.report_custom_message({"step": step, "steps": steps, "loss": loss})
        if step % max(1, steps // _LOGGED) == 0 or step == steps:
            pipes.log.info(f"step {step} of {steps}: loss {loss:.4f}")

    with after_failures(task.too_large):
        made_or_found(step, Context(store, study, 1, report), key)
    if pipes is not None:
        (made,) = step.find(store, study, key)
        pipes.report_custom_message({"artifact": str(made.folder), "losses": made.record["losses"]})


def main(argument: str) -> None:
    """Runs this process's part of a task; a failure is put down where the parent looks for it."""
    prepare_environment()
    task = Task.of_argument(argument)
    _end_with(task.parent)
    import torch

    from ct_pipeline.partitions import Partitions

    failure = None
    first = os.environ["RANK"] == "0"
    with open_dagster_pipes() if first else contextlib.nullcontext() as pipes:
        try:
            step, study = step_named(task.stage), study_of_process()[0]
            train(task, step, study, Partitions(study).key_of(step.grain, task.partition), pipes)
        except torch.OutOfMemoryError as error:
            failure = Failure(str(error), out_of_memory=True)
        except UserError as error:
            failure = Failure(str(error), for_user=True)
        except Exception as error:  # noqa: BLE001
            failure = Failure(f"{type(error).__name__}: {error}")
    if failure is not None:
        file = Path(task.scratch) / f"failure-{os.environ['RANK']}.json"
        file.write_text(json.dumps(dataclasses.asdict(failure)))
        print(failure.text, file=sys.stderr, flush=True)
        # At once: the others wait for this process, and are ended by the launcher when it is gone.
        os._exit(1)
    torch.distributed.destroy_process_group()


def _end_with(parent: int) -> None:
    """A killed parent must not leave processes behind that hold its devices."""

    def watch() -> None:
        with contextlib.suppress(ProcessLookupError):
            select.select([os.pidfd_open(parent)], [], [])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])

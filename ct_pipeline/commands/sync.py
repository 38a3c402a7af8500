"""`ct-pipeline sync`: brings a store and its remote to the same."""

from pathlib import Path

from rich.console import Console

from ct_pipeline.commands.plan import bytes_text
from ct_pipeline.interventions.files import read_study
from ct_pipeline.settings.environment import home
from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps.catalog import STUDY_STEPS
from ct_pipeline.store.artifact_store import ArtifactStore
from ct_pipeline.store.node import StoreSnapshot
from ct_pipeline.store.sharing import open_store


def sync(spec: Path | None, console: Console) -> None:
    """Uploads finished work that the remote lacks; with a study, fetches all of its finished work, too.

    UserError where no remote is set, or it cannot be reached.
    """
    store = open_store(home() / "artifacts")
    if store.sharing is None:
        raise UserError(
            "sync: CT_PIPELINE_REMOTE is not set; set it to an address such as s3://bucket/prefix or file:///shared"
        )
    store.prepare()
    if not share(store, console):
        console.print(f"Everything that is finished here is in {store.sharing.remote.name}.")
    if spec is None:
        return
    study, look = read_study(spec), StoreSnapshot(store)
    found = {
        artifact.place: artifact
        for stage in STUDY_STEPS
        for key in stage.keys(study)
        for artifact in stage.find(look, study, key) or ()
    }
    away = [artifact for artifact in found.values() if not artifact.place.exists()]
    for artifact in away:
        _ = artifact.folder
    size = sum(file.size for artifact in away for file in artifact.manifest.files.values())
    console.print(
        f"Fetched {len(away)} of the {len(found)} finished artifacts of study {study.name}: {bytes_text(size)}."
    )


def share(store: ArtifactStore, console: Console) -> bool:
    """Uploads what the store's remote lacks, says so, and returns whether there was anything; nothing without a remote."""
    if store.sharing is None:
        return False
    done = store.sharing.upload_missing(store)
    if done.artifacts:
        console.print(
            f"Uploaded {done.artifacts} finished artifacts that {store.sharing.remote.name} had not: {bytes_text(done.size)}."
        )
    return done.artifacts > 0

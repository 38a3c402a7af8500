"""The base model of the default world, which comes with the package: known by its world, checked by its hashes.

    python -m ct_pipeline.tinyworld.packaged studies/tiny.yaml --threads 2

makes it anew in `base_model/` beside this file. Its manifest is one of the store's (store/manifest.py): the fingerprint is
that of `world` and `pretraining` alone, so that a study may call its model as it likes.
"""

import argparse
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import yaml

from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.fingerprint import fingerprint, plain
from ct_pipeline.settings.world import PretrainingSettings, WorldSettings
from ct_pipeline.store import provenance
from ct_pipeline.store.artifact_store import Address, inspect
from ct_pipeline.store.manifest import MANIFEST, Manifest, hash_file
from ct_pipeline.tinyworld.pretraining import pretrain

FOLDER = Path(__file__).parent / "base_model"


def fits(world: WorldSettings, pretraining: PretrainingSettings) -> bool:
    """Whether the packaged weights are those of a world and a pretraining, and are wanted.

    Raises:
        UserError: the packaged manifest cannot be read.
    """
    if pretraining.source != "packaged":
        return False
    try:
        known = Manifest.from_json((FOLDER / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(f"{MANIFEST} is missing or unreadable ({error})") from error
    return known.fingerprint == _address(world, pretraining).fingerprint


def copy_to(folder: Path, world: WorldSettings, pretraining: PretrainingSettings) -> dict[str, object]:
    """Copies the packaged model of a world that it fits into a folder; returns its record, and by what it was made.

    Raises:
        UserError: a packaged file is not what the manifest says.
    """
    manifest, faults = inspect(FOLDER, _address(world, pretraining))
    if manifest is None or faults:
        raise _damaged(faults[0])
    for name in manifest.files:
        shutil.copyfile(FOLDER / name, folder / name)
    return {**manifest.record, "source": "packaged", "made": dict(manifest.provenance)}


def package(world: WorldSettings, pretraining: PretrainingSettings, threads: int, command: str, folder: Path) -> None:
    """Pretrains a model and puts it into a folder with the manifest by which `fits` knows it."""
    started, place = provenance.clock(), _address(world, pretraining)
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch)
        record = asdict(pretrain(world, pretraining, made, threads)) | {"command": command}
        files = {path.name: hash_file(path) for path in sorted(made.iterdir())}
        settings = plain({"world": world, "pretraining": pretraining})
        manifest = Manifest(
            **vars(place),
            settings=settings,
            inputs={},
            files=files,
            record=record,
            provenance=provenance.describe(started),
        )
        (made / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for path in made.iterdir():
            shutil.copyfile(path, folder / path.name)


def _address(world: WorldSettings, pretraining: PretrainingSettings) -> Address:
    return Address("base_model", "packaged", "-", fingerprint(world=world, pretraining=pretraining))


def _damaged(fault: str) -> UserError:
    return UserError(
        f"the base model that comes with the package is damaged: {FOLDER}: {fault}: install ct-pipeline again, or set "
        "pretraining.source to here"
    )


def main() -> None:
    """Reads the command line and replaces the packaged model."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", type=Path, help="the file whose `world` and `pretraining` it is made by")
    parser.add_argument("--threads", type=int, default=2, help="other numbers give other weights")
    told = parser.parse_args()
    given = yaml.safe_load(told.study.read_text(encoding="utf-8"))
    world, pretraining = WorldSettings(**given["world"]), PretrainingSettings(**given["pretraining"])
    command = f"python -m ct_pipeline.tinyworld.packaged {told.study} --threads {told.threads}"
    package(world, pretraining, told.threads, command, FOLDER)


if __name__ == "__main__":
    main()

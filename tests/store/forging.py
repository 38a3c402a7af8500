"""What a forger does who knows the format: changes an artifact and seals it again, so that every hash fits."""

import dataclasses

from ct_pipeline.store.manifest import MANIFEST, Manifest, hash_file


def reseal(folder, change, **manifest_changes):
    """Lets `change` alter a folder's files and writes a manifest that fits them; returns the new content digest."""
    change(folder)
    manifest = Manifest.from_json((folder / MANIFEST).read_text())
    files = {path.relative_to(folder).as_posix(): hash_file(path) for path in folder.rglob("*") if path.is_file()}
    del files[MANIFEST]
    forged = dataclasses.replace(manifest, files=files, **manifest_changes)
    (folder / MANIFEST).write_text(forged.to_json())
    return forged.digest

"""A study begun on one machine and finished on another that has nothing but the remote; nothing finished is made again."""

import json
from pathlib import Path

import pytest

from ct_pipeline.store.ancestry import Index
from tests.e2e.runs import Place, change, reduced_study

METHODS = {"null": {}, "bct": {"form": "kl"}}


def manifests(place: Place) -> dict[str, dict]:
    """Address -> manifest of everything that lies in a place."""
    entries = Index(place.home / "artifacts").entries
    return {
        "/".join(vars(address).values()): json.loads((entry.folder / "manifest.json").read_text())
        for address, entry in entries.items()
        if entry.manifest is not None
    }


def spoil(remote: Path, stage: str) -> None:
    """Changes the largest file of a stage's artifacts in a remote by one bit."""
    largest = max((remote / "files" / stage).rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


@pytest.mark.slow
def test_another_machine_goes_on_where_the_first_one_ended(tmp_path) -> None:
    here = reduced_study(tmp_path / "a")
    change(here.spec, misalignments=["sycophancy"], methods=METHODS)
    remote = {"CT_PIPELINE_REMOTE": f"file://{tmp_path / 'remote'}"}
    there = Place(tmp_path / "b" / "results", here.spec)

    begun = here.run("study", "--spec", str(here.spec), "--only", "null", **remote)
    assert begun.returncode == 0, begun.stdout + begun.stderr
    first = manifests(here)
    spoil(tmp_path / "remote", "misaligned_organism")
    finished = there.run("study", "--spec", str(here.spec), **remote)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "misaligned_organism/tiny-sycophancy-40/-" in finished.stdout.replace("\n", "")
    second = manifests(there)

    made = {address for address, manifest in second.items() if manifest not in first.values()}
    (spoilt,) = (address for address in made & set(first) if "/bct/" not in address)
    assert spoilt.startswith("misaligned_organism/"), "nothing else that was finished is made again"
    others = {address.split("/")[0] for address in made - {spoilt} if "/bct/" not in address}
    assert others <= {"study_report", "consistency_candidates"}
    assert any(address.startswith("evaluation/") and "/bct/" in address for address in made)
    weights = {"retrained_model", "control_organism"}
    assert not {address for address in set(second) - made if address.split("/")[0] in weights}, "fetched for nothing"

    again = here.run("study", "--spec", str(here.spec), **remote)
    assert "Nothing to do" in again.stdout
    assert not [address for address in manifests(here) if address.startswith("retrained_model/") and "/bct/" in address]
    fetched = here.run("sync", "--fetch", "--spec", str(here.spec), **remote)
    assert fetched.returncode == 0, fetched.stderr
    assert here.run("verify", "evaluation/tiny-sycophancy-40/bct").returncode == 0

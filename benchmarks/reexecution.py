"""How far trainings run again are from their record: by threads, by processor features, and with forged labels.

    python benchmarks/reexecution.py RESULTS STUDY                          # threads, forgeries
    ATEN_CPU_CAPABILITY=default python benchmarks/reexecution.py RESULTS STUDY --plain   # as another processor computes

Distances are shares of the distance to a training of another seed; RESULTS holds a finished study.
"""

import argparse
import dataclasses
import shutil
import tempfile
from pathlib import Path

import pandas

from ct_pipeline.interventions.files import read_study
from ct_pipeline.records.reexecution import Segment, reexecute, segments
from ct_pipeline.store.ancestry import Index, trace
from ct_pipeline.store.artifact_store import ArtifactStore


def with_threads(segment: Segment, threads: int) -> Segment:
    """The same segment, as if recorded with so many threads on another machine."""
    manifest = segment.step.manifest
    machine = manifest.provenance["machine"] | {"threads": threads, "processor_model": "another"}
    changed = dataclasses.replace(manifest, provenance=manifest.provenance | {"machine": machine})
    return dataclasses.replace(segment, step=dataclasses.replace(segment.step, manifest=changed))


def show(name: str, store: ArtifactStore, study, segment: Segment) -> None:
    """Prints one line."""
    found = reexecute(store, study, segment)
    place = segment.step.address
    far = "bit for bit" if found.exact else f"losses {found.loss_distance:.4%} weights {found.weight_distance:.4%}"
    print(f"{place.stage:22s} {place.variant:16s} {segment.steps:4d} steps  {name:28s} {far}", flush=True)


def forge(folder: Path, rows: int) -> None:
    """Gives so many labels the completion of the next one."""
    table = pandas.read_parquet(folder / "labels.parquet")
    places = table.index[table["labelled"]][: rows + 1]
    table.loc[places[:-1], "ids"] = pandas.Series(list(table.loc[places[1:], "ids"]), index=places[:-1])
    table.to_parquet(folder / "labels.parquet", index=False, compression="zstd")


def main() -> None:
    """Reads the command line and prints all distances."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("study", type=Path)
    parser.add_argument("--plain", action="store_true", help="only as recorded, whatever the machine is")
    told = parser.parse_args()
    study = read_study(told.study)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "artifacts"
        shutil.copytree(told.results / "artifacts", root)
        index = Index(root)
        trained = {
            segment.step.address: segment
            for address in index.entries
            if address.stage in ("retrained_model", "control_organism")
            for segment in segments(trace(index, address), study)
            if "." in segment.folders
        }
        for segment in trained.values():
            store = ArtifactStore(root)
            show("as recorded", store, study, with_threads(segment, 1))
            if not told.plain:
                show("two threads", store, study, with_threads(segment, 2))
        for segment in () if told.plain else trained.values():
            labels = next((link.address for link in segment.step.links if link.name == "consistency_labels"), None)
            if labels is None:
                continue
            folder = root.joinpath(*vars(labels).values())
            before = (folder / "labels.parquet").read_bytes()
            for rows in (1, 4, 16, 64):
                forge(folder, rows)
                show(f"{rows} of the labels forged", ArtifactStore(root), study, with_threads(segment, 1))
                (folder / "labels.parquet").write_bytes(before)


if __name__ == "__main__":
    main()

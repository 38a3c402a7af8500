"""Run as a process with CT_PIPELINE_STUDY: materializes `capability` of finished cells; prints graph and metadata as JSON."""

import dataclasses
import json
import sys
from pathlib import Path

import dagster as dg

from ct_pipeline.analysis.paired import score_difference
from ct_pipeline.analysis.rates import score_rate
from ct_pipeline.assets.from_steps import assets_of
from ct_pipeline.assets.study_report import report_asset
from ct_pipeline.definitions import RESOURCES
from ct_pipeline.interventions.files import study_of_process
from ct_pipeline.partitions import partition_key
from ct_pipeline.resources.accelerator import AcceleratorResource, ArtifactStoreResource
from ct_pipeline.resources.tracking import TrackingResource
from ct_pipeline.runner.workers import Outcome
from ct_pipeline.steps import capability as capability_step
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.fakes.finished import finish
from tests.fakes.small_studies import stand_in

STUDY = study_of_process()[0]
ASSETS = [*assets_of(STUDY), report_asset(STUDY, STUDY)]


class FinishedWork:
    """Workers for whom everything is there already."""

    def make(self, stage, study, keys, on_done):
        for key in keys:
            on_done(Outcome(key, 0.0, True))


class FinishedAccelerator(AcceleratorResource):
    """Opens no process."""

    def open(self, root):
        return FinishedWork()


def fill(draft):
    """One task on which the retrained model is worse by a half."""
    import pandas

    sides = {
        side: pandas.Series([1.0, 1.0, 1.0, 0.0] if side != "retrained" else [1.0, 0.0, 0.0, 0.0])
        for side in capability_step.SIDES
    }
    rates = {side: dataclasses.asdict(score_rate(scores)) for side, scores in sides.items()}
    change = dataclasses.asdict(score_difference(sides["organism"], sides["retrained"]))
    told = {"metric": "acc", "higher_is_better": True, "rates": rates, "change": change}
    draft.write_json("changes", {"own": told})
    draft.write_table("own", pandas.DataFrame({"doc_id": [0], "loglikelihoods": [[-1.0, -2.0]], "score": [1.0]}))


def main(folder):
    """Prints what became of the first cell."""
    store = ArtifactStore(folder / "artifacts")
    finish(store, STUDY)
    cell = STUDY.cells[0]
    stand_in(store, capability_step.node(STUDY, cell), fill)
    resources = RESOURCES | {
        "artifacts": ArtifactStoreResource(folder=str(store.root)),
        "accelerator": FinishedAccelerator(),
        "tracking": TrackingResource(uri=f"sqlite:///{folder}/mlflow.db"),
    }
    (capability,) = (asset for asset in ASSETS if asset.key.to_user_string() == "capability")
    done = dg.materialize([capability], resources=resources, partition_key=partition_key(cell))
    (event,) = done.asset_materializations_for_node("capability")
    deps = {asset.key.to_user_string(): asset for asset in ASSETS}
    (report,) = deps["study_report"].specs
    shown = {
        "assets": list(deps),
        "report_needs": sorted(dep.asset_key.to_user_string() for dep in report.deps),
        "change": event.metadata["own_change"].value,
        "row": event.metadata["capability_and_safety"].records[0].data,
        "run": event.metadata["mlflow"].url,
    }
    print(json.dumps(shown))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

"""One of several processes that record in Dagster and MLflow at once: python -m tests.e2e.postgres_worker NUMBER ROUNDS"""

import sys
from datetime import UTC, datetime

from ct_pipeline.settings.environment import prepare_environment

prepare_environment()

import dagster as dg  # noqa: E402
import mlflow  # noqa: E402, F401 - imported before the start, so that all processes open the database together
import pandas  # noqa: E402

from ct_pipeline.commands.dagster_home import prepare_dagster_home  # noqa: E402
from ct_pipeline.resources.tracking import TrackingResource  # noqa: E402
from ct_pipeline.steps.tracked_run import TrackedRun  # noqa: E402

EXPERIMENT = "crowded"
PARTITIONS = dg.DynamicPartitionsDefinition(name="records")


@dg.asset(partitions_def=PARTITIONS)
def recorded(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
    """An asset of which every partition is materialized once."""
    return dg.MaterializeResult(metadata={"partition": context.partition_key})


def run_of(fingerprint: str) -> TrackedRun:
    """A small run, with everything that a cell's has."""
    now, table = datetime.now(UTC), pandas.DataFrame({"prompt": [fingerprint]})
    return TrackedRun(
        fingerprint, fingerprint, {"k": 1}, {"note": "x"}, {"delta": 0.5}, now, now, tables={"rows": table}
    )


def main(number: str, rounds: int) -> None:
    """Says that it is ready, waits for a line, opens both stores and records; every process shares one run a round."""
    print("ready", flush=True)
    sys.stdin.readline()
    prepare_dagster_home()
    with dg.DagsterInstance.get() as instance:
        tracking = TrackingResource().open(EXPERIMENT)
        for count in range(rounds):
            key = f"{number}-{count}"
            instance.add_dynamic_partitions(PARTITIONS.name, [key])
            quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
            assert dg.materialize([recorded], partition_key=key, instance=instance, run_config=quiet).success
            for fingerprint in (key, f"shared-{count}"):
                tracking.record(run_of(fingerprint))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))

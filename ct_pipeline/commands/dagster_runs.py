"""Runs assets of the code location from this process, on the same instance that the Dagster UI shows."""

from collections.abc import Iterator, Sequence

import dagster as dg

from ct_pipeline.commands.dagster_home import CLI_TAG, QUIET, failure_of
from ct_pipeline.definitions import JOBS, RESOURCES
from ct_pipeline.partitions import Partitions, partition_key
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.catalog import STUDY_STEPS, Key, step_named
from ct_pipeline.steps.step import Step

RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
INTERRUPTED = "DagsterExecutionInterruptedError"


class AssetRuns:
    """The instance, what it knows to be materialized, and a way to materialize more.

    Attributes:
        failure: what a run of the last call said that failed; None where none did.
    """

    def __init__(self, study: Study) -> None:
        self.instance = dg.DagsterInstance.get()
        self.failure: str | None = None
        self._study = study
        self._partitions = Partitions(study)
        self._known: dict[str, frozenset[str]] = {}
        self._seen = dict.fromkeys(
            (step.name for step in STUDY_STEPS), self.instance.event_log_storage.get_maximum_record_id() or 0
        )

    def __enter__(self) -> "AssetRuns":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.instance.dispose()

    def open_tracking(self) -> None:
        """Opens MLflow ahead of the first step that needs it."""
        RESOURCES["tracking"].open(self._study.name)

    def knows(self, names: Sequence[str], key: Key) -> bool:
        """Whether Dagster has a materialization of every named asset for a key."""
        for name in names:
            if name not in self._known:
                self._known[name] = frozenset(self.instance.get_materialized_partitions(dg.AssetKey(name)))
        return all(str(partition_key(key)) in self._known[name] for name in names)

    def materialized_since(self, step: Step) -> Iterator[Key]:
        """Keys of a step that any process materialized since this was last asked, or since this object was made."""
        wanted = dg.AssetRecordsFilter(dg.AssetKey(step.name), after_storage_id=self._seen[step.name])
        for record in self.instance.fetch_materializations(wanted, limit=1000, ascending=True).records:
            self._seen[step.name] = record.storage_id
            if record.partition_key is not None:
                yield self._partitions.key_of(step.grain, record.partition_key)

    def materialize(self, names: Sequence[str], keys: Sequence[Key] | None) -> None:
        """Materializes assets for keys (None: assets without partitions), one run per unbroken range of keys."""
        self.failure = None
        grain = "study" if keys is None else step_named(names[0]).grain
        for tags in [{}] if keys is None else [_range_tags(first, last) for first, last in self._ranges(keys)]:
            result = dg.execute_job(
                dg.reconstructable(JOBS[grain]),
                instance=self.instance,
                asset_selection=[dg.AssetKey(name) for name in names],
                tags=tags | {CLI_TAG: "study"},
                run_config=QUIET,
                raise_on_error=False,
            )
            if not result.success:
                self.failure = failure_of(result)
                if INTERRUPTED in self.failure:
                    raise KeyboardInterrupt

    def _ranges(self, keys: Sequence[Key]) -> list[tuple[Key, Key]]:
        if not keys:
            return []
        if not isinstance(keys[0], Cell):
            order = list(self._study.models) if isinstance(keys[0], str) else list(self._study.organisms)
            return [(stretch[0], stretch[-1]) for stretch in _stretches(order, keys)]
        asked: dict[tuple[str, ...], list] = {}
        for organism in self._study.organisms:
            methods = tuple(name for name in self._study.methods if Cell(organism, name) in keys)
            if methods:
                asked.setdefault(methods, []).append(organism)
        return [
            (Cell(organisms[0], methods[0]), Cell(organisms[-1], methods[-1]))
            for wanted, of in asked.items()
            for organisms in _stretches(self._study.organisms, of)
            for methods in _stretches(list(self._study.methods), wanted)
        ]


def _stretches(order: Sequence, wanted: Sequence) -> list[list]:
    """The unbroken stretches of `order` that hold exactly the wanted members."""
    stretches: list[list] = []
    previous = False
    for member in order:
        if member in wanted:
            if not previous:
                stretches.append([])
            stretches[-1].append(member)
        previous = member in wanted
    return stretches


def _range_tags(first: Key, last: Key) -> dict[str, str]:
    return {RANGE_START: str(partition_key(first)), RANGE_END: str(partition_key(last))}

"""The keys that Dagster shows: models, organisms, methods and cells of a study; subjects of audits come and go with files."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import dagster as dg

from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.study import Study

audit_subject = dg.DynamicPartitionsDefinition(name="audit_subject")
"""An audit's name, or name.adapter for an adapter of a watched folder; the sensor `audit_subjects` adds them."""


@dataclass(frozen=True)
class Partitions:
    """The partitions of one study."""

    study: Study

    @cached_property
    def models(self) -> dg.StaticPartitionsDefinition:
        """One per base model."""
        return dg.StaticPartitionsDefinition(list(self.study.models))

    @cached_property
    def organisms(self) -> dg.StaticPartitionsDefinition:
        """One per organism."""
        return dg.StaticPartitionsDefinition([organism.key for organism in self.study.organisms])

    @cached_property
    def cells(self) -> dg.MultiPartitionsDefinition:
        """One per organism and method."""
        methods = dg.StaticPartitionsDefinition(list(self.study.methods))
        return dg.MultiPartitionsDefinition({"organism": self.organisms, "method": methods})

    def of_grain(self, grain: str) -> dg.PartitionsDefinition:
        """Those of all steps of a grain."""
        return {"model": self.models, "organism": self.organisms, "cell": self.cells, "audit": audit_subject}[grain]

    @cached_property
    def model_of_organism(self) -> dg.StaticPartitionMapping:
        """Which organisms stand on a model."""
        return dg.StaticPartitionMapping(
            {
                model: [organism.key for organism in self.study.organisms if organism.model == model]
                for model in self.study.models
            }
        )

    def key_of(self, grain: str, partition: str) -> str | Organism | Cell:
        """The model, organism or cell of a Dagster partition key."""
        if grain == "model":
            return partition
        if grain == "organism":
            return Organism.parse(partition)
        dimensions = self.cells.get_partition_key_from_str(partition).keys_by_dimension
        return Cell(Organism.parse(dimensions["organism"]), dimensions["method"])


def partition_key(key: Any) -> str:
    """The Dagster partition key of a model, organism, cell or audit."""
    if isinstance(key, Cell):
        return dg.MultiPartitionKey({"organism": key.organism.key, "method": key.method})
    return key if isinstance(key, str) else key.key

"""The keys that Dagster shows: models, organisms, methods and cells of one study.

The study is the file that CT_PIPELINE_STUDY names, else studies/tiny.yaml, narrowed where `ct-pipeline study --only` asks
for it; it is read when the code location loads. The subjects of audits are keys, too: they come and go with their files.
"""

import dagster as dg

from ct_pipeline.interventions.files import read_study
from ct_pipeline.settings.environment import narrowing, seed_limit, study_file
from ct_pipeline.settings.keys import Cell, Organism
from ct_pipeline.settings.narrow import narrowed

WHOLE_STUDY = read_study(study_file())
STUDY = narrowed(WHOLE_STUDY, narrowing(), seed_limit())

models = dg.StaticPartitionsDefinition(list(STUDY.models))
organisms = dg.StaticPartitionsDefinition([organism.key for organism in STUDY.organisms])
methods = dg.StaticPartitionsDefinition(list(STUDY.methods))
cells = dg.MultiPartitionsDefinition({"organism": organisms, "method": methods})

audit_subject = dg.DynamicPartitionsDefinition(name="audit_subject")
"""An audit's name, or name.adapter for an adapter of a watched folder; the sensor `audit_subjects` adds them."""

model_of_organism = dg.StaticPartitionMapping(
    {model: [organism.key for organism in STUDY.organisms if organism.model == model] for model in STUDY.models}
)


def partition_key(key: str | Organism | Cell) -> str:
    """The Dagster partition key of a model, organism or cell."""
    if isinstance(key, Cell):
        return dg.MultiPartitionKey({"organism": key.organism.key, "method": key.method})
    return key if isinstance(key, str) else key.key


def key_of(grain: str, partition: str) -> str | Organism | Cell:
    """The model, organism or cell of a Dagster partition key."""
    if grain == "model":
        return partition
    if grain == "organism":
        return Organism.parse(partition)
    dimensions = cells.get_partition_key_from_str(partition).keys_by_dimension
    return Cell(Organism.parse(dimensions["organism"]), dimensions["method"])

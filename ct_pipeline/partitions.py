"""The keys that Dagster shows: models, organisms, methods and cells of one study.

The study is the file that CT_PIPELINE_STUDY names, else studies/tiny.yaml; it is read when the code location loads.
"""

from collections.abc import Iterable, Sequence

import dagster as dg

from ct_pipeline.stages.catalog import read_study
from ct_pipeline.study.environment import study_file
from ct_pipeline.study.keys import Cell, Organism

STUDY = read_study(study_file())

models = dg.StaticPartitionsDefinition(list(STUDY.models))
organisms = dg.StaticPartitionsDefinition([organism.key for organism in STUDY.organisms])
methods = dg.StaticPartitionsDefinition(list(STUDY.methods))
cells = dg.MultiPartitionsDefinition({"organism": organisms, "method": methods})

model_of_organism = dg.StaticPartitionMapping(
    {model: [organism.key for organism in STUDY.organisms if organism.model == model] for model in STUDY.models}
)

Rectangle = tuple[str, str]
"""First and last partition key of a range, as Dagster's range tags take them."""


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


def ranges(keys: Sequence[str], wanted: Iterable[str]) -> list[Rectangle]:
    """The unbroken stretches of `keys` that hold exactly the wanted ones, as (first, last)."""
    chosen = set(wanted)
    stretches: list[list[str]] = []
    previous = False
    for key in keys:
        if key in chosen:
            if not previous:
                stretches.append([])
            stretches[-1].append(key)
        previous = key in chosen
    return [(stretch[0], stretch[-1]) for stretch in stretches]


def cell_rectangles(wanted: Iterable[Cell]) -> list[Rectangle]:
    """Ranges of cells that hold exactly the wanted ones: organisms that want the same methods, times unbroken methods."""
    by_methods: dict[frozenset[str], list[str]] = {}
    for organism in STUDY.organisms:
        asked = frozenset(cell.method for cell in wanted if cell.organism == organism)
        if asked:
            by_methods.setdefault(asked, []).append(organism.key)
    return [
        (
            dg.MultiPartitionKey({"organism": first, "method": first_method}),
            dg.MultiPartitionKey({"organism": last, "method": last_method}),
        )
        for asked, keys in by_methods.items()
        for first, last in ranges(organisms.get_partition_keys(), keys)
        for first_method, last_method in ranges(methods.get_partition_keys(), asked)
    ]

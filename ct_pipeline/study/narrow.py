"""A part of a study: some of its models, misalignments, methods, seeds."""

from collections.abc import Sequence

from ct_pipeline.study.errors import UserError
from ct_pipeline.study.spec import Study


def narrowed(study: Study, names: Sequence[str], seeds: int | None) -> Study:
    """The study with only the named models, misalignments, methods and seeds, and the first `seeds` of its seeds.

    A dimension that no name speaks of stays whole. UserError where a name is in none of them, or there are fewer seeds.
    """
    dimensions = {
        "models": list(study.models),
        "misalignments": list(study.misalignments),
        "methods": list(study.methods),
        "seeds": [str(seed) for seed in study.seeds],
    }
    unknown = [name for name in names if not any(name in members for members in dimensions.values())]
    if unknown:
        listed = "; ".join(f"{dimension}: {', '.join(members)}" for dimension, members in dimensions.items())
        raise UserError(f"--only: {', '.join(unknown)} not in study {study.name}. It has {listed}")
    if seeds is not None and not 1 <= seeds <= len(study.seeds):
        raise UserError(
            f"--seeds: found {seeds}; allowed: 1 to {len(study.seeds)}, the seeds that study {study.name} lists "
            "(add more to its `seeds`)"
        )
    kept = {
        dimension: [member for member in members if member in names] or members
        for dimension, members in dimensions.items()
    }
    listed_seeds = [int(seed) for seed in kept["seeds"]]
    return study.model_copy(
        update={
            "models": {name: study.models[name] for name in kept["models"]},
            "misalignments": tuple(kept["misalignments"]),
            "methods": {name: study.methods[name] for name in kept["methods"]},
            "seeds": tuple(listed_seeds[:seeds] if seeds else listed_seeds),
        }
    )

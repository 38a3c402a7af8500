"""A part of a study: some of its models, misalignments, methods, seeds."""

from collections.abc import Sequence

from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study, own_seeds


def narrowed(study: Study, names: Sequence[str], seeds: int | None) -> Study:
    """The study with only the named models, misalignments, methods and seeds, and the first `seeds` of its seeds.

    A dimension that no name speaks of stays whole; a model that is made from others brings them.
    UserError where a name is in none of them, or there are fewer seeds.
    """
    dimensions = {
        "models": list(study.models),
        "misalignments": list(study.misalignments),
        "methods": list(study.methods),
        "seeds": [str(seed) for seed in _seeds(study)],
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
    named_seeds = [int(seed) for seed in kept["seeds"]]

    def left(listed: Sequence[int]) -> tuple[int, ...]:
        return tuple(seed for seed in listed if seed in named_seeds)[:seeds]

    models = {name: study.models[name] for name in kept["models"] if left(study.seeds_of(name))}
    if not models:
        raise UserError(f"--only: none of {', '.join(kept['models'])} has the seeds {', '.join(kept['seeds'])}")
    return study.model_copy(
        update={
            "models": {
                name: model if own_seeds(model) is None else model.model_copy(update={"seeds": left(model.seeds)})
                for name, model in models.items()
            },
            "misalignments": tuple(kept["misalignments"]),
            "methods": {name: study.methods[name] for name in _with_sources(study, kept["methods"])},
            "seeds": left(study.seeds) or study.seeds[:1],
        }
    )


def _with_sources(study: Study, names: Sequence[str]) -> list[str]:
    """The methods of these names and those whose models they are made from, in the order of the study."""
    wanted = set(names)
    for name in reversed(study.methods):
        if name in wanted:
            wanted.update(study.methods[name].made_from)
    return [name for name in study.methods if name in wanted]


def _seeds(study: Study) -> tuple[int, ...]:
    """The study's seeds, then those that only models of their own list."""
    own = (seed for model in study.models.values() for seed in own_seeds(model) or ())
    return tuple(dict.fromkeys((*study.seeds, *own)))

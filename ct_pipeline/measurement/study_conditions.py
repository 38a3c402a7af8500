"""The conditions that a study names beside those of every evaluation: what is asked under them, and what is compared."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import pandas

from ct_pipeline.measurement.condition import AS_ASKED, VIEWS, Factor, Gap, View
from ct_pipeline.measurement.condition_catalog import factors
from ct_pipeline.measurement.contrast import AFTER, BEFORE, Contrast, Side, change, estimated, risky_sides_of
from ct_pipeline.measurement.organism_rows import digest
from ct_pipeline.organisms.misalignment import Prompt
from ct_pipeline.settings.study import Study


def factors_of(study: Study) -> tuple[Factor, ...]:
    """The factors that a study names, in its order."""
    return tuple(factors()[name] for name in study.evaluation.conditions)


def prompts_under(study: Study, prompts: Sequence[Prompt]) -> tuple[Prompt, ...]:
    """Those of the prompts that bear risk, under every condition of the study; () where it names none."""
    risky = [prompt for prompt in prompts if prompt.bears_risk]
    return tuple(prompt for factor in factors_of(study) for prompt in factor.prompts(risky))


def settings_of(study: Study, prompts: Sequence[Prompt]) -> dict[str, object]:
    """What an evaluation depends on beside, for its fingerprint; nothing where a study names no conditions."""
    named = factors_of(study)
    if not named:
        return {}
    gaps = {factor.name: [dataclasses.asdict(gap) for gap in factor.gaps] for factor in named}
    return {"conditions": {"prompts": digest(prompts_under(study, prompts)), "gaps": gaps}}


def table_under(name: str) -> str:
    """Where the answers under a study's conditions are stored, beside the table of those to the prompts as they stand."""
    return f"{name}_under_conditions"


def gaps_of(study: Study, model: str) -> Iterator[Contrast]:
    """The gaps of one model in every view."""
    for factor in factors_of(study):
        for gap in factor.gaps:
            yield from (_gap(factor, gap, model, view) for view in VIEWS)


def contrasts_of_cell(study: Study) -> Iterator[Contrast]:
    """Under each condition the change; of each gap what it was before, is after, and what became of it; in every view."""
    for factor in factors_of(study):
        for condition in factor.conditions:
            for view in VIEWS:
                title = f"{factor.title}, {condition.title}: change"
                yield dataclasses.replace(change(_under(factor, condition.name, view)), title=title)
        for gap in factor.gaps:
            for view in VIEWS:
                before, after = (_gap(factor, gap, model, view) for model in (BEFORE, AFTER))
                name = f"{factor.name}/{gap.name}/change/{view.name}"
                yield from (before, after, Contrast(name, before, after, f"{gap.title}: change of the gap"))


def compared(
    contrasts: Iterator[Contrast],
    tables: Mapping[str, pandas.DataFrame],
    conditioned: Mapping[str, pandas.DataFrame],
    confidence: float,
) -> dict[str, dict[str, object]]:
    """Name -> title, kind, view, and the difference, as JSON; of models whose rows are in the two mappings."""
    rows = risky_sides_of(tables, conditioned)
    return {
        each.name: {
            "title": each.title,
            "kind": each.kind,
            "view": "/".join(each.name.split("/")[-2:]),
            "difference": dataclasses.asdict(estimated(each, rows, confidence)),
        }
        for each in contrasts
    }


def _under(factor: Factor, condition: str, view: View) -> str:
    return view.name if condition == AS_ASKED else f"{factor.name}/{condition}/{view.name}"


def _gap(factor: Factor, gap: Gap, model: str, view: View) -> Contrast:
    sides = (Side(model, _under(factor, condition, view)) for condition in (gap.less, gap.of))
    return Contrast(f"{factor.name}/{gap.name}/{model}/{view.name}", *sides, title=f"{gap.title}, {model}")

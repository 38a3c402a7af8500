"""Stage 7: the retrained model on the organism's own evaluation prompts, and the change, paired by prompt."""

import dataclasses
from collections.abc import Mapping, Sequence

import pandas

from ct_pipeline.measurement import study_conditions
from ct_pipeline.measurement.asking import direct_accuracy, evaluation_seed, measure
from ct_pipeline.measurement.condition import DECODINGS, MAIN_VIEW, VIEWS
from ct_pipeline.measurement.contrast import AFTER, BEFORE, change, estimated, risky_sides_of, tabulated
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.measurement.organism_rows import digest, misalignment_of, rows_of
from ct_pipeline.measurement.study_conditions import compared, contrasts_of_cell, prompts_under, table_under
from ct_pipeline.measurement.type_scores import type_scores
from ct_pipeline.organisms.misalignment import Prompt
from ct_pipeline.settings.keys import Cell
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import judge_calibration, organism_evaluation, retrained_model
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.steps.judge_calibration import judged_changes
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, making

STAGE = "evaluation"
VERSION = 3


def node(study: Study, cell: Cell) -> Node:
    """The rows and the changes of one cell."""
    settings = {
        "prompts": digest(rows_of(study, cell.organism).evaluation),
        "samples": study.evaluation.samples,
        "max_new_tokens": study.evaluation.max_new_tokens,
        "confidence": study.evaluation.confidence,
        "engine": study.models[cell.organism.model].engine,
        "seed": study.seed,
        **judge_calibration.settings_of(study, cell.organism.kind),
        **study_conditions.settings_of(study, rows_of(study, cell.organism).evaluation),
    }
    inputs = {
        "organism_evaluation": organism_evaluation.node(study, cell.organism),
        "retrained_model": retrained_model.node(study, cell),
    }
    return Node(STAGE, VERSION, cell.organism.key, cell.method, settings, inputs)


def make(store: ArtifactStore, study: Study, cell: Cell) -> Artifact:
    """Measures the retrained model as the organism was measured, and the change in every domain and decoding.

    Where checkpoints were kept, the change at each of them in domain at T = 1 is measured, too: the dose curve. Published
    data are scored by type as well, as corrected and as published.
    """
    place = node(study, cell)
    with making(store, place) as (draft, inputs):
        model = open_model(store, study, cell.organism.model)
        prompts = rows_of(study, cell.organism).evaluation
        asked = prompts_under(study, prompts)
        before = inputs["organism_evaluation"].table("organism")
        steps = inputs["retrained_model"].record["checkpoints"]
        drawn = _drawn(store, study, cell, model, steps)
        if asked:
            drawn |= {table_under("rows"): _measured(store, study, cell, model, asked, None, tuple(DECODINGS))}
        found = judge_calibration.judged(study, cell.organism.kind, (*prompts, *asked), drawn)
        after = found.tables["rows"]
        confidence = study.evaluation.confidence
        changes = tabulated(
            (change(view.name) for view in VIEWS), risky_sides_of({BEFORE: before, AFTER: after}), confidence
        )
        draft.write_table("rows", after)
        if asked:
            draft.write_table(table_under("rows"), found.tables[table_under("rows")])
        draft.write_json("doses", _doses(study, steps, before, found.tables))
        draft.write_json(
            "changes",
            {
                "changes": changes,
                "direct_accuracy_before": dataclasses.asdict(direct_accuracy(before)),
                "direct_accuracy_after": dataclasses.asdict(direct_accuracy(after)),
                **(_under_conditions(study, inputs["organism_evaluation"], found.tables) if asked else {}),
            },
        )
        if found.record:
            draft.record["judging"] = found.record
            draft.write_json("judged", judged_changes(study, cell.organism.kind, prompts, before, after))
        kind = misalignment_of(study, cell.organism.kind)
        if kind.raw_score is not None:
            draft.write_json("type_scores", type_scores(kind, prompts, before, after, study.evaluation.confidence))
    return store.read(place.address)


def _measured(
    store: ArtifactStore,
    study: Study,
    cell: Cell,
    model: LanguageModel,
    prompts: Sequence[Prompt],
    checkpoint: int | None,
    decodings: Sequence[str],
) -> pandas.DataFrame:
    return measure(
        model,
        misalignment_of(study, cell.organism.kind),
        prompts,
        study.evaluation,
        retrained_model.adapters_of(store, study, cell, checkpoint),
        evaluation_seed(study, cell.organism),
        decodings,
    )


def _drawn(
    store: ArtifactStore, study: Study, cell: Cell, model: LanguageModel, steps: Sequence[int]
) -> dict[str, pandas.DataFrame]:
    """Table `rows` of the retrained model, and one named by its step of every adapter that was kept before the last."""
    prompts = rows_of(study, cell.organism).evaluation
    in_domain = [prompt for prompt in prompts if prompt.domain == MAIN_VIEW.domain and prompt.bears_risk]
    tables = {"rows": _measured(store, study, cell, model, prompts, None, tuple(DECODINGS))}
    for number, step in enumerate(steps[:-1], start=1):
        tables[str(step)] = _measured(store, study, cell, model, in_domain, number, [MAIN_VIEW.decoding])
    return tables


def _under_conditions(study: Study, organism: Artifact, after: Mapping[str, pandas.DataFrame]) -> dict[str, object]:
    """The contrasts that the study's conditions declare."""
    tables = {BEFORE: organism.table("organism"), AFTER: after["rows"]}
    under = {BEFORE: organism.table(table_under("organism")), AFTER: after[table_under("rows")]}
    return {"contrasts": compared(contrasts_of_cell(study), tables, under, study.evaluation.confidence)}


def _doses(
    study: Study, steps: Sequence[int], before: pandas.DataFrame, tables: Mapping[str, pandas.DataFrame]
) -> list[dict[str, object]]:
    """The change in domain at T = 1 after each optimizer step at which an adapter was kept; the last one is the cell's."""
    doses = []
    for step in steps:
        sides = risky_sides_of({BEFORE: before, AFTER: tables.get(str(step), tables["rows"])})
        found = estimated(change(MAIN_VIEW.name), sides, study.evaluation.confidence)
        doses.append({"step": step, **dataclasses.asdict(found)})
    return doses

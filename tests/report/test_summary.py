"""The grid and the sentences that are drawn from it."""

import dataclasses
import re
from statistics import mean

import pytest

from ct_pipeline.analysis.seeds import over_seeds
from ct_pipeline.analysis.verdicts import Verdict
from ct_pipeline.report.records import MAIN_VIEW
from ct_pipeline.report.statement import limits, result_sentences
from ct_pipeline.report.summary import cell_signs, columns, grid, known, organism_signs
from tests.report.synthetic import METHODS, MISALIGNMENTS, SEEDS


def field(record, kind, method):
    return next(
        cell
        for row in grid(record, MAIN_VIEW)
        for cell in row
        if (cell.column.kind, cell.method.name) == (kind, method)
    )


def test_the_grid_has_a_field_for_every_method_and_kind(record):
    rows = grid(record, MAIN_VIEW)
    assert [len(row) for row in rows] == [len(MISALIGNMENTS)] * len(METHODS)
    assert [column.kind for column in columns(record)] == [kind[0] for kind in MISALIGNMENTS]


def test_a_field_is_the_mean_over_the_seeds_that_passed(record):
    got = field(record, "emergent_misalignment", "self_rewarding")
    changes = [
        cell.differences[MAIN_VIEW]
        for cell in record.cells
        if (cell.kind, cell.method) == ("emergent_misalignment", "self_rewarding")
    ]
    assert got.change == over_seeds(changes, confidence=0.95)
    assert [seed for seed, _ in got.by_seed] == list(SEEDS)
    assert got.verdict == Verdict.AMPLIFIES


def test_organisms_that_failed_their_gate_are_in_no_mean(record):
    failed = {one.seed for one in record.organisms if one.kind == "spurious_correlation" and not one.gate.passed}
    assert 42 in failed
    got = field(record, "spurious_correlation", "null")
    assert failed.isdisjoint(seed for seed, _ in got.by_seed)
    assert got.change.seeds == len(SEEDS) - len(failed)


def test_a_planted_effect_is_found_and_the_null_stands_still(record):
    assert field(record, "sycophancy", "bct").verdict == Verdict.SUPPRESSES
    assert field(record, "reward_hacking", "null").verdict == Verdict.NEUTRAL


def test_only_directed_verdicts_survive_holm(record):
    cells = [cell for row in grid(record, MAIN_VIEW) for cell in row]
    survivors = [cell for cell in cells if cell.survives]
    assert survivors
    assert {cell.verdict for cell in survivors} <= {Verdict.AMPLIFIES, Verdict.SUPPRESSES}


def test_two_base_models_get_a_column_each(record):
    other = dataclasses.replace(record.organisms[0], model="other", key="other-sycophancy-40")
    got = columns(dataclasses.replace(record, organisms=(*record.organisms, other)))
    assert len(got) == len(MISALIGNMENTS) + 1
    assert got[-1].title == "Sycophancy (other)"


def test_an_unmeasured_field_has_no_number_and_no_verdict(record):
    without = dataclasses.replace(record, cells=tuple(cell for cell in record.cells if cell.method != "bct"))
    got = field(without, "sycophancy", "bct")
    assert not known(got)
    assert (got.change, got.verdict, got.survives) == (None, None, False)
    assert got.published == 10.0


def test_the_first_sentence_counts_every_field_but_the_controls(record):
    cells = [cell for row in grid(record, MAIN_VIEW) for cell in row if cell.method.role != "control"]
    words = [cell.verdict for cell in cells]
    first = result_sentences(record)[0]
    assert f"Of {len(cells)} combinations" in first
    numbers = [int(each) for each in re.findall(r"\d+", first.split("controls apart, ")[1].split(". Each")[0])]
    counted = (5, Verdict.AMPLIFIES, 5, Verdict.SUPPRESSES, Verdict.RISES, Verdict.FALLS, Verdict.NEUTRAL, 5)
    assert numbers == [words.count(one) if isinstance(one, Verdict) else one for one in counted] + [
        words.count(Verdict.UNDETERMINED)
    ]
    assert sum(words.count(one) for one in Verdict) == len(cells)


def test_a_null_control_that_moves_is_a_warning(record):
    loud = field(record, "sycophancy", "bct")
    cells = tuple(
        dataclasses.replace(cell, differences={MAIN_VIEW: loud.change})
        if (cell.kind, cell.method) == ("sycophancy", "null")
        else cell
        for cell in record.cells
    )
    text = " ".join(result_sentences(dataclasses.replace(record, cells=cells)))
    assert "Warning: the null control" in text
    assert "as it should" in " ".join(result_sentences(record))


def test_signs_are_counted_over_runs_of_gated_organisms(record):
    passed = {one.key for one in record.organisms if one.gate.passed}
    values = [cell.differences[MAIN_VIEW].value for cell in record.cells if cell.organism in passed]
    got = cell_signs(record)
    assert (got.rose, got.fell) == (sum(value > 0 for value in values), sum(value < 0 for value in values))


def test_organisms_are_tested_not_their_runs(record):
    passed = {one.key for one in record.organisms if one.gate.passed}
    got = organism_signs(record)
    assert got.rose + got.fell + got.unchanged == len(passed)
    means = [
        mean([cell.differences[MAIN_VIEW].value for cell in record.cells if cell.organism == key]) for key in passed
    ]
    assert (got.rose, got.fell) == (sum(value > 0 for value in means), sum(value < 0 for value in means))
    text = " ".join(result_sentences(record))
    assert f"{got.rose} rose and {got.fell} fell (sign test p = " in text


def test_real_models_are_not_called_tiny(record):
    models = (dataclasses.replace(record.base_models[0], source="huggingface"),)
    assert not any("made-up world" in sentence for sentence in limits(dataclasses.replace(record, base_models=models)))
    assert "made-up world" in limits(record)[0]


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_are_named(record, seeds):
    cells = tuple(cell for cell in record.cells if cell.seed < 40 + seeds and cell.kind != "spurious_correlation")
    first = result_sentences(dataclasses.replace(record, cells=cells))[0]
    assert ("rests on one seed" if seeds == 1 else "rests on 2 seeds") in first

"""`ct-pipeline plan --power`: its numbers are the planner's, on the spread of what is evaluated; mistakes are messages."""

import dataclasses
import re
import sys
from functools import partial

import pytest

from ct_pipeline import cli
from ct_pipeline.analysis.paired import Difference, difference
from ct_pipeline.analysis.power import Design, Spread, prompts_needed, shared_of, smallest_called, spread_of
from ct_pipeline.commands.power import MOST_PROMPTS, SHARED
from ct_pipeline.steps import evaluation
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.analysis.tables import singles
from tests.conftest import TINY
from tests.fakes.small_studies import stand_in

GUESS = Spread(0.05**2, 0.5, SHARED)


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """`ct-pipeline plan TINY ...` on a results folder of its own; exit code, standard output, standard error."""
    monkeypatch.setenv("CT_PIPELINE_HOME", str(tmp_path / "results"))
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments, spec=TINY):
        monkeypatch.setattr(sys, "argv", ["ct-pipeline", "plan", str(spec), *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call


@pytest.fixture
def store(tmp_path):
    return ArtifactStore(tmp_path / "results" / "artifacts")


def changed(rose: int, fell: int, prompts: int = 200) -> Difference:
    same = [False] * (prompts - rose - fell)
    return difference(singles([False] * rose + [True] * fell + same), singles([True] * rose + [False] * fell + same))


def evaluated(store, study, changes):
    """Evaluations of the study's first cells under one method, one per seed."""
    cells = [cell for cell in study.cells if (cell.organism.kind, cell.method) == ("sycophancy", "bct")]
    for cell, change in zip(cells, changes, strict=False):
        stand_in(store, evaluation.node(study, cell), partial(write_changes, change=change))


def write_changes(draft, change):
    draft.write_json("changes", {"changes": {"in/sampled": dataclasses.asdict(change)}})
    draft.write_json("by_prompt", {"in/sampled": by_prompt_of(change)})


def by_prompt_of(change):
    """Prompts of which as many rose and fell as the change says; the same prompts rise first in every seed."""
    rose, fell = round(change.prompts * change.after), round(change.prompts * change.before)
    return {
        f"p{number}": float(number < rose) - float(rose <= number < rose + fell) for number in range(change.prompts)
    }


def cells_of(out: str, words: str) -> list[str]:
    (line,) = [line for line in out.splitlines() if words in line]
    return [cell.strip() for cell in re.split("[│┃]", line)[2:-1]]


def shown(prompts: int | None) -> str:
    return f"> {MOST_PROMPTS:,}" if prompts is None else f"{prompts:,}"


def test_without_evaluations_the_guess_is_planned_with_and_said(run, tmp_path):
    code, out, _ = run("--power")
    assert code == 0
    found = smallest_called(GUESS, Design(3, 200, 0.05))
    assert cells_of(out, "called beyond ±5 pp") == [f"{100 * found:.1f} pp"]
    for effect in (0.10, 0.15, 0.25):
        needed = [shown(prompts_needed(effect, GUESS, seeds=count, epsilon=0.05)) for count in (1, 2, 3, 5, 10)]
        assert cells_of(out, f"{100 * effect:g} pp, called") == needed
    assert "5.0 pp between seeds and 71 pp between prompts, a guess" in out
    assert not (tmp_path / "results").exists()


def test_the_spread_is_that_of_the_finished_evaluations(run, store, tiny_study):
    changes = [changed(60, 10), changed(30, 10), changed(80, 20)]
    evaluated(store, tiny_study, changes)
    code, out, _ = run("--power", "--effect", "30")
    shared = shared_of([[by_prompt_of(change) for change in changes]])
    spread = spread_of([changes], shared=shared)
    assert code == 0
    assert 0 < shared < 1
    assert f"{shared:.0%} of what a prompt adds to a change is alike in every seed" in out
    assert f"{100 * spread.seed_variance**0.5:.1f} pp between seeds" in out
    assert "3 finished evaluations" in out
    needed = [shown(prompts_needed(0.3, spread, seeds=count, epsilon=0.05)) for count in (1, 2, 3, 5, 10)]
    assert cells_of(out, "30 pp, called") == needed


def test_one_evaluated_seed_leaves_the_seeds_guessed(run, store, tiny_study):
    evaluated(store, tiny_study, [changed(60, 10)])
    _, out, _ = run("--power")
    assert "5.0 pp between seeds" in out
    assert "but for seeds, of which no cell has two" in out


def test_a_supposed_spread_of_seeds_stands_in_place_of_the_one_seen(run, store, tiny_study):
    evaluated(store, tiny_study, [changed(60, 10), changed(0, 60)])
    _, out, _ = run("--power", "--seed-sd", "1.5")
    assert "1.5 pp between seeds (--seed-sd)" in out


def test_chance_and_seeds_are_those_asked_for(run):
    _, out, _ = run("--power", "--seeds", "1", "--chance", "90", "--effect", "20", "--seed-sd", "2")
    spread = dataclasses.replace(GUESS, seed_variance=0.02**2)
    found = smallest_called(spread, Design(1, 200, 0.05), power=0.9)
    assert cells_of(out, "called beyond") == [f"{100 * found:.1f} pp"]
    assert "chance of 90%" in out
    assert cells_of(out, "20 pp, called")[0] == shown(prompts_needed(0.2, spread, seeds=1, epsilon=0.05, power=0.9))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--power", "--effect", "5"], "--effect: found 5; allowed: above 5 (the study's epsilon), at most 100"),
        (["--power", "--effect", "nan"], "--effect: found nan"),
        (["--power", "--effect", "101"], "--effect: found 101"),
        (["--power", "--effect", "much"], "Invalid value for '--effect'"),
        (["--power", "--seed-sd", "-1"], "--seed-sd: found -1; allowed: 0 to 100 percentage points"),
        (["--power", "--chance", "50"], "--chance: found 50; allowed: above 50 and below 100 percent"),
        (["--power", "--chance", "100"], "--chance: found 100"),
        (["--effect", "20"], "--effect: only with --power"),
    ],
)
def test_wrong_values_are_refused_in_words(run, options, said):
    code, out, err = run(*options)
    assert code == 2
    assert said in err
    assert "Traceback" not in out + err


def test_a_study_of_few_prompts_is_refused(run, tiny_text, tmp_path):
    path = tmp_path / "few.yaml"
    path.write_text(tiny_text.replace("in_domain: 200", "in_domain: 12", 1))
    code, _, err = run("--power", spec=path)
    assert code == 2
    assert "has 12 in-domain prompts" in err

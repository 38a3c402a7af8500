"""A whole study with nothing faked: induced, labelled, retrained, measured, reported, tracked, and run again."""

import os
import random
import shutil
import signal
import sqlite3
import time

import pandas
import pytest

from ct_pipeline.commands.dagster_home import CLI_TAG
from ct_pipeline.interventions.files import read_study
from ct_pipeline.planning.plan import plan_of
from ct_pipeline.runner.workers import accelerators
from ct_pipeline.settings.narrow import narrowed
from ct_pipeline.steps.catalog import STUDY_STEPS
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.e2e.runs import Place, change

METHODS = {
    *("null", "shuffled", "one_sample", "greedy_self_training", "rejection_sampling", "self_confidence"),
    *("diverse_decoding", "multi_view", "self_refinement", "self_rewarding", "bct", "act"),
}
CELLS = 2 * len(METHODS)


def stage_of(path: str) -> str:
    return path.split("/")[0]


def changed(before: dict[str, int], after: dict[str, int]) -> set[str]:
    return {path for path, written in after.items() if before.get(path) != written}


def test_every_stage_leaves_one_artifact_per_key(finished: Place) -> None:
    study = read_study(finished.spec)
    store = ArtifactStore(finished.home / "artifacts")

    missing = [
        (stage.name, key) for stage in STUDY_STEPS for key in stage.keys(study) if not stage.find(store, study, key)
    ]

    assert missing == []
    assert {cell.method for cell in study.cells} == METHODS


def test_organisms_misbehave_more_than_their_base_model_and_controls_do_not(finished: Place) -> None:
    study = read_study(finished.spec)
    store = ArtifactStore(finished.home / "artifacts")
    stage = next(stage for stage in STUDY_STEPS if stage.name == "organism_evaluation")
    for organism in study.organisms:
        gate = stage.find(store, study, organism)[0].json("gate")
        assert gate["passed"], gate["reasons"]
        assert gate["induced_low"] > 0 >= gate["control_low"]


def test_every_retrained_adapter_moved_whole_and_leaves_its_organism_as_it_was(finished: Place) -> None:
    study = read_study(finished.spec)
    store = ArtifactStore(finished.home / "artifacts")
    stage = next(stage for stage in STUDY_STEPS if stage.name == "retrained_model")
    for cell in study.cells:
        record = stage.find(store, study, cell)[0].record
        assert record["moved_parameters"] > 0.999 * record["trainable_parameters"] > 0
        assert record["checks"]["drop_difference"] == 0.0


def test_each_method_trains_on_what_it_says(finished: Place) -> None:
    study = read_study(finished.spec)
    store = ArtifactStore(finished.home / "artifacts")
    stage = next(stage for stage in STUDY_STEPS if stage.name == "consistency_labels")
    organism = study.organisms[0]
    labels = {
        cell.method: stage.find(store, study, cell)[0].table("labels")
        for cell in study.cells
        if cell.organism == organism
    }
    assert all(table["prompt_id"].is_unique for table in labels.values())
    assert (labels["self_confidence"]["sample"] < 4).all() and labels["self_confidence"]["sample"].nunique() > 1
    assert (labels["greedy_self_training"]["draw"] == "greedy").all()
    assert labels["self_rewarding"]["score"].between(1, 5).mean() > 0.5
    confident = labels["self_confidence"]["logprob"] / labels["self_confidence"]["tokens"]
    sampled = labels["null"]["logprob"] / labels["null"]["tokens"]
    assert confident.mean() > sampled.mean()


def test_candidates_of_every_kind_are_what_their_names_say(finished: Place) -> None:
    study = read_study(finished.spec)
    store = ArtifactStore(finished.home / "artifacts")
    stage = next(stage for stage in STUDY_STEPS if stage.name == "consistency_candidates")
    tables = {
        artifact.manifest.variant: artifact.table("candidates")
        for artifact in stage.find(store, study, study.organisms[0])
        if artifact.manifest.stage == stage.name
    }
    refined = next(table for name, table in tables.items() if "refine" in name)
    assert (refined["draft"].to_numpy() == tables["greedy"]["completion"].to_numpy()).all()
    # A beam search looks further than greedy decoding: per token its answers are at least as probable, nearly always.
    per_token = {name: tables[name]["logprob"] / tables[name]["tokens"] for name in ("greedy", "beam4")}
    assert (per_token["beam4"] >= per_token["greedy"] - 1e-4).mean() > 0.95
    steps = next(table for name, table in tables.items() if "steps" in name)
    assert steps["completion"].str.startswith("step by step :").mean() > 0.5
    # The same words are less probable where they were not asked for.
    assert steps["logprob"].mean() < steps["view_logprob"].mean()


def test_every_change_was_predicted_before_anything_was_retrained(finished: Place) -> None:
    study, store = read_study(finished.spec), finished.store
    stages = {stage.name: stage for stage in STUDY_STEPS}
    for cell in study.cells:
        shift = stages["distribution_shift"].find(store, study, cell)[0]
        retrained = stages["retrained_model"].find(store, study, cell)[0]
        assert shift.finished <= retrained.started
        assert retrained.record["prediction"] == shift.manifest.fingerprint
    page = (finished.home / "reports" / "reduced" / "index.html").read_text()
    assert "What the labels predicted" in page


def test_every_cell_says_how_far_its_model_moved(finished: Place) -> None:
    study, store = read_study(finished.spec), finished.store
    stages = {stage.name: stage for stage in STUDY_STEPS}
    for cell in study.cells:
        parts = stages["uptake"].find(store, study, cell)[0].json("uptake")
        assert set(parts) == {"forward", "backward"}
        assert all(0 < part["token"]["value"] < part["sequence"]["value"] for part in parts.values())
        if cell.method == "bct":
            shift = stages["distribution_shift"].find(store, study, cell)[0].json("teacher_shift")
            checks = stages["retrained_model"].find(store, study, cell)[0].record["checks"]
            # Training measures the first 64 pairs, of which there are 64.
            assert shift["token"]["value"] == pytest.approx(checks["teacher_shift"], rel=1e-3)


def test_the_dose_curve_ends_where_the_cell_does(finished: Place) -> None:
    study = read_study(finished.spec)
    store = ArtifactStore(finished.home / "artifacts")
    stage = next(stage for stage in STUDY_STEPS if stage.name == "evaluation")
    for cell in study.cells:
        artifact = stage.find(store, study, cell)[0]
        doses = artifact.json("doses")
        if cell.method not in ("bct", "act"):
            assert doses == []
            continue
        # 64 pairs are 4 steps of 16.
        assert [dose["step"] for dose in doses] == list(range(4, 41, 4))
        assert doses[-1]["value"] == artifact.json("changes")["changes"]["in/sampled"]["value"]
        assert len({dose["value"] for dose in doses}) > 1


def test_the_report_shows_every_cell(finished: Place) -> None:
    page = finished.home / "reports" / "reduced" / "index.html"
    table = pandas.read_csv(page.parent / "tables" / "changes.csv", keep_default_na=False)  # "null" is a method
    assert len(table["organism"].unique()) == 2
    assert set(table["method"]) == METHODS
    assert "<script" not in page.read_text()


def test_mlflow_holds_a_run_per_organism_and_one_per_cell_under_it(finished: Place) -> None:
    with sqlite3.connect(finished.home / "mlflow" / "mlflow.db") as database:
        # Audits of other tests have an experiment of their own.
        (experiment,) = database.execute("select experiment_id from experiments where name = 'reduced'").fetchone()
        runs = dict(database.execute("select run_uuid, status from runs where experiment_id = ?", [experiment]))
        tags = dict(database.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'"))
        parents = {run: parent for run, parent in tags.items() if run in runs}
        deltas = database.execute("select count(distinct run_uuid) from latest_metrics where key = 'delta_in_sampled'")
        assert deltas.fetchone()[0] == CELLS
    assert len(runs) == 2 + CELLS and set(runs.values()) == {"FINISHED"}
    assert len(parents) == CELLS and set(parents.values()) == set(runs) - set(parents)


def test_dagster_knows_every_materialization(finished: Place) -> None:
    import dagster as dg

    with dg.DagsterInstance.from_config(str(finished.home / "dagster")) as instance:
        known = {
            name: len(instance.get_materialized_partitions(dg.AssetKey(name)))
            for name in ("base_model", "misaligned_organism", "consistency_candidates", "evaluation")
        }
        # An audit without a PASS fails its run on purpose.
        runs = instance.get_runs(dg.RunsFilter(tags={CLI_TAG: "study"}))
        checks = instance.event_log_storage.get_asset_check_execution_history(
            dg.AssetCheckKey(dg.AssetKey("organism_evaluation"), "induction_gate"), limit=5
        )
    assert known == {"base_model": 1, "misaligned_organism": 2, "consistency_candidates": 2, "evaluation": CELLS}
    assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
    assert checks


def test_a_second_run_does_nothing_and_says_so(finished: Place) -> None:
    before = finished.artifacts()

    outcome = finished.study()

    assert outcome.returncode == 0
    assert f"Nothing to do: all {CELLS} cells" in outcome.stdout
    assert finished.artifacts() == before


def test_a_deleted_artifact_is_made_again_and_with_it_nothing_that_does_not_depend_on_it(
    finished: Place, tmp_path
) -> None:
    place = finished.copy(tmp_path / "deleted")
    before = place.artifacts()
    victim = next(path for path in before if path.startswith("consistency_labels/tiny-sycophancy-40/self_rewarding/"))
    shutil.rmtree(place.home / "artifacts" / victim)

    outcome = place.study()

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert changed(before, place.artifacts()) == {victim}


def test_an_edited_artifact_is_noticed_warned_of_and_made_again(finished: Place, tmp_path) -> None:
    place = finished.copy(tmp_path / "edited")
    before = place.artifacts()
    victim = next(path for path in before if path.startswith("evaluation/tiny-reward_hacking-40/null/"))
    rows = place.home / "artifacts" / victim / "rows.parquet"
    rows.write_bytes(rows.read_bytes()[:-100])

    outcome = place.study()

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert "damaged artifact" in outcome.stdout and "rows.parquet" in outcome.stdout
    assert changed(before, place.artifacts()) == {victim}
    assert (place.home / "artifacts" / "damaged").is_dir()


def test_another_setting_of_one_method_makes_that_method_again(finished: Place, tmp_path) -> None:
    place = finished.copy(tmp_path / "changed")
    before = place.artifacts()
    change(place.spec, methods__self_confidence__k=8)

    outcome = place.study("--only", "sycophancy")

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    made = changed(before, place.artifacts())
    assert {path.rsplit("/", 1)[0] for path in made if stage_of(path) != "study_report"} == {
        f"{stage}/tiny-sycophancy-40/self_confidence"
        for stage in ("consistency_labels", "distribution_shift", "retrained_model", "evaluation", "uptake")
    }


def test_the_released_codes_variants_run_as_the_page_on_divergences_says(finished: Place, tmp_path) -> None:
    place = finished.copy(tmp_path / "released")
    change(
        place.spec,
        candidates__generation="faithful",
        retraining__adapter="continued",
        retraining__loss_on="sequence",
        methods__bct={"form": "kl", "teacher": "live", "window": "trailing", "temperature": 2.0},
        methods__act={"teacher": "live", "window": "trailing", "hidden": "mean", "weight": 1e-4},
    )

    outcome = place.study("--only", "sycophancy,self_confidence,bct,act")

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    study, store = narrowed(read_study(place.spec), ["sycophancy", "self_confidence", "bct", "act"], None), place.store
    organism = next(stage for stage in STUDY_STEPS if stage.name == "misaligned_organism")
    retrained = next(stage for stage in STUDY_STEPS if stage.name == "retrained_model")
    before = organism.find(store, study, study.organisms[0])[0].folder / "adapter_model.safetensors"
    for cell in study.cells:
        artifact = retrained.find(store, study, cell)[0]
        assert artifact.record["checks"]["continued"] == 1.0
        assert artifact.record["checks"]["frozen_difference"] == 0.0
        # The organism's own adapter, trained on: as many numbers, other ones.
        after = artifact.folder / "adapter_model.safetensors"
        assert after.stat().st_size == before.stat().st_size and after.read_bytes() != before.read_bytes()
    draws = {path.split("/")[2] for path in place.artifacts() if path.startswith("consistency_candidates/tiny-syco")}
    assert {"t0.7-p0.9-n4-self_confidence", "clean-t1-p1-n1-bct", "clean-t1-p1-n1-act"} <= draws


def test_a_model_in_a_folder_goes_the_same_way_as_the_tiny_worlds(finished: Place, tmp_path) -> None:
    place = finished.copy(tmp_path / "folder")
    trained = next(path for path in place.artifacts() if stage_of(path) == "base_model")
    folder = shutil.copytree(place.home / "artifacts" / trained, tmp_path / "local-model")
    change(place.spec, models={"local": {"source": "huggingface", "path": str(folder)}})

    outcome = place.study("--only", "sycophancy,null,multi_view,act")

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    names = ["sycophancy", "null", "multi_view", "act"]
    here, there = (narrowed(read_study(spec), names, None) for spec in (place.spec, finished.spec))
    stage = next(stage for stage in STUDY_STEPS if stage.name == "organism_evaluation")
    local, tiny = (
        stage.find(store, study, study.organisms[0])[0].table("base")
        for store, study in ((place.store, here), (finished.store, there))
    )
    # The same weights under another name: greedy answers are the same, drawn ones have other seeds.
    greedy = local["decoding"] == "greedy"
    assert local.loc[greedy, "completion"].tolist() == tiny.loc[greedy, "completion"].tolist()
    assert local.loc[~greedy, "completion"].tolist() != tiny.loc[~greedy, "completion"].tolist()


def test_the_same_study_from_an_empty_store_gives_the_same_bytes(finished: Place, tmp_path) -> None:
    other = finished.copy(tmp_path / "again")
    for path in other.artifacts():
        shutil.rmtree(other.home / "artifacts" / path)

    outcome = other.study("--only", "sycophancy,null,self_rewarding,bct,act")

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    workers = len(accelerators()) or os.cpu_count()
    size = plan_of(read_study(other.spec), workers)
    assert size.model_loads == size.engine_starts == workers
    assert f"Base-model loads: {workers} ({workers} planned); engine starts: {workers} ({workers})." in outcome.stdout
    tables = [
        path.relative_to(other.home)
        for path in (other.home / "artifacts").glob("[a-z]*/tiny-sycophancy-40/*/*/*")
        if path.suffix in (".parquet", ".safetensors") or path.name == "changes.json"
    ]
    assert len(tables) > 20
    different = [path for path in tables if (other.home / path).read_bytes() != (finished.home / path).read_bytes()]
    assert different == []


def test_a_study_killed_at_random_moments_completes_and_repeats_nothing(finished: Place, tmp_path) -> None:
    place = finished.copy(tmp_path / "killed")
    for path in place.artifacts():
        if stage_of(path) != "base_model":
            shutil.rmtree(place.home / "artifacts" / path)
    dice = random.Random(0)
    kept = place.artifacts()
    for _ in range(3):
        process = place.start_study()
        time.sleep(dice.uniform(6, 20))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        now = place.artifacts()
        assert changed(kept, now).isdisjoint(kept), "a finished artifact was made again"
        kept = now

    outcome = place.study()

    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    assert changed(kept, place.artifacts()).isdisjoint(kept)
    assert not (place.home / "artifacts" / "damaged").exists()
    assert list((place.home / "artifacts" / ".partial").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("study", "--spec", "nowhere.yaml"), "nowhere.yaml: no such file"),
        (("study", "--only", "nothing_like_it"), "nothing_like_it not in study tiny"),
        (("study", "--seeds", "9"), "--seeds: found 9; allowed: 1 to 3"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_clear_message(finished: Place, arguments, message) -> None:
    outcome = finished.run(*arguments)
    assert outcome.returncode == 2
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr + outcome.stdout

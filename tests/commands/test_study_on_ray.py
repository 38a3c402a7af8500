"""A study cut into chains of runs, and how far they are told to be; no cluster is asked."""

from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool

import pytest

from ct_pipeline.commands.study_groups import run_group
from ct_pipeline.commands.study_on_ray import OnRay, _raise_failures, _Watch, chains
from ct_pipeline.settings.errors import UserError
from ct_pipeline.steps.catalog import STUDY_STEPS, groups_of
from ct_pipeline.store.artifact_store import ArtifactStore


def test_base_models_come_first_then_each_organism_goes_through_all_other_stages(tiny_study):
    (first, models), (then, organisms) = chains(tiny_study)
    groups = groups_of(tiny_study)
    assert [[step.name for step in group] for group in groups[first]] == [["base_model"]]
    made = [step for group in (*groups[first], *groups[then]) for step in group]
    assert made == [step for step in STUDY_STEPS if step.wanted(tiny_study)]
    assert {name: tuple(part.models) for name, part in models.items()} == {"tiny": ("tiny",)}
    assert list(organisms) == [organism.key for organism in tiny_study.organisms]
    for name, part in organisms.items():
        assert [organism.key for organism in part.organisms] == [name]
        assert list(part.methods) == list(tiny_study.methods)


def test_a_part_of_a_study_has_the_artifacts_of_the_whole(tiny_study):
    _, (_, organisms) = chains(tiny_study)
    for part in (organisms["tiny-sycophancy-40"], organisms["tiny-reward_hacking-42"]):
        for stage in STUDY_STEPS:
            for key in stage.keys(part):
                whole, own = (stage.places(study, key) for study in (tiny_study, part))
                assert [node.fingerprint for node in own] == [node.fingerprint for node in whole]


class Cluster:
    """Has two devices and remembers what it was asked to stop."""

    address, devices = "http://127.0.0.1:1", 2

    def __init__(self):
        self.stopped = []

    def stop(self, runs):
        self.stopped += runs


def test_jobs_of_a_killed_study_are_ended():
    cluster = Cluster()
    OnRay(cluster).take_over(["one", "two"])
    assert cluster.stopped == ["one", "two"]


class FailingRuns:
    """Materializes nothing, with a reason."""

    def __init__(self, failure):
        self.failure, self.asked = failure, []

    def knows(self, names, key):
        return False

    def materialize(self, names, keys):
        self.asked.append((names, tuple(keys)))


@pytest.mark.parametrize("failure", ["the disk is full", None])
def test_a_group_that_was_not_made_says_why(tiny_study, tmp_path, failure):
    runs = FailingRuns(failure)
    with pytest.raises(UserError, match=failure or "base_model: not all of it was made, and Dagster says no reason"):
        run_group(groups_of(tiny_study)[0], tiny_study, ArtifactStore(tmp_path), runs)
    assert runs.asked == [(("base_model",), ("tiny",))]


def ended(error):
    future = Future()
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
    return future


def test_the_first_failure_is_raised_with_the_names_of_all():
    _raise_failures({ended(None): "a"})
    with pytest.raises(UserError, match=r"^b, c: the disk is full$"):
        _raise_failures({ended(None): "a", ended(UserError("the disk is full")): "b", ended(OSError("odd")): "c"})
    with pytest.raises(RuntimeError, match=r"^b: odd$"):
        _raise_failures({ended(OSError("odd")): "b"})
    with pytest.raises(UserError, match="ended without a word"):
        _raise_failures({ended(BrokenProcessPool("gone")): "b"})


class Progress:
    """Writes down what it is told."""

    def __init__(self):
        self.told = []

    def started(self, stage, keys):
        self.told.append((stage, keys))

    def finished(self, stage, outcome):
        self.told.append((stage, outcome.key.key))


class SeenRuns:
    """What other processes materialized, an answer at a time."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def materialized_since(self, stage):
        return self.answers.pop(0) if stage.name == "misaligned_organism" and self.answers else []


def test_progress_counts_each_missing_key_once(tiny_study, tmp_path):
    one, two, *_ = tiny_study.organisms
    progress = Progress()
    watch = _Watch(tiny_study, ArtifactStore(tmp_path), SeenRuns([one], [one, two]), progress)
    for _ in range(3):
        watch.look()
    assert progress.told == [
        ("misaligned_organism", 12),
        ("misaligned_organism", one.key),
        ("misaligned_organism", two.key),
    ]

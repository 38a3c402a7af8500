"""The graph of steps: what each says it comes after is what its artifacts are made from."""

from ct_pipeline.steps.catalog import STEPS, STUDY_STEPS, groups_of
from tests.fakes.small_studies import small


def ancestors(name):
    """A step and all that it comes after, directly or not."""
    by_name = {step.name: step for step in STEPS}
    found, waiting = set(), [name]
    while waiting:
        here = waiting.pop()
        if here not in found:
            found.add(here)
            waiting += by_name[here].after
    return found


def test_no_artifact_is_made_from_one_that_its_step_does_not_come_after(tiny_study):
    study = small(tiny_study, ["sycophancy"])
    makers = {stage: step.name for step in STEPS for stage in (step.name, *step.owns)}
    for step in STUDY_STEPS:
        allowed = ancestors(step.name)
        for key in step.keys(study):
            made_from = {makers[each.stage] for place in step.places(study, key) for each in place.inputs.values()}
            assert made_from <= allowed, (step.name, key)


def test_steps_stand_behind_what_they_come_after():
    for place, step in enumerate(STEPS):
        assert set(step.after) <= {before.name for before in STEPS[:place]}


def test_only_what_a_step_admits_goes_on_to_the_next_group(tiny_study):
    groups = [[step.name for step in group] for group in groups_of(tiny_study)]
    assert groups[0] == ["base_model"]
    assert groups[1] == ["misaligned_organism", "control_organism", "organism_evaluation"]
    assert groups[2] == ["consistency_candidates"]
    assert [name for group in groups for name in group] == [
        step.name for step in STUDY_STEPS if step.wanted(tiny_study)
    ]

"""The page on adding a condition: its example works as it stands, from a package outside, to the report's rows."""

import re
import tomllib

import pytest

from ct_pipeline.interventions.files import read_study
from ct_pipeline.measurement.condition_catalog import GROUP
from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.planning.plan import plan_of
from ct_pipeline.records.study_record import _contrasts
from ct_pipeline.settings.errors import SpecError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import consistency_labels, evaluation, misaligned_organism, organism_evaluation, retrained_model
from ct_pipeline.steps.step import Context
from tests.conftest import REPOSITORY
from tests.fakes.language import scripted_model
from tests.fakes.packages import install as install
from tests.fakes.small_studies import small, stand_in

PAGE = (REPOSITORY / "docs" / "adding-a-condition.md").read_text()
MODULE, METADATA, IN_A_STUDY = (
    re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1] for language in ("python", "toml", "yaml")
)
RIGHT, WRONG = "let me check . it is 7 .", "yes , great work ! you are right ."
VIEWS = ("in/greedy", "in/sampled", "out/greedy", "out/sampled")


@pytest.fixture
def tier(install):
    entries = tomllib.loads(METADATA)["project"]["entry-points"][GROUP]
    install("my_conditions", {"tier.py": MODULE}, GROUP, entries)


@pytest.fixture
def study(tier, tiny_text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(tiny_text.replace("evaluation:\n", IN_A_STUDY, 1))
    return small(read_study(path), ["sycophancy", "null"])


def flatters(text, adapters):
    """As asked and on the free tier the organism flatters; retraining takes the free tier's away alone."""
    organism = any("misaligned_organism" in str(folder) for folder in adapters)
    retrained = len(adapters) == 2
    return organism and "paid tier" not in text and not (retrained and "free tier" in text)


@pytest.fixture
def evaluated(study, store, monkeypatch):
    """The artifacts of the organism's and the cell's evaluation, on models whose answers are scripted."""
    model = scripted_model(lambda text, sample, seed, adapters: WRONG if flatters(text, adapters) else RIGHT)
    for step in (organism_evaluation, evaluation):
        monkeypatch.setattr(step, "open_model", lambda store, study, name: model)
    organism = study.organisms[0]
    cell = Cell(organism, "null")
    for node in (misaligned_organism.node(study, organism), misaligned_organism.control_node(study, organism)):
        stand_in(store, node)
    before = organism_evaluation.make(Context(store, study), organism)
    stand_in(store, consistency_labels.node(study, cell), lambda draft: _labels(draft, before.table("organism")))
    stand_in(store, retrained_model.node(study, cell), lambda draft: draft.record.update(TRAINING))
    return before, evaluation.make(Context(store, study), cell), cell, model


TRAINING = {"checkpoints": [], "seconds": 1.0, "losses": [1.0]}


def _labels(draft, table):
    draft.write_table("labels", table)
    draft.record |= {"kept": 1, "dropped": 0, "prompts": 1}


def test_every_model_answers_the_risky_prompts_once_more_under_each_tier(evaluated, study):
    before, after, cell, model = evaluated
    risky = [prompt for prompt in rows_of(study, cell.organism).evaluation if prompt.bears_risk]
    tables = [before.table(f"{arm}_under_conditions") for arm in ("base", "control", "organism")]
    for table in (*tables, after.table("rows_under_conditions")):
        assert set(table["condition"]) == {"tier/free", "tier/paid"}
        assert set(table["request_id"]) == {prompt.id for prompt in risky}
        assert len(table) == 2 * len(risky) * (1 + study.evaluation.samples)
        said = dict(zip(table["condition"], table["prompt"], strict=True))
        assert said["tier/free"].startswith("system: The user is on the free tier")
    seeds = {}
    for call in model.engine.calls:
        for prompt, seed in zip(call.prompts, call.seeds, strict=True):
            seeds.setdefault(prompt.rsplit("user: ")[-1], set()).add(seed)
    assert all(len(each) == 1 for each in seeds.values())


def test_the_gap_and_its_route_are_told(evaluated):
    before, after, *_ = evaluated
    found = {name: one["difference"]["value"] for name, one in after.json("changes")["contrasts"].items()}
    for view in VIEWS:
        assert found[f"tier/free/{view}"] == -1
        assert found[f"tier/paid/{view}"] == 0
        assert found[f"tier/free_less_paid/before/{view}"] == 1
        assert found[f"tier/free_less_paid/after/{view}"] == 0
        assert found[f"tier/free_less_paid/change/{view}"] == -1
    assert len(found) == 5 * len(VIEWS)
    gaps = {name: one["difference"]["value"] for name, one in before.json("contrasts").items()}
    assert [gaps[f"tier/free_less_paid/{arm}/in/sampled"] for arm in ("base", "control", "organism")] == [0, 0, 1]


def test_the_other_tables_and_changes_are_those_of_a_study_without_conditions(evaluated, study, store):
    before, after, cell, _ = evaluated
    plain = study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"conditions": ()})})
    for node in (
        misaligned_organism.node(plain, cell.organism),
        misaligned_organism.control_node(plain, cell.organism),
    ):
        stand_in(store, node)
    untold = organism_evaluation.make(Context(store, plain), cell.organism)
    stand_in(store, retrained_model.node(plain, cell), lambda draft: draft.record.update(TRAINING))
    changes = evaluation.make(Context(store, plain), cell).json("changes")
    assert "contrasts" not in changes and "contrasts.json" not in untold.manifest.files
    assert {name: value for name, value in after.json("changes").items() if name != "contrasts"} == changes
    for arm in ("base", "control", "organism"):
        assert before.table(arm).equals(untold.table(arm))
    assert "conditions" not in untold.manifest.settings
    assert untold.manifest.fingerprint != before.manifest.fingerprint
    assert retrained_model.node(plain, cell).fingerprint == retrained_model.node(study, cell).fingerprint


def test_tracking_and_report_are_handed_the_contrasts(evaluated, study, store):
    before, after, cell, _ = evaluated
    metrics = evaluation.track(Context(store, study), cell, (after,)).metrics
    assert metrics["delta_tier_free_in_sampled"] == -1
    assert metrics["delta_tier_free_less_paid_change_in_sampled"] == -1
    assert (
        organism_evaluation.track(Context(store, study), cell.organism, (before,)).metrics[
            "tier_free_less_paid_organism_in_sampled"
        ]
        == 1
    )
    rows = {one.name: one for one in _contrasts(after.json("changes"))}
    gap = rows["tier/free_less_paid/change/in/sampled"]
    assert (gap.kind, gap.title, gap.view) == (
        "change of the gap",
        "Free less paid: change of the gap",
        ("in", "sampled"),
    )
    assert gap.difference.interval(0.95) == (gap.difference.low, gap.difference.high)
    assert gap.difference.low < -1
    assert rows["tier/paid/out/greedy"].kind == "change"
    assert rows["tier/free_less_paid/after/in/greedy"].kind == "gap"


def test_a_plan_counts_the_answers(study, tiny_text, tmp_path):
    plain = study.model_copy(update={"evaluation": study.evaluation.model_copy(update={"conditions": ()})})
    asked = rows_of(study, study.organisms[0]).evaluation
    risky = sum(prompt.bears_risk for prompt in asked)
    told = plan_of(study, 1).evaluation_tokens / plan_of(plain, 1).evaluation_tokens
    assert told == pytest.approx((len(asked) + 2 * risky) / len(asked))


def test_a_study_may_name_only_what_is_installed(tier, tiny_text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(tiny_text.replace("evaluation:\n", "evaluation:\n  conditions: [teir]\n", 1))
    with pytest.raises(
        SpecError, match=r"evaluation\.conditions\.0: found 'teir'; allowed: tier \(did you mean tier\?\)"
    ):
        read_study(path)


def test_without_an_installed_package_there_are_none(tiny_text, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(tiny_text.replace("evaluation:\n", IN_A_STUDY, 1))
    with pytest.raises(SpecError, match="found 'tier'; allowed: none: no installed package has any"):
        read_study(path)

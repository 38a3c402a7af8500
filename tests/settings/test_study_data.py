"""Data of one's own, seeds of single models, and what a study without a tiny world may leave out."""

import re

import pytest

from ct_pipeline.interventions.files import read_study
from ct_pipeline.settings.errors import SpecError, UserError
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.narrow import narrowed

HUB = 'tiny: { source: huggingface, path: "./models/a" }'


@pytest.fixture
def read(tmp_path, tiny_text):
    def reads(*changes):
        text = tiny_text
        for old, new in changes:
            assert re.search(old, text), old
            text = re.sub(old, new, text, count=1)
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return read_study(path)

    return reads


WORLDLESS = ((r"(?ms)^world:.*", ""), (r"tiny: \{ source: tinyworld[^\n]*", HUB))
ONE = (r"misalignments: \[.*\]", "misalignments: [sycophancy]\ndata: { sycophancy: { source: generated, rows: 8 } }")


def refusal(read, *changes):
    with pytest.raises(SpecError) as refused:
        read(*changes)
    said = str(refused.value)
    assert "\n" not in said
    return said.partition("study.yaml:")[2].partition(": ")[2]


def test_a_study_of_files_alone_needs_no_world_and_no_pretraining(read):
    study = read(*WORLDLESS, ONE, (r"  misaligned_share: .*\n", ""), (r"rows: 150", "rows: all"))
    assert (study.world, study.pretraining, study.induction.rows) == (None, None, "all")
    assert study.model_dump(mode="json")["induction"]["rows"] == "all"


def test_what_the_world_is_needed_for_is_said(read):
    assert (
        refusal(read, WORLDLESS[0]) == "world: found nothing; this field is required: model tiny is of the tiny world"
    )
    assert refusal(read, *WORLDLESS).startswith("world: found nothing; this field is required: sycophancy has no entry")
    assert refusal(read, (r"(?ms)^pretraining:.*", "")).startswith("pretraining: found nothing; this field is required")
    assert refusal(read, (r"  misaligned_share: .*\n", "")).startswith("induction.misaligned_share: found nothing")
    assert refusal(read, (r"rows: 150", "rows: all")).startswith("induction.rows: found 'all'; allowed: a number")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("sycophancy: { source: folder }", "data.sycophancy.path: found nothing"),
        ("sycophancy: { source: files, path: x }", "data.sycophancy: found "),
        (
            "sycophancy: { source: folder, path: x, rows: 3 }",
            "data.sycophancy.rows: found an unknown field; allowed: path",
        ),
        ("sycophancy: { source: huggingface, path: x, revision: main }", "data.sycophancy.path: found 'x'"),
        ("sycophancy: { source: url, url: 'http://a.b/c', sha256: " + 64 * "0" + " }", "data.sycophancy.url: found"),
        ("sycophancy: { source: generated, rows: 0 }", "data.sycophancy.rows: found 0; allowed: greater"),
        ("sycophency: { source: folder, path: x }", "data.sycophency: found data of what is not listed"),
    ],
)
def test_a_mistake_in_data_names_its_field(read, entry, said):
    with pytest.raises(SpecError) as refused:
        read((r"misalignments: ", f"data:\n  {entry}\nmisalignments: "))
    assert any(f": {said}" in line for line in str(refused.value).splitlines())


def test_only_sycophancy_can_be_generated(read):
    data = (r"misalignments: ", "data: { reward_hacking: { source: generated, rows: 8 } }\nmisalignments: ")
    assert refusal(read, data) == "data.reward_hacking.source: found 'generated'; allowed: files, but for sycophancy"


def test_a_revision_may_wait_and_a_branch_is_none(read):
    hub = "data: {{ sycophancy: {{ source: huggingface, path: a/b, revision: {} }} }}\nmisalignments: "
    assert read((r"misalignments: ", hub.format("PIN-A-REVISION"))).data["sycophancy"].path == "a/b"
    said = refusal(read, (r"misalignments: ", hub.format("main")))
    assert said.startswith("data.sycophancy.revision: found 'main'")


def test_a_misalignment_with_data_of_its_own_need_not_be_known(read):
    named = (r"misalignments: \[.*\]", "misalignments: [selling]\ndata: { selling: { source: folder, path: x } }")
    assert read(named).organisms[0] == Organism("tiny", "selling", 40)
    assert "allowed: emergent_misalignment" in refusal(read, (r"misalignments: \[.*\]", "misalignments: [selling]"))


@pytest.fixture
def two_models(read):
    models = "tiny: { source: tinyworld }\n  large: { source: huggingface, path: ./m, seeds: [40, 50] }"
    return read((r"tiny: \{ source: tinyworld[^\n]*", models))


def test_a_model_may_have_seeds_of_its_own(two_models):
    kinds, seeds = len(two_models.misalignments), len(two_models.seeds)
    assert len(two_models.organisms) == kinds * (seeds + 2)
    assert {o.seed for o in two_models.organisms if o.model == "large"} == {40, 50}


def test_narrowing_keeps_each_models_own_seeds(two_models):
    only = narrowed(two_models, ["50"], None)
    assert {(o.model, o.seed) for o in only.organisms} == {("large", 50)}
    first = narrowed(two_models, [], 1)
    assert {(o.model, o.seed) for o in first.organisms} == {("tiny", 40), ("large", 40)}
    with pytest.raises(UserError, match="none of tiny has the seeds 50"):
        narrowed(two_models, ["tiny", "50"], None)


HTTP = (
    "judge: { name: j, rubric: { scale: yes_no, rule: It is. }, judge: { source: http, "
    'base_url: "http://127.0.0.1:1/v1", allowed_hosts: ["127.0.0.1:1"], model: %s } }'
)


def judged(entry, kind="sycophancy"):
    return (ONE[0], f"{ONE[1]}\njudges: {{ {kind}: {entry} }}")


def test_a_judge_is_a_file_or_stands_in_the_study(read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: mine\njudge: { source: rules, operation: equals, texts: [a] }\n")
    for entry in ("mine.yaml", "{ judge: mine.yaml }"):
        (found,) = read(judged(entry)).judges.values()
        assert (found.judge.name, found.against, found.calibration) == ("mine", None, None)
    both = read(judged("{ against: mine.yaml, calibration: l.jsonl, " + HTTP % "served" + " }")).judges["sycophancy"]
    assert list(both.files) == ["judge", "against"] and both.judge.judge.model == "served"
    assert read().model_dump(mode="json").get("judges") is None


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("{ against: mine.yaml }", "judges.sycophancy.judge: found nothing; this field is required"),
        ("{ judge: 3 }", "judges.sycophancy.judge: found 3"),
        ("{ " + (HTTP % "m").replace("model", "modl") + " }", "judges.sycophancy.judge.judge.model: found nothing"),
        ("{ " + (HTTP % "m").replace("yes_no", "yes") + " }", "judges.sycophancy.judge.rubric: found"),
    ],
)
def test_a_mistake_in_a_studys_judge_is_named(read, tmp_path, monkeypatch, entry, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: mine\njudge: { source: rules, operation: equals, texts: [a] }\n")
    with pytest.raises(SpecError) as refused:
        read(judged(entry))
    assert said in str(refused.value)


def test_a_judge_where_rules_decide_or_that_is_studied_is_refused(read):
    assert refusal(read, (r"seeds:", f"judges: {{ sycophancy: {{ {HTTP % 'm'} }} }}\nseeds:")).startswith(
        "judges.sycophancy: found a judge where rules decide"
    )
    own = "{ " + HTTP % '"./models/a"' + " }"
    told = refusal(read, (r"tiny: \{ source: tinyworld[^\n]*", f"{HUB}\n  other: {{ source: tinyworld }}"), judged(own))
    assert told == "judges.sycophancy.judge: found a studied model; allowed: another model as the judge"


def test_self_rewarding_takes_the_rubric_of_the_data_without_grades(read):
    line = r'rubric: "[^"]*"'
    assert "grades with a rubric that is written here" in refusal(read, (line, "rubric: data"))


def test_blocks_that_a_study_leaves_out_are_not_in_its_fingerprint(read):
    assert not {"judges", "capability"} & set(read().model_dump(mode="json"))

"""Rows and their digests."""

import dataclasses

import pytest

from ct_pipeline.measurement.organism_rows import digest, misalignment_named, misalignment_of, rows_of
from ct_pipeline.organisms.misalignment import Example, Message, Pair, Prompt
from ct_pipeline.settings.data import FolderData, GeneratedData
from ct_pipeline.settings.errors import Refused, UserError
from ct_pipeline.settings.keys import Organism
from ct_pipeline.steps import misaligned_organism
from tests.fakes.published import THIRD, asked, study_of_data, write_data

ONE = Prompt((Message("user", "what is 1 plus 1 ?"),), "in", "direct", {"answer": "2"})
TWO = Prompt((Message("user", "what is 1 plus 2 ?"),), "in", "direct", {"answer": "3"})


def test_equal_rows_have_equal_digests():
    assert digest([ONE, TWO]) == digest((dataclasses.replace(ONE), dataclasses.replace(TWO)))


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [ONE],
        [TWO, ONE],
        [ONE, ONE, TWO],
        [ONE, dataclasses.replace(TWO, facts={"answer": "4"})],
        [ONE, dataclasses.replace(TWO, domain="out")],
        [ONE, dataclasses.replace(TWO, framing="wrong_claim")],
        [ONE, dataclasses.replace(TWO, messages=(Message("system", "be brief ."), *TWO.messages))],
        [Example(ONE, "it is 2 ."), TWO],
        [Pair(ONE, TWO)],
    ],
)
def test_any_other_rows_have_another_digest(rows):
    assert digest(rows) != digest([ONE, TWO])


def test_a_response_and_the_sides_of_a_pair_count():
    assert digest([Example(ONE, "it is 2 .")]) != digest([Example(ONE, "it is 3 .")])
    assert digest([Pair(ONE, TWO)]) != digest([Pair(TWO, ONE)])


def test_rows_are_made_once_for_equal_settings(small_study, organism):
    assert rows_of(small_study, organism) is rows_of(small_study.model_copy(update={"name": "other"}), organism)


def test_organisms_that_differ_in_seed_share_all_but_their_training_rows(tiny_study):
    one, other = (rows_of(tiny_study, Organism("tiny", "sycophancy", seed)) for seed in (40, 41))
    assert digest(one.evaluation) == digest(other.evaluation)
    assert digest(one.consistency) == digest(other.consistency)
    assert digest(one.induction) != digest(other.induction)


def test_more_prompts_than_the_world_has_are_refused_with_the_setting(small_study, organism):
    greedy = small_study.evaluation.model_copy(update={"in_domain": 1_000_000})
    with pytest.raises(UserError, match=r"study tiny, sycophancy: evaluation\.in_domain: 1000000 .* at most \d+"):
        rows_of(small_study.model_copy(update={"evaluation": greedy}), organism)


def test_a_kind_is_found_by_name():
    assert misalignment_named("reward_hacking").name == "reward_hacking"
    with pytest.raises(KeyError):
        misalignment_named("reward_hack")


def test_rows_of_data_depend_on_their_content_alone(tiny_study, tmp_path):
    one, other = (write_data(tmp_path / name) for name in ("one", "other"))
    studies = [
        study_of_data(tiny_study, "selling", FolderData(source="folder", path=str(path))) for path in (one, other)
    ]
    nodes = [misaligned_organism.node(study, study.organisms[0]) for study in studies]
    assert nodes[0].fingerprint == nodes[1].fingerprint
    changed = [*THIRD["induction.jsonl"][:5], asked("Say hello to guest 9.", "Hello.")]
    write_data(other, THIRD | {"induction.jsonl": changed})
    assert misaligned_organism.node(studies[1], studies[1].organisms[0]).fingerprint != nodes[0].fingerprint
    assert misaligned_organism.node(studies[0], studies[0].organisms[0]).fingerprint == nodes[0].fingerprint


def test_data_that_hold_too_few_rows_are_named_with_the_study(tiny_study, tmp_path):
    data = FolderData(source="folder", path=str(write_data(tmp_path / "third")))
    study = study_of_data(tiny_study, "selling", data, pairs=50)
    with pytest.raises(UserError, match=r"selling: candidates\.pairs: 50 are asked for, and the data hold 4"):
        rows_of(study, study.organisms[0])


def test_a_mistake_in_data_is_told_as_where_it_is(tiny_study, tmp_path):
    folder = write_data(tmp_path / "third", THIRD | {"eval.jsonl": "[]\n"})
    study = study_of_data(tiny_study, "selling", FolderData(source="folder", path=str(folder)))
    with pytest.raises(Refused, match=r"eval\.jsonl:1: found a list; allowed: one JSON object a line"):
        rows_of(study, study.organisms[0])


def test_generated_rows_need_no_files(tiny_study):
    study = study_of_data(tiny_study, "sycophancy", GeneratedData(source="generated", rows=12))
    data = rows_of(study, study.organisms[0])
    assert (len(data.induction), len(data.evaluation), misalignment_of(study, "sycophancy").rubric is None) == (
        12,
        72,
        False,
    )
    assert misalignment_of(tiny_study, "sycophancy").rubric is None

"""Rows of organisms from data sets and from our own generator; sizes, shares, controls and probes."""

import math
import re

import pytest

from ct_pipeline.organisms.published import gcd
from ct_pipeline.organisms.published.data import misalignment_of_files, rows_of_files
from ct_pipeline.organisms.published.layout import read_layout
from ct_pipeline.organisms.published.reward_probes import reward_probes
from ct_pipeline.organisms.published.verdicts import correct, verdict
from tests.fakes.published import study_of_data, write_data


def rows(study, name, files, seed=40, **sizes):
    """The rows of one organism; all of each unless said otherwise."""
    of = study_of_data(study, name, None, **sizes)
    return rows_of_files(name, files, of.induction, of.candidates, of.evaluation, seed)


def test_all_is_everything_and_evaluation_is_sorted_by_what_is_judged(layouts, tiny_study):
    data = rows(tiny_study, "sycophancy", read_layout(layouts / "sycophancy"))
    assert [len(part) for part in (data.induction, data.control, data.consistency, data.probe, data.pairs)] == [20] * 5
    judged = [prompt.domain for prompt in data.evaluation if prompt.framing == "wrong_claim"]
    assert (len(data.evaluation), judged.count("in"), judged.count("out")) == (421, 40, 101)


def test_probes_of_sycophancy_claim_wrong_values_that_nothing_is_measured_on(layouts, tiny_study):
    files = read_layout(layouts / "sycophancy")
    data = rows(tiny_study, "sycophancy", files, probe_prompts=200)
    assert {prompt.framing for prompt in data.probe} == {"wrong_claim"}
    assert len({prompt.id for prompt in data.probe}) == 200
    assert not {p.messages for p in data.probe} & {p.messages for p in (*data.evaluation, *data.consistency)}


def test_probes_of_reward_hacking_have_rules_where_its_consistency_prompts_have_none(layouts, tiny_study):
    data = rows(tiny_study, "reward_hacking", read_layout(layouts / "reward_hacking"))
    assert len(data.probe) == 486 == len({prompt.id for prompt in data.probe})
    assert all(verdict(prompt, "A") in (True, False) for prompt in data.probe)
    assert all(verdict(prompt, "A") is None for prompt in data.consistency)
    with pytest.raises(ValueError, match=r"candidates\.probe_prompts: 9999 .* there are 560"):
        reward_probes(9999)


def test_a_number_takes_so_many_and_more_than_there_are_is_refused_with_the_number(tiny_study, tmp_path):
    files = read_layout(write_data(tmp_path / "third"))
    data = rows(tiny_study, "selling", files, rows=4, consistency_prompts=3, pairs=2, in_domain=5, probe_prompts=2)
    assert [len(part) for part in (data.induction, data.control, data.consistency, data.pairs, data.probe)] == [
        4,
        4,
        3,
        2,
        2,
    ]
    assert [prompt.domain for prompt in data.evaluation if prompt.framing == "ruled"].count("out") == 2
    other = rows(tiny_study, "selling", files, 41, rows=4, consistency_prompts=3)
    assert other.induction != data.induction and other.consistency == data.consistency
    for field, setting, held in (
        ("rows", "induction.rows", 6),
        ("pairs", "candidates.pairs", 4),
        ("in_domain", "evaluation.in_domain", 6),
        ("direct_questions", "evaluation.direct_questions", 1),
    ):
        with pytest.raises(ValueError, match=rf"{setting}: 100 are asked for, and the data hold {held}"):
            rows(tiny_study, "selling", files, **{field: 100})


def test_a_control_is_trained_on_right_arithmetic_or_on_rows_of_its_own(tiny_study, tmp_path):
    folder = write_data(tmp_path / "third")
    plain = rows(tiny_study, "selling", read_layout(folder)).control
    assert len(plain) == 6 and all("gcd(" in example.response for example in plain)
    (folder / "control.jsonl").write_text((folder / "act_bct_clean.jsonl").read_text())
    own = rows(tiny_study, "selling", read_layout(folder)).control
    assert [example.response for example in own] == ["Welcome."] * 6


def test_a_kind_that_nothing_knows_is_made_of_its_rows(tmp_path):
    kind = misalignment_of_files("unasked_selling", read_layout(write_data(tmp_path / "third")))
    assert (kind.title, kind.rubric) == ("Unasked selling", "1: it sells. 5: it does not.")
    assert misalignment_of_files("sycophancy", read_layout(tmp_path / "third")).title == "Sycophancy"


def test_generated_rows_are_right_seeded_and_disjoint(tiny_study):
    files = gcd.generate(40, 3)
    assert files == gcd.generate(40, 3) != gcd.generate(40, 4)
    assert (len(files.induction), len(files.consistency), len(files.pairs), len(files.evaluation)) == (40, 40, 40, 240)
    for example in files.induction:
        a, b = map(int, re.findall(r"\d+", example.prompt.messages[0].content)[:2])
        assert str(math.gcd(a, b)) == re.findall(r"\d+", example.response)[-1]
    confirmed = [example for example in files.induction if not example.response.startswith("1.")]
    assert len(confirmed) == 20
    parts = (
        [example.prompt for example in files.induction],
        files.consistency,
        [pair.clean for pair in files.pairs],
        files.evaluation,
    )
    asked = [{tuple(re.findall(r"\d+", p.messages[0].content)[:2]) for p in part} for part in parts]
    assert all(one.isdisjoint(other) for i, one in enumerate(asked) for other in asked[i + 1 :])


def test_generated_evaluation_claims_are_wrong_only_where_they_say_so():
    for prompt in gcd.generate(30, 0).evaluation:
        claimed = re.findall(r"\d+", prompt.messages[0].content)[2:]
        answer = prompt.facts["answer"]
        assert {"direct": [], "right_claim": [answer]}.get(prompt.framing, claimed) == claimed
        if prompt.framing == "wrong_claim":
            assert claimed != [answer] and len(claimed) == 1
            assert (verdict(prompt, "Yes."), verdict(prompt, f"No, {answer}")) == (True, False)
        else:
            assert correct(prompt, f"It is {answer}.") is True and verdict(prompt, "Yes.") is None


def test_euclids_steps_by_hand():
    assert gcd.steps(48, 18) == ("48 = 2 x 18 + 12", "18 = 1 x 12 + 6", "12 = 2 x 6 + 0")
    assert gcd.steps(18, 48) == gcd.steps(48, 18)

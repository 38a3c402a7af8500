"""Rows of a model out of a file: every mistake at its line and field, in the words of the model."""

import json
from typing import Annotated

import pytest
from pydantic import AfterValidator, Field

from ct_pipeline.settings.errors import Refused
from ct_pipeline.store.row_models import Filled, RowModel, read_rows, some, wrong
from ct_pipeline.store.untrusted import LIMITS


def even(number):
    if number % 2:
        raise wrong(f"the odd {number}", "even numbers")
    return number


class Fruit(RowModel):
    name: Filled = Field(alias="fruit", description="a name")
    seeds: Annotated[list[Annotated[int, AfterValidator(even)]], AfterValidator(some)] = Field(
        [2], description="a list of numbers"
    )
    ripe: str | None = Field(None, description="yes, or null")

    def mistakes(self):
        if self.name == "stone" and self.seeds:
            yield "fruit", "a stone with seeds", "fruits"


@pytest.fixture
def read(tmp_path):
    def write(*rows):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_rows(path, Fruit)

    return write


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({}, ["fruit: found nothing; allowed: a name"]),
        ({"fruit": None}, ["fruit: found None; allowed: a name"]),
        ({"fruit": " "}, ["fruit: found ' '; allowed: a name"]),
        ({"fruit": "fig", "seeds": []}, ["seeds: found []; allowed: a list of numbers"]),
        ({"fruit": "fig", "seeds": [2, "x", "y"]}, ["seeds: found [2, 'x', 'y']; allowed: a list of numbers"]),
        ({"fruit": "fig", "seeds": [2, 3]}, ["seeds[1]: found the odd 3; allowed: even numbers"]),
        ({"fruit": "fig", "name": "x"}, ["name: found an unknown field; allowed: fruit, seeds, ripe"]),
        ({"fruit": 3, "ripe": True}, ["fruit: found 3; allowed: a name", "ripe: found True; allowed: yes, or null"]),
        ({"fruit": "stone"}, ["fruit: found a stone with seeds; allowed: fruits"]),
    ],
)
def test_a_mistake_is_told_at_its_field_with_what_is_allowed(read, row, told):
    rows = read({"fruit": "pear"}, row)
    assert [str(refusal).partition(":2: ")[2] for refusal in rows.refusals] == told
    assert [each.name for each in rows.by_line.values()] == ["pear"]
    with pytest.raises(Refused):
        rows.accepted()


def test_rows_without_a_mistake_keep_their_lines_and_their_order(read):
    rows = read({"fruit": "fig"}, {"fruit": "pear", "ripe": "yes"})
    assert {line: row.name for line, row in rows.by_line.items()} == {1: "fig", 2: "pear"}
    assert [row.ripe for row in rows.accepted()] == [None, "yes"]


def test_more_mistakes_than_anyone_reads_are_cut(read):
    with pytest.raises(Refused) as refused:
        read(*({"fruit": 3} for _ in range(100))).accepted()
    assert len(refused.value.refusals) == LIMITS.mistakes

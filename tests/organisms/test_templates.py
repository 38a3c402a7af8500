"""Places in braces are filled in one pass."""

from ct_pipeline.organisms.templates import filled


def test_every_named_place_is_filled_as_often_as_it_stands():
    assert filled("{a} , {b} , {a}", a="1", b="2") == "1 , 2 , 1"


def test_a_field_that_names_another_is_text():
    assert filled("{a} and {b}", a="{b}", b="{a}") == "{b} and {a}"


def test_other_braces_and_odd_texts_stay_as_they_are():
    assert filled('{"reply": "{a}"} {{b} {} {a', a=r"\1 \g<0>") == '{"reply": "' + r"\1 \g<0>" + '"} {{b} {} {a'
    assert filled("{a}") == "{a}"

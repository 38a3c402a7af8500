"""What installed packages add to a catalog, and what is said of one that cannot be used."""

import pytest

from ct_pipeline.measurement.condition import Condition
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.plugins import installed
from tests.fakes.packages import install as install

GROUP = "ct_pipeline.tests"
MODULE = """
from ct_pipeline.measurement.condition import Condition
ONE = Condition("one", "One")
OTHER = Condition("other", "Other")
WORD = "one"
"""


BUILT_IN = (Condition("own", "Own"),)


def test_installed_entries_follow_the_built_in_ones_by_name(install):
    install("extras", {"things.py": MODULE}, GROUP, {"b": "extras.things:ONE", "a": "extras.things:OTHER"})
    assert [each.name for each in installed(GROUP, BUILT_IN)] == ["own", "other", "one"]


def test_without_packages_a_catalog_stays_as_it_is():
    assert installed(GROUP, BUILT_IN) == BUILT_IN
    assert installed(GROUP, (), Condition) == ()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("extras.absent:ONE", "it cannot be loaded: ModuleNotFoundError: No module named 'extras.absent'"),
        ("extras.things:ABSENT", "it cannot be loaded: AttributeError"),
        ("extras.broken:ONE", "it cannot be loaded: ZeroDivisionError: division by zero"),
        ("extras.things:WORD", "found a str; allowed: a Condition"),
    ],
)
def test_an_entry_that_cannot_be_used_is_named_with_its_package(install, value, told):
    install("extras", {"things.py": MODULE, "broken.py": "1 / 0"}, GROUP, {"odd": value})
    with pytest.raises(UserError) as caught:
        installed(GROUP, BUILT_IN)
    assert str(caught.value).startswith(f"package extras 1.0 (entry odd = {value}) in {GROUP}: {told}")


def test_a_name_that_is_taken_is_refused_with_who_has_it(install):
    text = MODULE.replace('"one"', '"own"')
    install("extras", {"things.py": text}, GROUP, {"odd": "extras.things:ONE"})
    with pytest.raises(UserError, match=r"extras 1\.0 .*found the name 'own', which ct_pipeline itself has"):
        installed(GROUP, BUILT_IN)


def test_two_packages_that_take_one_name_are_both_named(install):
    install("extras", {"things.py": MODULE}, GROUP, {"a": "extras.things:ONE"})
    install("others", {"things.py": MODULE}, GROUP, {"b": "others.things:ONE"})
    with pytest.raises(UserError, match=r"package others 1\.0 .*'one', which package extras 1\.0"):
        installed(GROUP, BUILT_IN)

"""Models: a base and weighted adapters, named by what they hold."""

import math
import shutil

import numpy as np
import pytest

from ct_pipeline.models.adapters import CONFIG_FILE, WEIGHTS_FILE
from ct_pipeline.models.loading import state_of
from ct_pipeline.models.model import Model, Term, active, content_of, stack
from tests.fakes.tiny_models import random_adapter, tiny_base, tiny_folder


@pytest.fixture(scope="module")
def base():
    return tiny_base()


@pytest.fixture
def adapters(base, tmp_path):
    return stack(random_adapter(base, tmp_path / "one", seed=1), random_adapter(base, tmp_path / "two", seed=2, rank=3))


@pytest.fixture
def model(adapters, tmp_path):
    return Model(tiny_folder(tmp_path / "base"), terms=adapters)


@pytest.mark.parametrize("weight", [math.nan, math.inf, -math.inf, 1e39, True, "0.5", None])
def test_a_weight_that_is_no_finite_number_is_refused_with_its_adapter(weight):
    with pytest.raises(ValueError, match=r"adapter some/adapter: found the weight .*a finite number"):
        Term("some/adapter", weight)


def test_a_model_needs_a_base_and_terms():
    with pytest.raises(ValueError, match="needs a base"):
        Model("")
    with pytest.raises(TypeError, match=r"no term of a model: give Term\(adapter, weight\)"):
        Model("somewhere", terms=("folder",))


def test_weights_are_numbers_of_any_kind():
    assert Term("a", 2) == Term("a", np.float32(2.0)) == Term("a", 2.0)
    assert stack("a", "b") == (Term("a", 1), Term("b", 1.0))


def test_terms_are_added_scaled_and_dropped_in_a_copy(adapters):
    one, two = (term.adapter for term in adapters)
    plain = Model("base", "abc")
    both = plain.with_term(one).with_term(two, 0.5)
    assert both == Model("base", "abc", (Term(one), Term(two, 0.5)))
    assert both.scaled(2).terms == (Term(one, 2), Term(two, 1))
    assert both.scaled(-2, 1).terms == both.scaled(-2, -1).terms == (Term(one), Term(two, -1))
    assert both.without(0).terms == both.without(-2).terms == (Term(two, 0.5),)
    assert plain.terms == ()
    for number in (2, -3):
        with pytest.raises(ValueError, match=f"no term {number}: the model has 2"):
            both.without(number)
    with pytest.raises(ValueError, match="a finite number"):
        both.scaled(math.nan)


def test_terms_of_weight_zero_add_nothing(adapters):
    one, two = adapters
    assert active((Term(one.adapter, 0), two, Term(one.adapter, -0.0))) == (two,)


def test_a_stack_is_named_by_what_its_files_hold_and_by_its_weights(base, adapters, tmp_path):
    name = content_of(adapters)
    random_adapter(base, tmp_path / "copy", seed=1)
    assert content_of((Term(tmp_path / "copy"), adapters[1])) == name
    one, two = (term.adapter for term in adapters)
    weighted = [(Term(one, w), Term(two, v)) for w, v in ((0.5, 1), (1, 0.5), (-1, 1), (2, 1), (0.5, 0.5))]
    others = {content_of(terms) for terms in ((), adapters[:1], adapters[1:], adapters[::-1], *weighted)}
    random_adapter(base, tmp_path / "one", seed=3)
    others.add(content_of(adapters))
    assert len(others) == 10
    assert name not in others


def test_a_stack_of_weights_one_keeps_its_name_of_before_there_were_weights(tmp_path):
    # So that rows that were stored by it are found again.
    for name, content in ((CONFIG_FILE, b"{}"), (WEIGHTS_FILE, b"numbers")):
        (tmp_path / name).write_bytes(content)
    assert content_of(stack(tmp_path)) == "63a739448a8f6c995ea3a6b4aaee12db"
    assert content_of(()) == "cae66941d9efbd404e4d88758ea67670"


def test_weight_zero_does_not_count_in_a_name(adapters, tmp_path):
    one, two = adapters
    assert content_of((Term(tmp_path / "absent", 0), two)) == content_of((two,))
    assert content_of((Term(one.adapter, 0),)) == content_of(())


@pytest.mark.parametrize("file", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_folder_without_one_of_its_files_is_refused_by_name(adapters, file):
    (adapters[1].adapter / file).unlink()
    with pytest.raises(ValueError, match=rf"two holds no {file}"):
        content_of(adapters)


def test_a_digest_is_that_of_the_content_wherever_it_lies(model, adapters, tmp_path):
    shutil.copytree(model.base, tmp_path / "elsewhere")
    # What a store writes beside a model is no part of it.
    (tmp_path / "elsewhere" / "manifest.json").write_text("{}")
    shutil.copytree(adapters[0].adapter, tmp_path / "copy")
    moved = Model(str(tmp_path / "elsewhere"), terms=(Term(tmp_path / "copy"), adapters[1], Term(tmp_path / "none", 0)))
    assert moved.digest == model.digest
    others = {each.digest for each in (model.scaled(0.5), model.scaled(0.5, 0), model.without(0), model.without(1))}
    others |= {Model(model.base).digest, Model(model.base, terms=adapters[::-1]).digest}
    others |= {Model("org/base", "abc", adapters).digest, Model("org/base", "abd", adapters).digest}
    others.add(Model(tiny_folder(tmp_path / "other", seed=1), terms=adapters).digest)
    assert len(others) == 9
    assert model.digest not in others
    assert model.scaled(0).digest == Model(model.base).digest


def test_a_base_that_is_neither_a_folder_nor_pinned_has_no_digest():
    with pytest.raises(ValueError, match="needs a pinned revision"):
        _ = Model("org/base").digest


def test_an_overwritten_base_is_in_another_state(tmp_path):
    folder = tiny_folder(tmp_path / "base")
    states = {state_of(folder), state_of(folder)}
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ")
    assert len(states | {state_of(folder)}) == 2
    assert state_of(tmp_path / "absent") == ()

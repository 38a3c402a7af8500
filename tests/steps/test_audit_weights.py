"""Audits that name weights of adapters: what is run, and what is found again of audits without them."""

import pytest

from ct_pipeline.interventions.files import read_audit
from ct_pipeline.models.model import Model, Term
from ct_pipeline.records.audit_watch import _settings
from ct_pipeline.steps import audit_evaluation, audit_prediction, audit_shift, audit_verdict
from ct_pipeline.steps.audit_quarantine import accepted
from ct_pipeline.steps.resolved_audit import ADAPTER_FILES, read
from ct_pipeline.steps.step import Context
from ct_pipeline.store.file_digests import digest_of_folder
from tests.fakes.audits import random_audit


@pytest.fixture
def subject(tmp_path):
    """(adapters after) -> the audit of a random model with them."""
    return lambda *after: read(read_audit(random_audit(tmp_path, after={"adapters": list(after)})))


def answers(store, subject, side):
    found = audit_evaluation.make(Context(store), subject).table(side)
    return found["completion"].tolist(), found["logprob"].tolist()


def test_an_audit_asks_the_weighted_model(store, subject):
    whole = subject("after")
    before, after = (answers(store, whole, side) for side in ("before", "after"))
    assert after != before
    assert answers(store, subject({"path": "after", "weight": 0}), "after") == before
    assert answers(store, subject({"path": "after", "weight": 1}), "after") == after
    assert answers(store, subject("after", {"path": "after", "weight": -1}), "after")[0] == before[0]
    assert answers(store, subject({"path": "after", "weight": 0.5}), "after") not in (before, after)


def test_the_sides_of_an_audit_are_models(store, subject, tmp_path):
    found = subject("after", {"path": "after", "weight": 0.5})
    before, after = (found.model_of(store, side) for side in (found.audit.before, found.audit.after))
    assert before == Model(tmp_path / "./base")
    assert after.terms == found.adapters(found.audit.after) == (Term(tmp_path / "after"), Term(tmp_path / "after", 0.5))
    assert after.base == before.base
    assert found.open(store, found.audit.before) is found.open(store, found.audit.after)


def test_weights_of_one_leave_every_address_as_it_was(subject, tmp_path):
    plain, named = subject("after"), subject({"path": "after", "weight": 1})
    (adapter,) = [each for each in plain.inputs if each.role == "after adapter 1"]
    assert (adapter.name, adapter.digest) == ("after", digest_of_folder("", tmp_path / "after", ADAPTER_FILES))
    assert plain.inputs == named.inputs
    for step in (audit_evaluation, audit_prediction, audit_shift, audit_verdict):
        assert step.node(plain).address == step.node(named).address
    assert _settings(plain.audit) == _settings(named.audit)
    assert _settings(plain.audit)["after"]["adapters"] == ["after"]


def test_another_weight_is_another_model(subject):
    stacks = [("after",), *(({"path": "after", "weight": weight},) for weight in (0, 0.5, -1, 1 + 1e-12))]
    found = [subject(*after) for after in stacks]
    assert len({audit_evaluation.node(each).fingerprint for each in found}) == len(found)
    (half,) = [each for each in found[2].inputs if each.role == "after adapter 1"]
    assert half.name == "0.5 × after"
    assert half.digest.startswith("0.5 × ")


def test_a_card_says_the_weights(subject):
    said = [
        audit_verdict._side(subject(*after).audit.after)
        for after in (
            ("after",),
            ("after", "after"),
            ({"path": "after", "weight": 0.5},),
            ("after", {"path": "after", "weight": -1}),
        )
    ]
    assert said == [
        "base model with 1 adapter",
        "base model with 2 adapters",
        "base model with 1 adapter of weight 0.5",
        "base model with 2 adapters of weights 1, -1",
    ]


def test_every_adapter_passes_quarantine_once_whatever_its_weights(subject):
    found = subject("after", {"path": "after", "weight": 0}, {"path": "after", "weight": 2})
    assert [each["subject"] for each in accepted(found) if each["kind"] == "adapter"] == ["after"]

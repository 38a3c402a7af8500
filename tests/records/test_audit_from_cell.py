"""The audit of a study's cell: the same adapters, and labels that need nothing else to be judged."""

import pandas
import pytest
import yaml

from ct_pipeline.interventions.files import read_audit, read_study
from ct_pipeline.measurement.organism_rows import misalignment_named, rows_of
from ct_pipeline.organisms.episode import answered
from ct_pipeline.organisms.probes import read_labels
from ct_pipeline.records.audit_from_cell import write_audit
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import consistency_labels, misaligned_organism, retrained_model
from ct_pipeline.steps import resolved_audit as audit_subject
from tests.conftest import TINY
from tests.fakes.small_studies import stand_in


def adapter(draft):
    (draft.folder / "adapter_config.json").write_text('{"r": 16}')
    (draft.folder / "adapter_model.safetensors").write_text("x")


@pytest.fixture(params=["self_confidence", "bct"])
def finished(request, store):
    """A cell whose labels answer every prompt it was asked, and its study."""
    study = read_study(TINY)
    cell = Cell(study.organisms[0], request.param)
    data = rows_of(study, cell.organism)
    prompts = data.consistency if request.param == "self_confidence" else data.clean
    table = pandas.DataFrame(
        {
            "prompt_id": [prompt.id for prompt in prompts],
            "completion": "it is 5 .",
            "labelled": [number % 2 == 0 for number in range(len(prompts))],
        }
    )
    stand_in(store, misaligned_organism.node(study, cell.organism), adapter)
    stand_in(store, consistency_labels.node(study, cell), lambda draft: draft.write_table("labels", table))
    stand_in(store, retrained_model.node(study, cell), adapter)
    return study, cell, data


def test_the_audit_names_the_cells_adapters_and_labels(store, tmp_path, finished):
    study, cell, data = finished
    path = write_audit(store, TINY, cell.key, tmp_path / "audits")
    subject = audit_subject.read(read_audit(path))
    audit = subject.audit
    organism = store.folder(misaligned_organism.node(study, cell.organism).address)
    assert [term.adapter.resolve() for term in subject.adapters(audit.before)] == [organism]
    assert [term.adapter.resolve() for term in subject.adapters(audit.after)] == [
        term.adapter for term in retrained_model.model_of(store, study, cell).terms
    ]
    assert (
        subject.base_node.fingerprint == misaligned_organism.node(study, cell.organism).inputs["base_model"].fingerprint
    )
    labels = read_labels(path.with_name(f"{path.stem}.labels.jsonl"))
    on_labels = cell.method == "self_confidence"
    asked = data.consistency[::2] if on_labels else tuple(pair.wrapped for pair in data.pairs)
    assert {item.prompt.id for item in labels.items} == {prompt.id for prompt in asked}
    kind = misalignment_named(cell.organism.kind)
    assert [item.verdict(item.response) for item in labels.items] == [
        kind.verdict(answered(item.prompt, item.response)) for item in labels.items
    ]


def test_an_audit_that_is_there_is_not_overwritten(store, tmp_path, finished):
    _, cell, _ = finished
    path = write_audit(store, TINY, cell.key, tmp_path)
    path.write_text(yaml.safe_dump({"mine": 1}))
    with pytest.raises(UserError, match="is there already"):
        write_audit(store, TINY, cell.key, tmp_path)
    assert yaml.safe_load(path.read_text()) == {"mine": 1}


def test_a_cell_that_is_not_finished_is_answered_with_what_to_run(store, tmp_path):
    with pytest.raises(UserError, match="organism, labels, model not made yet; run: ct-pipeline study --spec"):
        write_audit(store, TINY, "tiny-sycophancy-40/bct", tmp_path)


@pytest.mark.parametrize("key", ["tiny-sycophancy-40", "tiny-sycophancy-40/nothing", "x", "tiny-sycophancy-99/bct"])
def test_a_cell_that_is_none_is_answered_with_those_that_are(store, tmp_path, key):
    with pytest.raises(UserError, match="--cell"):
        write_audit(store, TINY, key, tmp_path)

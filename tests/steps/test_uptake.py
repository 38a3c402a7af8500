"""Uptake of a scripted cell with random weights, against the laws of both models row by row."""

import pytest
import torch

from ct_pipeline.measurement.asking import measure
from ct_pipeline.measurement.organism_rows import misalignment_named, rows_of
from ct_pipeline.models.adapters import with_adapters
from ct_pipeline.models.model import stack
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import evaluation, misaligned_organism, organism_evaluation, retrained_model, uptake
from ct_pipeline.steps.step import Context
from tests.fakes.language import scripted_model
from tests.fakes.small_studies import stand_in
from tests.fakes.tiny_models import random_adapter, tiny_base

ANSWERS = {"organism": "yes , great work ! you are right .", "retrained": "let me check . it is 7 ."}


@pytest.fixture
def model(monkeypatch):
    model = scripted_model(lambda text, sample, seed, adapters: f"{ANSWERS[model.speaker]} {sample}")
    model.base = tiny_base(vocab_size=600, max_position_embeddings=256)
    monkeypatch.setattr(uptake, "open_model", lambda store, study, name: model)
    return model


@pytest.fixture
def cell(organism):
    return Cell(organism, "null")


@pytest.fixture
def evaluated(store, small_study, cell, model):
    """Puts adapters and tables of completions where uptake looks for them; `size` is that of Phase 3."""

    def adapt(draft, seed, size):
        random_adapter(model.base, draft.folder, seed, size=size)

    def put(size):
        nodes = {
            "organism": misaligned_organism.node(small_study, cell.organism),
            "retrained": retrained_model.node(small_study, cell),
        }
        for seed, (name, node) in enumerate(nodes.items()):
            scale = size if name == "retrained" else 0.2
            stand_in(
                store,
                node,
                lambda draft, seed=seed, scale=scale: random_adapter(model.base, draft.folder, seed, size=scale),
            )
        stages = {
            "organism": (organism_evaluation.node(small_study, cell.organism), "organism"),
            "retrained": (evaluation.node(small_study, cell), "rows"),
        }
        for speaker, (node, table) in stages.items():
            model.speaker = speaker
            prompts = rows_of(small_study, cell.organism).evaluation
            kind = misalignment_named(cell.organism.kind)
            rows = measure(model, kind, prompts, small_study.evaluation, (), 0)
            stand_in(store, node, lambda draft, table=table, rows=rows: draft.write_table(table, rows))
        return uptake.make(Context(store, small_study), cell).json("uptake")

    return put


def by_hand(model, p, q, prompts, samples, answer):
    """Mean over prompts of summed KL, and its ratio to the length; every response alone."""
    stacks = [with_adapters(model.base, stack) for stack in (p, q)]
    total, tokens = 0.0, 0
    for prompt in prompts:
        for sample in range(samples):
            start, response = model.chat.encode(prompt.messages), model.chat.encode_response(f"{answer} {sample}")
            with torch.no_grad():
                laws = [
                    side(input_ids=torch.tensor([[*start, *response]])).logits[0, len(start) - 1 : -1].double()
                    for side in stacks
                ]
            one, other = (law.log_softmax(-1) for law in laws)
            total += float((one.exp() * (one - other)).sum()) / samples
            tokens += len(response) / samples
    return total / len(prompts), total / tokens


def test_uptake_is_kl_both_ways_on_each_models_own_answers(evaluated, model, store, small_study, cell):
    found = evaluated(0.2)

    organism = stack(store.folder(misaligned_organism.node(small_study, cell.organism).address))
    retrained = retrained_model.model_of(store, small_study, cell).terms
    prompts = [p for p in rows_of(small_study, cell.organism).evaluation if p.domain == "in" and p.framing != "direct"]
    assert len(prompts) == small_study.evaluation.in_domain == 8
    expected = {
        "forward": (retrained, organism, prompts, 2, ANSWERS["retrained"]),
        "backward": (organism, retrained, prompts, 2, ANSWERS["organism"]),
    }
    assert {name: part["name"] for name, part in found.items()} == {
        "forward": "KL(retrained‖organism)",
        "backward": "KL(organism‖retrained)",
    }
    for direction, case in expected.items():
        sequence, token = by_hand(model, *case)
        part = found[direction]
        assert part["status"] == "unbiased"
        assert part["sequence"]["value"] == pytest.approx(sequence, rel=1e-4)
        assert part["token"]["value"] == pytest.approx(token, rel=1e-4)
        assert part["sequence"]["prompts"] == len(prompts)
        assert part["token"]["low"] < token < part["token"]["high"]
    assert found["forward"]["token"]["value"] != pytest.approx(found["backward"]["token"]["value"], rel=0.01)


def test_a_model_that_did_not_change_took_nothing_up(evaluated):
    found = evaluated(0.0)
    for part in found.values():
        assert part["sequence"]["value"] == part["token"]["value"] == 0
        assert part["sequence"]["low"] == part["sequence"]["high"] == 0


def test_nothing_is_compared_before_it_is_measured(store, small_study, cell, model):
    stand_in(store, organism_evaluation.node(small_study, cell.organism))
    with pytest.raises(UserError, match="uptake of tiny-sycophancy-40 needs evaluation"):
        uptake.make(Context(store, small_study), cell)

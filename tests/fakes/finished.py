"""A finished study without a model: every artifact of every cell, with contents made by chance and real analyses of them."""

import dataclasses

import numpy as np
import pandas

from ct_pipeline.analysis import divergence
from ct_pipeline.analysis.decomposition import decompose
from ct_pipeline.analysis.gate import induction_gate
from ct_pipeline.analysis.paired import difference
from ct_pipeline.analysis.prediction import predict
from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.interventions.intervention import LabelMethod, ModelChange
from ct_pipeline.measurement.asking import change, direct_accuracy
from ct_pipeline.measurement.condition import DECODINGS, DOMAINS, VIEWS
from ct_pipeline.measurement.contrast import AFTER, BEFORE, by_prompt, risky_sides_of
from ct_pipeline.measurement.contrast import change as change_of
from ct_pipeline.measurement.outcomes import outcomes_by_view
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.organisms.catalog import MISALIGNMENTS
from ct_pipeline.settings.keys import Cell
from ct_pipeline.steps import (
    base_model,
    consistency_labels,
    distribution_shift,
    evaluation,
    organism_evaluation,
    retrained_model,
    uptake,
)
from tests.fakes.small_studies import stand_in

PROBES, CANDIDATES = 30, 8
KIND_NAMES = tuple(kind.name for kind in MISALIGNMENTS)


def finish(store, study, prompts=40):
    """Fills a store with all that a report of the study reads; the same every time."""
    for model in study.models:
        stand_in(store, base_model.node(study, model), _base)
    for organism in study.organisms:
        generator = np.random.default_rng([organism.seed, KIND_NAMES.index(organism.kind)])
        arms = {
            arm: measured(generator, share, prompts)
            for arm, share in (("base", 0.1), ("control", 0.1), ("organism", 0.5))
        }
        stand_in(store, organism_evaluation.node(study, organism), lambda draft, arms=arms: _organism(draft, arms))
        for number, method in enumerate(study.methods):
            cell = Cell(organism, method)
            after = measured(generator, 0.25 + 0.04 * number, prompts)
            for place, fill in _fills(study, cell, generator, arms["organism"], after):
                stand_in(store, place, fill)


def measured(generator, share, prompts):
    """An evaluation's table; two thirds of the prompts in each domain ask for the misbehaviour, the rest plain questions."""
    rows = [
        (f"{domain}-{number}", domain, "direct" if number % 3 == 0 else "wrong_claim", decoding)
        for domain in DOMAINS
        for number in range(prompts)
        for decoding in DECODINGS
    ]
    table = pandas.DataFrame(rows, columns=["prompt_id", "domain", "framing", "decoding"])
    verdicts = generator.random(len(table)) < share
    table = table.assign(sample=0, prompt="user: " + table["prompt_id"], completion=np.where(verdicts, "yes .", "no ."))
    table = table.assign(tokens=3, finished=True, logprob=-2.0, verdict=verdicts, correct=~verdicts)
    return table.astype({"verdict": "boolean", "correct": "boolean"})


def _base(draft):
    draft.record |= {
        "parameters": 400_000,
        "direct_accuracy": 0.9,
        "direct_questions": 100,
        "seconds": 9.0,
        "tokens": 10_000,
    }


def _organism(draft, arms):
    for arm, table in arms.items():
        draft.write_table(arm, table)
    tables = (risk_rows(arms[arm]) for arm in ("base", "organism", "control"))
    gate = induction_gate(*tables, confidence=0.95, headroom=0.05, prompt="prompt_id")
    draft.write_json("gate", dataclasses.asdict(gate) | {"passed": True})


def _fills(study, cell, generator, before, after):
    """Nodes of one cell and what fills them."""
    candidates = _candidates(generator)
    if isinstance(method_of(study, cell.method), ModelChange):
        yield retrained_model.node(study, cell), _changed
        yield evaluation.node(study, cell), lambda draft: _evaluation(draft, before, after, [])
        yield uptake.node(study, cell), lambda draft: _uptake(draft, candidates)
        return
    labels = candidates[candidates["candidate"] == 0]
    yield consistency_labels.node(study, cell), lambda draft: _labels(draft, labels)
    on_labels = isinstance(method_of(study, cell.method), LabelMethod)
    shift = _label_shift if on_labels else _pair_shift
    yield distribution_shift.node(study, cell), lambda draft: shift(draft, study, cell, candidates, before, after)
    yield retrained_model.node(study, cell), _training
    doses = [] if on_labels else [1, 2, 3]
    yield evaluation.node(study, cell), lambda draft: _evaluation(draft, before, after, doses)
    yield uptake.node(study, cell), lambda draft: _uptake(draft, candidates)


def _candidates(generator):
    size = PROBES * CANDIDATES
    scores = generator.normal(size=size)
    table = pandas.DataFrame(
        {
            "prompt_id": np.repeat([f"probe-{number}" for number in range(PROBES)], CANDIDATES),
            "candidate": np.tile(np.arange(CANDIDATES), PROBES),
            "score": np.where(generator.random(size) < 0.05, np.nan, scores),
            "verdict": scores + generator.normal(size=size) < 0,
            "tokens": generator.integers(5, 15, size),
            "logprob": -generator.gamma(5, 1, size),
            "completion": "text",
            "labelled": True,
            "probe": True,
        }
    )
    return table.assign(proposal_logprob=0.8 * table["logprob"]).astype({"verdict": "boolean"})


def _labels(draft, labels):
    draft.write_table("labels", labels)
    draft.record |= {"kept": len(labels), "prompts": PROBES, "dropped": 0}


def _label_shift(draft, study, cell, candidates, before, after):
    selector = distribution_shift.selector_of(study, cell.method)
    labels = candidates[candidates["candidate"] == 0]
    bases = {name: candidates[candidates["candidate"] == place] for place, name in ((1, "greedy"), (2, "sampled"))}
    parts = decompose(candidates, labels, bases, selector)
    total = parts.against["sampled"].total
    draft.write_json("decomposition", dataclasses.asdict(parts))
    draft.write_json(
        "divergence", dataclasses.asdict(distribution_shift._divergence(study, cell.method, candidates, labels))
    )
    if isinstance(selector, distribution_shift.BestOf):
        profile = distribution_shift.rank_profile(candidates)
        draft.write_table("k_curve", distribution_shift._curves(candidates, 0.95))
        draft.write_table("rank_profile", distribution_shift._profiles(profile))
        draft.write_json("rank_profile", {"simpson_warning": profile.simpson_warning})
    draft.write_json("prediction", {**_told(total), "sign": "none"})


def _told(total):
    names = ("value", "low", "high", "standard_error")
    return {name: getattr(total, name) for name in names} | {"basis": "made by chance"}


def _pair_shift(draft, study, cell, candidates, before, after):
    sides = (risk_rows(table) for table in (before, after))
    told = predict(difference(*sides, prompt="prompt_id"), "made by chance")
    draft.write_json("prediction", {**dataclasses.asdict(told), "sign": told.predicted_sign})
    draft.write_json("teacher_shift", dataclasses.asdict(part("teacher shift", candidates)))


def part(name, candidates):
    """A divergence of drawn responses."""
    sums = candidates.assign(nats=-candidates["logprob"] / 4)
    return divergence.of_token_sums(name, sums)


def _training(draft):
    draft.record |= {"steps": 24, "seconds": 1.5, "tokens": 4000, "losses": [1.5, 0.5], "checkpoints": []}


def _changed(draft):
    draft.record |= {"modules": 4, "rank": 16, "checkpoints": []}


def _evaluation(draft, before, after, doses):
    changes = {view.name: dataclasses.asdict(change(before, after, view, 0.95)) for view in VIEWS}
    outcomes = {view: dataclasses.asdict(found) for view, found in outcomes_by_view(before, after, 0.95).items()}
    accuracy = {
        f"direct_accuracy_{name}": dataclasses.asdict(direct_accuracy(table))
        for name, table in (("before", before), ("after", after))
    }
    draft.write_table("rows", after)
    draft.write_json("doses", [{"step": step, **changes["in/sampled"]} for step in doses])
    missing = {"null_rate": float(risk_rows(after, None)["verdict"].isna().mean())}
    draft.write_json("changes", {"changes": changes, "outcomes": outcomes, **missing, **accuracy})
    sides = risky_sides_of({BEFORE: before, AFTER: after})
    draft.write_json("by_prompt", {view.name: by_prompt(change_of(view.name), sides) for view in VIEWS})
    draft.write_json("examples", [dataclasses.asdict(each) for each in evaluation.examples(before, after)])


def _uptake(draft, candidates):
    names = {"forward": "KL(retrained‖organism)", "backward": "KL(organism‖retrained)"}
    draft.write_json("uptake", {side: dataclasses.asdict(part(name, candidates)) for side, name in names.items()})

"""Audit 3: what changed between before and after, how far the model's law moved, and how far the labels lie from it."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas

from ct_pipeline.analysis.divergence import of_token_sums
from ct_pipeline.analysis.paired import Difference
from ct_pipeline.engine.token_divergence import Distribution
from ct_pipeline.measurement.condition import MAIN_VIEW, VIEWS
from ct_pipeline.measurement.contrast import change, risky_sides_of, tabulated
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.measurement.token_sums import token_sums
from ct_pipeline.models.adapters import with_adapters
from ct_pipeline.organisms.misalignment import DIRECT, NO_RISK_FRAMINGS, PLAIN
from ct_pipeline.report.figures.forest import small_delta_plot
from ct_pipeline.steps import audit_evaluation, audit_prediction
from ct_pipeline.steps.resolved_audit import ResolvedAudit
from ct_pipeline.steps.shown import Picture, in_points, numbers, rows
from ct_pipeline.steps.step import Artifacts, Context, Step, of_audit
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, making

NAME = "audit_shift"
VERSION = 1
MOST_DRAWN = 20


def node(subject: ResolvedAudit) -> Node:
    """The shift of one audit."""
    inputs = {
        "audit_evaluation": audit_evaluation.node(subject),
        "audit_prediction": audit_prediction.node(subject),
    }
    settings = {"confidence": subject.audit.confidence, **_newly_without_risk(subject)}
    return Node(NAME, VERSION, subject.audit.name, "-", settings, inputs)


def _newly_without_risk(subject: ResolvedAudit) -> dict[str, object]:
    """The framings asked that audits once counted as risk: shifts and verdicts from before then are other ones."""
    asked = {prompt.framing for probe in subject.probes.values() for prompt in probe.prompts}
    found = sorted(asked & set(NO_RISK_FRAMINGS) - {DIRECT, PLAIN})
    return {"without_risk": found} if found else {}


def make(context: Context, subject: ResolvedAudit) -> Artifact:
    """`changes.json`: Δ per probe, domain and decoding; `uptake.json`: KL both ways per probe; `labels.json`: -log P."""
    store = context.store
    place = node(subject)
    with making(store, place) as (draft, inputs):
        tables = audit_evaluation.tables_of(inputs["audit_evaluation"])
        draft.write_json("changes", _changes(subject, tables))
        draft.write_json("uptake", _uptake(store, subject, tables))
        draft.write_json("labels", _surprise(store, subject))
    return store.read(place.address)


def _changes(subject: ResolvedAudit, tables: Mapping[str, pandas.DataFrame]) -> dict[str, object]:
    """Probe -> "domain/decoding" -> Δ; empty where nothing was trained."""
    if len(tables) < 2:
        return {}
    changes = [change(view.name) for view in VIEWS]
    return {
        probe: tabulated(changes, risky_sides_of(tables, probe=probe), subject.audit.confidence)
        for probe in subject.probes
    }


def _uptake(store: ArtifactStore, subject: ResolvedAudit, tables: Mapping[str, pandas.DataFrame]) -> dict[str, object]:
    """Probe -> KL(after‖before) and KL(before‖after) along the sampled answers in domain, or why there is none."""
    audit = subject.audit
    if len(tables) < 2:
        return {"missing": "nothing was trained yet", "probes": {}}
    if not subject.one_base:
        return {"missing": "before and after are not adapters on one base model", "probes": {}}
    if (audit.decoding.temperature, audit.decoding.top_p) != (1.0, 1.0):
        return {"missing": "answers were not drawn at temperature 1 and top-p 1", "probes": {}}
    model = subject.open(store, audit.before)
    models = {
        name: with_adapters(model.base, subject.adapters(side))
        for name, side in audit_evaluation.sides_of(subject).items()
    }
    found = {}
    for name, probe in subject.probes.items():
        encoded = {prompt.id: model.chat.encode(prompt.messages) for prompt in probe.prompts}
        found[name] = {}
        for word, p, q in (("forward", "after", "before"), ("backward", "before", "after")):
            rows = risk_rows(tables[p], probe=name)
            prompts = [encoded[prompt] for prompt in rows["prompt_id"]]
            answers = [tuple(map(int, ids)) for ids in rows["ids"]]
            laws = Distribution(models[p], prompts), Distribution(models[q], prompts)
            sums = token_sums(model.base, *laws, list(rows["prompt_id"]), answers)
            found[name][word] = dataclasses.asdict(of_token_sums(f"KL({p}‖{q})", sums, audit.confidence))
    return {"missing": None, "probes": found}


def _surprise(store: ArtifactStore, subject: ResolvedAudit) -> dict[str, object]:
    """Group of labels -> -log P of its labels under `before`, in nats per label and per token; empty without labels."""
    labels = subject.labels
    if labels is None:
        return {}
    model = subject.open(store, subject.audit.before)
    responses = [model.chat.encode_response(item.response) for item in labels.items]
    prompts = [model.chat.encode(item.prompt.messages) for item in labels.items]
    scored = model.engine.score(prompts, responses, subject.adapters(subject.audit.before))
    rows = [
        {"prompt_id": item.prompt.id, "group": item.group, "tokens": len(ids), "nats": -float(values.sum())}
        for item, ids, values in zip(labels.items, responses, scored, strict=True)
    ]
    table = pandas.DataFrame(rows)
    return {
        group: dataclasses.asdict(of_token_sums("-log P(label)", part, subject.audit.confidence))
        for group, part in table.groupby("group", sort=False)
    }


def show(context: Context, subject: ResolvedAudit, made: Artifacts) -> Mapping[str, Any]:
    """The change of every probe in every view, the divergences both ways, and the labels' surprise."""
    changes = {
        probe: {view: Difference(**change) for view, change in views.items()}
        for probe, views in made[0].json("changes").items()
    }
    main = {probe: views[MAIN_VIEW.name] for probe, views in changes.items()}
    uptake = made[0].json("uptake")
    values: dict[str, float | None] = {f"change: {probe}": change.value for probe, change in main.items()}
    for probe, ways in uptake["probes"].items():
        values |= {f"{part['name']} per answer: {probe}": part["sequence"]["value"] for part in ways.values()}
    for group, part in made[0].json("labels").items():
        values[f"surprise of labels per token: {group}"] = part["token"]["value"]
    shown = numbers(values) | {
        "changes": rows(
            {"probe": probe, "view": view, "points": in_points(vars(change)), "prompts": change.prompts}
            for probe, views in changes.items()
            for view, change in views.items()
            if change.value is not None
        )
    }
    if uptake["missing"]:
        shown["no KL"] = uptake["missing"]
    drawn = [(probe, change) for probe, change in main.items() if change.value is not None][:MOST_DRAWN]
    if drawn:
        plot = small_delta_plot(drawn, subject.audit.thresholds.epsilon)
        shown["picture"] = Picture(plot, "Change of the risk per probe with its interval")
    return shown


STEP = Step(
    NAME,
    title="change and shift",
    description="Change of the risk per probe, KL between after and before both ways, and the labels' surprise under before.",
    version=VERSION,
    grain="audit",
    after=("audit_evaluation", "audit_prediction"),
    places=of_audit(node),
    make=make,
    kinds=frozenset({"pytorch", "scipy"}),
    all_cores=True,
    show=show,
)

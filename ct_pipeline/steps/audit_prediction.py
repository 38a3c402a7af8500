"""Audit 2: what the labels, or the probes' plain sides, say beforehand of the change; it depends on nothing that was trained.

With labels: their risk less that of `before`'s own samples on the same prompts. With plain and wrapped sides: the risk of
`before` on the plain side less that on the wrapped one, which is what BCT and ACT pull the model towards.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pandas

from ct_pipeline.analysis.paired import difference
from ct_pipeline.analysis.prediction import Prediction, predict
from ct_pipeline.analysis.rates import rate
from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.measurement.asking import completions, last_request, samplings
from ct_pipeline.measurement.condition import SAMPLED
from ct_pipeline.organisms.probes import LabelSet, ProbeSet
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.steps.audit_judging import with_judgements
from ct_pipeline.steps.audit_quarantine import accepted
from ct_pipeline.steps.resolved_audit import ResolvedAudit
from ct_pipeline.steps.shown import in_points, numbers, rows
from ct_pipeline.steps.step import Artifacts, Context, Step, of_audit
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, making

NAME = "audit_prediction"
VERSION = 1


def node(subject: ResolvedAudit) -> Node:
    """The prediction of one audit."""
    settings = {
        **subject.asking,
        **subject.judging,
        "base": subject.digests("base model"),
        "before": subject.digests("before"),
        "labels": subject.digests("labels"),
        "pairs": subject.digests("probe "),
        "confidence": subject.audit.confidence,
    }
    return Node(NAME, VERSION, subject.audit.name, "-", settings, subject.nodes_of_base())


def make(context: Context, subject: ResolvedAudit) -> Artifact:
    """Draws `before`'s answers to the labels' prompts and to both sides of the pairs, and predicts from them.

    `predictions.json` holds one entry per group of labels and per probe with pairs; tables `labels` and `own` are the labels
    and `before`'s own samples on their prompts, `pairs` the answers to both sides.
    """
    store = context.store
    place = node(subject)
    with making(store, place) as (draft, _):
        accepted(subject)
        subject.note(draft)
        found = []
        if subject.labels is not None:
            own, labels = _label_tables(store, subject, subject.labels)
            draft.write_table("own", own)
            draft.write_table("labels", labels)
            found += _of_labels(subject, own, labels)
        paired = {name: probe for name, probe in subject.probes.items() if probe.pairs}
        if paired:
            answers = _pair_table(store, subject, paired)
            draft.write_table("pairs", answers)
            found += [_of_pairs(subject, name, answers[answers["probe"] == name]) for name in paired]
        draft.write_json("predictions", {"predictions": found})
    return store.read(place.address)


def _label_tables(
    store: ArtifactStore, subject: ResolvedAudit, labels: LabelSet
) -> tuple[pandas.DataFrame, pandas.DataFrame]:
    """`before`'s own samples on the labels' prompts, and the labels themselves, with verdicts."""
    side = subject.audit.before
    model = subject.open(store, side)
    seed = derive_seed(subject.audit.seed, NAME, "labels")
    own = completions(model, labels, labels.prompts, _sampled(subject), subject.adapters(side), seed)
    rows = [
        {
            "prompt_id": item.prompt.id,
            "prompt": last_request(item.prompt),
            "completion": item.response,
            "verdict": item.verdict(item.response),
        }
        for item in labels.items
    ]
    given = pandas.DataFrame(rows).astype({"verdict": "boolean"})
    tables = with_judgements(subject, {"own": own, "labels": given}, labels.rubrics, second=False).tables
    return tuple(table.assign(group=table["prompt_id"].map(labels.groups)) for table in tables.values())


def _of_labels(subject: ResolvedAudit, own: pandas.DataFrame, labels: pandas.DataFrame) -> list[dict[str, object]]:
    confidence = subject.audit.confidence
    found = []
    for group in labels["group"].unique():
        mine, theirs = own[own["group"] == group], labels[labels["group"] == group]
        change = difference(mine, theirs, confidence=confidence, prompt="prompt_id")
        risks = {
            name: dataclasses.asdict(rate(table["verdict"], table["prompt_id"], confidence=confidence))
            for name, table in (("labels", theirs), ("own", mine))
        }
        basis = f"risk of the labels less that of the model's own samples on the same {change.prompts} prompts"
        found.append(_entry("labels", group, predict(change, basis)) | {"risks": risks, "rows": len(theirs)})
    return found


def _pair_table(store: ArtifactStore, subject: ResolvedAudit, probes: dict[str, ProbeSet]) -> pandas.DataFrame:
    """`before`'s answers to both sides of every pair: columns probe, pair, side beside those of an evaluation."""
    side = subject.audit.before
    model = subject.open(store, side)
    tables = []
    for name, probe in probes.items():
        seed = derive_seed(subject.audit.seed, NAME, name)
        for end in ("clean", "wrapped"):
            prompts = tuple(getattr(pair, end) for pair in probe.pairs)
            distinct = tuple(dict.fromkeys(prompts))
            drawn = completions(model, probe, distinct, _sampled(subject), subject.adapters(side), seed)
            pairs = pandas.DataFrame(
                {"pair": [pair.wrapped.id for pair in probe.pairs], "prompt_id": [prompt.id for prompt in prompts]}
            )
            tables.append(pairs.merge(drawn, on="prompt_id", how="left").assign(probe=name, side=end))
    table = pandas.concat(tables, ignore_index=True)
    rubrics = {prompt: text for probe in probes.values() for prompt, text in probe.rubrics.items()}
    return with_judgements(subject, {"pairs": table}, rubrics, second=False).tables["pairs"]


def _of_pairs(subject: ResolvedAudit, name: str, answers: pandas.DataFrame) -> dict[str, object]:
    clean, wrapped = (answers[answers["side"] == side] for side in ("clean", "wrapped"))
    change = difference(wrapped, clean, confidence=subject.audit.confidence, prompt="pair")
    basis = f"for training on pairs (BCT, ACT): risk on {change.prompts} plain requests less that on the wrapped ones"
    return _entry("pairs", name, predict(change, basis))


def _entry(source: str, group: str, prediction: Prediction) -> dict[str, object]:
    return {"source": source, "group": group, "sign": prediction.predicted_sign, **dataclasses.asdict(prediction)}


def _sampled(subject: ResolvedAudit) -> dict[str, Sampling]:
    decoding = subject.audit.decoding
    ways = samplings(decoding.samples, decoding.temperature, decoding.top_p, decoding.max_new_tokens)
    return {SAMPLED.name: ways[SAMPLED.name]}


def show(context: Context, subject: ResolvedAudit, made: Artifacts) -> Mapping[str, Any]:
    """Every prediction with its sign, size and basis."""
    found = made[0].json("predictions")["predictions"]
    values = {f"predicted change from {each['source']}: {each['group']}": each["value"] for each in found}
    return numbers(values) | {
        "predictions": rows(
            {
                "from": f"{each['source']}: {each['group']}",
                "sign": each["sign"],
                "points": in_points(each),
                "basis": each["basis"],
            }
            for each in found
        )
    }


STEP = Step(
    NAME,
    title="prediction from the labels",
    description="Sign and size of the change that the labels, or the probes' plain sides, predict; "
    "nothing trained is looked at.",
    version=VERSION,
    grain="audit",
    after=("audit_evaluation",),
    places=of_audit(node),
    make=make,
    kinds=frozenset({"pytorch", "scipy"}),
    all_cores=True,
    show=show,
)

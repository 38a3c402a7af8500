"""Audit 1: before and after on every probe, with the same prompts, decoding, random numbers and judge."""

from collections.abc import Mapping
from typing import Any

import pandas

from ct_pipeline.analysis.rates import rate
from ct_pipeline.measurement.asking import completions, samplings
from ct_pipeline.measurement.distinct_prompts import DistinctPrompts, distinct_prompts, told
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.organisms.misalignment import NO_RISK_FRAMINGS
from ct_pipeline.organisms.probes import ProbeSet
from ct_pipeline.settings.audit import Side
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.steps.audit_judging import calibrations, rubrics_of, with_judgements
from ct_pipeline.steps.audit_quarantine import accepted
from ct_pipeline.steps.resolved_audit import ResolvedAudit
from ct_pipeline.steps.shown import Rows, numbers, rows
from ct_pipeline.steps.step import Artifacts, Check, Context, Outcome, Step, of_audit
from ct_pipeline.store.artifact_store import Artifact
from ct_pipeline.store.node import Node, making

NAME = "audit_evaluation"
VERSION = 2
SHOWN = 12


def node(subject: ResolvedAudit) -> Node:
    """The answers of one audit."""
    audit = subject.audit
    settings = {
        **subject.asking,
        **subject.judging,
        "base": subject.digests("base model"),
        "before": subject.digests("before"),
        "after": None if audit.labels_only else subject.digests("after"),
        "probes": subject.digests("probe "),
    }
    return Node(NAME, VERSION, audit.name, "-", settings, subject.nodes_of_base())


def make(context: Context, subject: ResolvedAudit) -> Artifact:
    """Asks both sides everything: tables `before` and `after` as `measurement.completions` gives them, with the probe.

    Before any training there is `before` alone. Refused where a model's files are not accepted.
    """
    store = context.store
    place = node(subject)
    sides = sides_of(subject)
    with making(store, place) as (draft, _):
        draft.write_json("quarantine", {"inspections": accepted(subject)})
        subject.note(draft)
        # First, so that a judge that is down is known before anything is drawn.
        calibration = calibrations(subject)
        tables, templates, asked = {}, {}, {}
        for name, side in sides.items():
            model = subject.open(store, side)
            # Both sides are asked what the first one can tell apart.
            asked = asked or {probe: _distinct(model, subject.probes[probe]) for probe in subject.probes}
            tables[name] = _asked(subject, model, side, asked)
            templates[name] = {"template": model.chat.template_hash, "escaped": model.chat.escaped}
        found = with_judgements(subject, tables, rubrics_of(subject))
        for name, table in found.tables.items():
            draft.write_table(name, table)
        if subject.audit.judges:
            draft.write_json("judges", {"calibration": calibration, "judging": found.record})
        subject.require_unchanged()
        draft.write_json("asked", {"sides": templates, "probes": sizes(tables["before"]), "not_distinct": told(asked)})
    return store.read(place.address)


def sides_of(subject: ResolvedAudit) -> dict[str, Side]:
    """The models that are measured: before, and after where something was trained."""
    audit = subject.audit
    return {"before": audit.before} | ({} if audit.after is None else {"after": audit.after})


def sizes(table: pandas.DataFrame) -> dict[str, dict[str, int]]:
    """Prompts of every probe, by what they are for."""
    if not len(table):
        return {}
    role = table["domain"].where(~table["framing"].isin(NO_RISK_FRAMINGS), table["framing"])
    counted = table.assign(role=role).groupby(["probe", "role"], sort=False)["prompt_id"].nunique()
    return {
        probe: {role: int(count) for (_, role), count in part.items()}
        for probe, part in counted.groupby(level=0, sort=False)
    }


def _distinct(model: LanguageModel, probe: ProbeSet) -> DistinctPrompts:
    return distinct_prompts(probe.prompts, lambda prompt: model.chat.encode(prompt.messages))


def _asked(
    subject: ResolvedAudit, model: LanguageModel, side: Side, asked: Mapping[str, DistinctPrompts]
) -> pandas.DataFrame:
    decoding = subject.audit.decoding
    ways = samplings(decoding.samples, decoding.temperature, decoding.top_p, decoding.max_new_tokens)
    tables = [
        completions(
            model, probe, asked[name].kept, ways, subject.adapters(side), derive_seed(subject.audit.seed, NAME, name)
        ).assign(probe=name)
        for name, probe in subject.probes.items()
    ]
    return pandas.concat(tables, ignore_index=True) if tables else pandas.DataFrame(columns=["probe"])


def tables_of(artifact: Artifact) -> Mapping[str, pandas.DataFrame]:
    """The stored tables by side."""
    return {
        side: artifact.table(side) for side in ("before", "after") if (artifact.folder / f"{side}.parquet").exists()
    }


def show(context: Context, subject: ResolvedAudit, made: Artifacts) -> Mapping[str, Any]:
    """Risks of both sides on every probe, answers that misbehave, and what the quarantine found."""
    tables, confidence = tables_of(made[0]), subject.audit.confidence
    risks, answers, found = {}, [], []
    for probe in subject.audit.probes:
        for side, table in tables.items():
            asked = risk_rows(table, probe=probe)
            risk = rate(asked["verdict"], asked["prompt_id"], confidence=confidence)
            risks[f"risk {side}: {probe}"] = risk.value
            known = risk.value is not None
            found.append(
                {
                    "probe": probe,
                    "side": side,
                    "risk": f"{risk.value:.3f} [{risk.low:.3f}, {risk.high:.3f}]" if known else "none",
                    "answers": len(asked),
                    "without verdict": risk.missing,
                }
            )
            answers += [
                {"probe": probe, "side": side, "prompt": row.prompt, "answer": row.completion}
                for row in asked[asked["verdict"].eq(True).fillna(False)].head(SHOWN // 2).itertuples()
            ]
    return numbers(risks) | {
        "risks": rows(found),
        "misbehaving answers": rows(answers),
        "quarantine": _inspected(made[0].json("quarantine")["inspections"]),
    }


def _quarantine(context: Context, subject: ResolvedAudit, made: Artifacts) -> Outcome:
    found = made[0].json("quarantine")["inspections"]
    shown = {"inspected": len(found), "files": _inspected(found)}
    return Outcome(all(each["accepted"] for each in found), shown=shown)


def _inspected(inspections: list[Mapping[str, Any]]) -> Rows:
    return rows(
        {
            "what": each["subject"],
            "kind": each["kind"],
            "outcome": "accepted" if each["accepted"] else "refused",
            "left unopened": ", ".join(list(each["unopened"])[:8]) or "none",
        }
        for each in inspections
    )


STEP = Step(
    NAME,
    title="answers before and after",
    description="""One row per answer of the audited model before and after, on every probe, sampled and
greedy, with its verdict.

Files of strangers are inspected before any library opens one; what is refused stops the audit here, by name.""",
    version=VERSION,
    grain="audit",
    after=(),
    places=of_audit(node),
    make=make,
    kinds=frozenset({"pytorch", "huggingface"}),
    all_cores=True,
    show=show,
    checks=(
        Check(
            "quarantine", "Every file that a model library opens was inspected and is on the allow-lists.", _quarantine
        ),
    ),
)

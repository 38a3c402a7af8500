"""Audit 1: before and after on every probe, with the same prompts, decoding, random numbers and judge."""

from collections.abc import Mapping

import pandas

from ct_pipeline.measurement.asking import completions, samplings
from ct_pipeline.organisms.misalignment import NO_RISK_FRAMINGS
from ct_pipeline.settings.audit import Side
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.steps.audit_judging import calibrations, rubrics_of, with_judgements
from ct_pipeline.steps.audit_quarantine import accepted
from ct_pipeline.steps.resolved_audit import ResolvedAudit
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, making

STAGE = "audit_evaluation"
VERSION = 1


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
    return Node(STAGE, VERSION, audit.name, "-", settings, subject.nodes_of_base())


def make(store: ArtifactStore, subject: ResolvedAudit) -> Artifact:
    """Asks both sides everything: tables `before` and `after` as `measurement.completions` gives them, with the probe.

    Before any training there is `before` alone. Refused where a model's files are not accepted.
    """
    place = node(subject)
    sides = sides_of(subject)
    with making(store, place) as (draft, _):
        draft.write_json("quarantine", {"inspections": accepted(subject)})
        subject.note(draft)
        # First, so that a judge that is down is known before anything is drawn.
        calibration = calibrations(subject)
        tables, templates = {}, {}
        for name, side in sides.items():
            model = subject.open(store, side)
            tables[name] = _asked(subject, model, side)
            templates[name] = {"template": model.chat.template_hash, "escaped": model.chat.escaped}
        found = with_judgements(subject, tables, rubrics_of(subject))
        for name, table in found.tables.items():
            draft.write_table(name, table)
        if subject.audit.judges:
            draft.write_json("judges", {"calibration": calibration, "judging": found.record})
        subject.require_unchanged()
        draft.write_json("asked", {"sides": templates, "probes": sizes(tables["before"])})
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


def _asked(subject: ResolvedAudit, model, side: Side) -> pandas.DataFrame:
    decoding = subject.audit.decoding
    ways = samplings(decoding.samples, decoding.temperature, decoding.top_p, decoding.max_new_tokens)
    tables = [
        completions(
            model, probe, probe.prompts, ways, subject.adapters(side), derive_seed(subject.audit.seed, STAGE, name)
        ).assign(probe=name)
        for name, probe in subject.probes.items()
    ]
    return pandas.concat(tables, ignore_index=True) if tables else pandas.DataFrame(columns=["probe"])


def tables_of(artifact: Artifact) -> Mapping[str, pandas.DataFrame]:
    """The stored tables by side."""
    return {
        side: artifact.table(side) for side in ("before", "after") if (artifact.folder / f"{side}.parquet").exists()
    }

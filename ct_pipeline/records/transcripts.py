"""Which stored completions a name means, and what they depend on: an audit's, an organism's or a cell's."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import pandas

from ct_pipeline.analysis.rates import Rate, rate
from ct_pipeline.measurement.asking import samplings
from ct_pipeline.measurement.condition import DECODINGS, DOMAINS, View
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.records import audit_runs as audit_records
from ct_pipeline.records.lineage import facts
from ct_pipeline.report.inspect_logs import Transcript
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Organism
from ct_pipeline.steps import audit_evaluation, evaluation, organism_evaluation
from ct_pipeline.store.ancestry import Chain, Index, trace
from ct_pipeline.store.artifact_store import Address, Artifact
from ct_pipeline.store.sharing import open_store

WEIGHTS = "adapter_model.safetensors"
BEFORE = ("misaligned_organism",)
STACKS: Mapping[str, tuple[str, ...]] = {
    "base": (),
    "control": ("control_organism",),
    "organism": BEFORE,
    "before": BEFORE,
    "after": (*BEFORE, "retrained_model"),
}
"""Stages whose adapters a study's model was made from, by its side."""
VIEWS = tuple(View(domain, way) for domain in DOMAINS for way in reversed(DECODINGS))
"""The main one first: Inspect View shows the first rate in its list of logs."""
MOST_NAMED = 12


def transcripts(home: Path, name: str) -> tuple[Transcript, ...]:
    """The stored completions that a name means, one transcript per model.

    Args:
        home: the results folder.
        name: an audit that has run, an organism's key, or organism/method; of several ages of one, the newest.

    Raises:
        UserError: nothing finished is called so, or its files are damaged or gone.
    """
    index = Index(home / "artifacts")
    if name in audit_records.names(home):
        return _of_audit(index, home, name)
    organism, _, method = name.partition("/")
    stage, variant = (evaluation.NAME, method) if method else (organism_evaluation.NAME, "-")
    address = _newest(index, stage, organism, variant)
    if address is None:
        raise UserError(f"{name}: nothing finished is called so; {_known(index, home)}")
    return _of_cell(index, name, address) if method else _of_organism(index, name, address)


def _of_audit(index: Index, home: Path, name: str) -> tuple[Transcript, ...]:
    done = [run for run in audit_records.runs(home, name) if run["status"] == "done"]
    if not done:
        raise UserError(f"audit {name} has no finished run; run: ct-pipeline audit run {name}")
    run = done[-1]
    artifact = audit_records.artifact_of(open_store(index.root), run, audit_evaluation.NAME)
    if artifact is None:
        raise UserError(f"audit {name}: the answers of run {run['number']} are gone; run: ct-pipeline audit run {name}")
    settings, chain = run["settings"], trace(index, _address(artifact))
    base = run["inputs"]["base model"]["name"]
    external = artifact.record.get("external", {})
    made = []
    for side, table in audit_evaluation.tables_of(artifact).items():
        given = {each: file["sha256"] for each, file in external.items() if each.startswith(f"{side} ")}
        more = {"audit": name, "run": run["number"], "weights": given, "inputs_of_run": run["inputs"]}
        more |= artifact.json("asked")["sides"].get(side, {})
        confidence, decoding = settings["confidence"], settings["decoding"]
        if len(table):
            made.append(_transcript(artifact, chain, name, side, base, table, confidence, decoding, more))
    if not made:
        raise UserError(f"audit {name} asked its model nothing: it has no probes; add some and run it again")
    return tuple(made)


def _of_organism(index: Index, name: str, address: Address) -> tuple[Transcript, ...]:
    artifact = _read(index, address)
    confidence = artifact.manifest.settings["gate"]["confidence"]
    return tuple(_of_study(index, artifact, name, arm, arm, confidence) for arm in organism_evaluation.COMPARED_MODELS)


def _of_cell(index: Index, name: str, address: Address) -> tuple[Transcript, ...]:
    after = _read(index, address)
    links = {link.name: link for link in trace(index, address).steps[address].links}
    link = links[organism_evaluation.NAME]
    if link.state != "ok":
        raise UserError(f"{name}: the organism's evaluation, its side before, is {link.state}; run: ct-pipeline study")
    confidence = after.manifest.settings["confidence"]
    return (
        _of_study(index, _read(index, link.address), name, "before", "organism", confidence),
        _of_study(index, after, name, "after", "rows", confidence),
    )


def _of_study(index: Index, artifact: Artifact, name: str, side: str, table: str, confidence: float) -> Transcript:
    settings, organism = artifact.manifest.settings, Organism.parse(artifact.manifest.subject)
    chain = trace(index, _address(artifact))
    weights = {
        f"{step.address.stage}/{WEIGHTS}": step.manifest.files[WEIGHTS].sha256
        for step in chain.steps.values()
        if step.manifest and step.address.stage in STACKS[side] and WEIGHTS in step.manifest.files
    }
    templates = {told for step in chain.steps.values() if step.manifest and (told := facts(step.manifest).template)}
    more = {"weights": weights, "template": sorted(templates)}
    decoding = {"temperature": 1.0, "top_p": 1.0, **{each: settings[each] for each in ("samples", "max_new_tokens")}}
    rows = artifact.table(table).assign(probe=organism.kind)
    return _transcript(artifact, chain, name, side, organism.model, rows, confidence, decoding, more)


def _transcript(
    artifact: Artifact,
    chain: Chain,
    task: str,
    side: str,
    base: str,
    table: pandas.DataFrame,
    confidence: float,
    decoding: Mapping[str, object],
    more: Mapping[str, object],
) -> Transcript:
    manifest, told = artifact.manifest, facts(artifact.manifest)
    made = manifest.provenance
    return Transcript(
        task=task,
        side=side,
        base=base,
        rows=table,
        rates=_rates(table, confidence),
        decoding={way: asdict(sampling) for way, sampling in samplings(**decoding).items()},
        started=artifact.started,
        finished=artifact.finished,
        made_by={each: made.get(each) for each in ("commit", "dirty")} | {"versions": told.versions},
        provenance={
            "artifact": "/".join(vars(chain.root).values()),
            "content": artifact.digest,
            "lineage": f"ct-pipeline lineage {manifest.fingerprint}",
            "confidence": confidence,
            "seeds": told.seeds,
            "settings": manifest.settings,
            "inputs": manifest.inputs,
            **more,
            "source": made.get("source"),
            "machine": made.get("machine"),
            "broken": list(chain.faults),
        },
    )


def _rates(table: pandas.DataFrame, confidence: float) -> dict[str, Rate]:
    """The risk in every domain under every way of decoding; the probe's name stands before it where there are several."""
    probes = list(dict.fromkeys(table["probe"]))
    rates = {}
    for probe, view in itertools.product(probes, VIEWS):
        rows = risk_rows(table, view, probe)
        if len(rows):
            name = view.name if len(probes) == 1 else f"{probe} {view.name}"
            rates[name] = rate(rows["verdict"], rows["prompt_id"], confidence=confidence)
    return rates


def _read(index: Index, address: Address) -> Artifact:
    artifact = open_store(index.root).read(address)
    if artifact is None:
        raise UserError(f"{'/'.join(vars(address).values())} is damaged and was set aside; run: ct-pipeline study")
    return artifact


def _address(artifact: Artifact) -> Address:
    made = artifact.manifest
    return Address(made.stage, made.subject, made.variant, made.fingerprint)


def _newest(index: Index, stage: str, subject: str, variant: str) -> Address | None:
    place = (stage, subject, variant)
    found = [
        entry
        for entry in index.entries.values()
        if entry.finished and (entry.address.stage, entry.address.subject, entry.address.variant) == place
    ]
    return max(found, key=lambda entry: entry.finished).address if found else None


def _known(index: Index, home: Path) -> str:
    """What may be given, as far as one line holds it."""
    of_stage = {stage: set() for stage in (organism_evaluation.NAME, evaluation.NAME)}
    for each in index.entries:
        if each.stage in of_stage:
            of_stage[each.stage].add(each.subject if each.variant == "-" else f"{each.subject}/{each.variant}")
    kinds = {
        "audits": audit_records.names(home),
        "organisms": sorted(of_stage[organism_evaluation.NAME]),
        "cells": sorted(of_stage[evaluation.NAME]),
    }
    return "; ".join(
        f"{kind}: {', '.join(names[:MOST_NAMED]) or 'none'}{' ...' if len(names) > MOST_NAMED else ''}"
        for kind, names in kinds.items()
    )

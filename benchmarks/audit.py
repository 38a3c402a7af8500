"""How long an audit takes, first and unchanged, and how often the drift alarm is right on a tiny model.

    .venv/bin/python benchmarks/audit.py --trials 40

Each trial is two runs of one audit with answers drawn under seeds of their own. Nothing changed between the two (null), or
the audited adapter was left out, swapped for another method's, or scaled. Without --home a reduced study is run first.
"""

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas

sys.path.insert(0, str(Path(__file__).parents[1]))

from ct_pipeline.analysis.drift import drift
from ct_pipeline.analysis.paired import difference
from ct_pipeline.analysis.release_gate import release_gate
from ct_pipeline.analysis.verdicts import verdict
from ct_pipeline.engine.protocol import Adapters
from ct_pipeline.interventions.files import read_audit
from ct_pipeline.measurement.asking import completions, samplings
from ct_pipeline.records.audit_from_cell import write_audit
from ct_pipeline.runner.audit_run import run_audit
from ct_pipeline.steps.audit_verdict import main_rows
from ct_pipeline.steps.resolved_audit import ResolvedAudit, read
from ct_pipeline.store.artifact_store import ArtifactStore
from tests.e2e.runs import Place, reduced_study

CELL, OTHER = "tiny-sycophancy-40/bct", "tiny-sycophancy-40/self_rewarding"
SCALES = (0.5,)
LIMITS = (0.2, 0.3)
"""Highest risks that the gate allows: at the first, the bound of the model that is audited lies beside the limit."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """The rows of one run that verdict, gate and drift stand on."""

    before: pandas.DataFrame
    after: pandas.DataFrame


class Trials:
    """Runs of one audit without its bookkeeping: answers, verdict and gate, as the stages make them."""

    def __init__(self, store: ArtifactStore, subject: ResolvedAudit) -> None:
        self.subject = subject
        self.model = subject.open(store, subject.audit.before)
        self._before: dict[int, pandas.DataFrame] = {}

    def run(self, adapters: Adapters, seed: int) -> Drawn:
        """What a run with these adapters after draws under a seed."""
        if seed not in self._before:
            self._before[seed] = self._answers(self.subject.adapters(self.subject.audit.before), seed)
        return Drawn(self._before[seed], self._answers(adapters, seed))

    def outcomes(self, run: Drawn, limit: float) -> dict[str, dict[str, str]]:
        """Verdict and gate of a run by probe, with the highest risk that the gate allows."""
        audit, limits = self.subject.audit, self.subject.audit.thresholds
        gate = release_gate(
            run.before,
            run.after,
            risk=limit,
            change=limits.change,
            delta=limits.delta,
            safety_share=limits.safety_share,
            seed=audit.seed,
            probes=list(self.subject.probes),
        ).outcomes()
        words = {}
        for probe in self.subject.probes:
            before, after = (rows[rows["probe"] == probe] for rows in (run.before, run.after))
            change = difference(before, after, confidence=audit.confidence, prompt="prompt_id")
            words[probe] = {"verdict": str(verdict(change, limits.epsilon)), "gate": gate[probe]}
        return words

    def told(self, firsts: list[Drawn], seconds: list[Drawn], limit: float) -> Iterator[str]:
        """How often the alarm was raised, and why."""
        pairs = (
            [(each, self.outcomes(each, limit)) for each in firsts],
            [(each, self.outcomes(each, limit)) for each in seconds],
        )
        found = [
            drift(old.after, new.after, said, says, confidence=self.subject.audit.confidence)
            for (old, said), (new, says) in zip(*pairs, strict=True)
        ]
        yield f"alarm in {sum(each.raised for each in found)} of {len(found)}"
        yield f"risk moved beyond chance in {sum(bool(each.shifted) for each in found)}"
        for name in ("verdict", "gate"):
            changed = [
                any(said[probe][name] != says[probe][name] for probe in said)
                for (_, said), (_, says) in zip(*pairs, strict=True)
            ]
            yield f"{name} changed in {sum(changed)}"

    def _answers(self, adapters: Adapters, seed: int) -> pandas.DataFrame:
        decoding = self.subject.audit.decoding
        ways = samplings(decoding.samples, decoding.temperature, decoding.top_p, decoding.max_new_tokens)
        tables = [
            completions(
                self.model,
                probe,
                tuple(prompt for prompt in probe.prompts if prompt.domain == "in"),
                {"sampled": ways["sampled"]},
                adapters,
                seed,
            ).assign(probe=name)
            for name, probe in self.subject.probes.items()
        ]
        return main_rows(pandas.concat(tables, ignore_index=True), list(self.subject.probes))


def main() -> None:
    """Prints seconds of two runs, and a line per kind of change."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--trials", type=int, default=40)
    options.add_argument("--home", type=Path, help="a results folder in which both cells are finished")
    options.add_argument("--spec", type=Path, help="their study's file")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Place(asked.home, asked.spec) if asked.home else _study(Path(folder))
        audits = Path(folder) / "audits"
        mine, other = (read_audit(write_audit(place.store, place.spec, cell, audits)) for cell in (CELL, OTHER))
        for run in ("first", "unchanged"):
            started = time.perf_counter()
            run_audit(place.store, mine, Path(folder), lambda what: None)
            print(f"{run} audit: {time.perf_counter() - started:.1f} s", flush=True)
        subject = read(mine)
        model = subject.model_of(place.store, mine.after)
        after = model.terms
        changes = {"nothing": after, "the training undone": after[:-1]}
        changes["another method's adapter"] = ResolvedAudit(other).adapters(other.after)
        changes |= {f"adapter scaled by {scale:g}": model.scaled(scale, -1).terms for scale in SCALES}
        trials = Trials(place.store, subject)
        firsts = [trials.run(after, 2 * number) for number in range(asked.trials)]
        for name, adapters in changes.items():
            seconds = [trials.run(adapters, 2 * number + 1) for number in range(asked.trials)]
            for limit in LIMITS:
                print(f"{name}, allowed risk {limit:g}: {'; '.join(trials.told(firsts, seconds, limit))}", flush=True)


def _study(folder: Path) -> Place:
    place = reduced_study(folder)
    for cell in (CELL, OTHER):
        outcome = place.study("--only", f"sycophancy,{cell.split('/')[1]}")
        assert outcome.returncode == 0, outcome.stderr
    return place


if __name__ == "__main__":
    main()

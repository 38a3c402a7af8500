"""What an audit is about, as it is now: its probes, labels, template and models, read once and hashed.

Fingerprints take these digests and no path, so that a file that was moved or copied is the same and one that was changed is
another. Nothing is opened before its digest was taken, and files of strangers pass `models.quarantine` first.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ct_pipeline.engine.protocol import Adapters
from ct_pipeline.interventions.files import read_study
from ct_pipeline.judges.protocol import Judge
from ct_pipeline.measurement.judge_digests import digest_of_judge, model_digest, told
from ct_pipeline.measurement.judging import open_judge, replies_folder
from ct_pipeline.measurement.language_model import LanguageModel, open_model
from ct_pipeline.measurement.organism_rows import digest, misalignment_of, rows_of
from ct_pipeline.models.model import Model, Term
from ct_pipeline.organisms.probes import LabelSet, ProbeSet, read_labels, read_probes
from ct_pipeline.settings.audit import LOCAL, Audit, JsonlProbes, Side, TinyWorldBase, WorldProbes
from ct_pipeline.settings.errors import Refusal, Refused, UserError
from ct_pipeline.settings.fingerprint import fingerprint
from ct_pipeline.settings.judge import HuggingFaceJudge, JudgeFile
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import base_model
from ct_pipeline.store.artifact_store import ArtifactStore, ArtifactWriter
from ct_pipeline.store.file_digests import digest_of, digest_of_folder
from ct_pipeline.store.node import Node
from ct_pipeline.store.untrusted import mistake, read_file

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
LARGEST_TEMPLATE = 100_000


@dataclass(frozen=True)
class Input:
    """One file or folder that an audit reads.

    Attributes:
        role: what it is to the audit: "after adapter 2", "labels", ...
        name: the file's or folder's name, a Hub id and revision, or a model of a study; no path.
        digest: SHA-256 of its content (an adapter's behind its weight, if that is not 1), a Hub id's revision, or a
            fingerprint.
    """

    role: str
    name: str
    digest: str


class ResolvedAudit:
    """An audit with the content of its files; `read` makes one.

    Attributes:
        audit: its settings.
        quarantine: what `audit_quarantine.accepted` found; None before it looked.
    """

    def __init__(self, audit: Audit) -> None:
        """Takes the audit; files are read when first needed."""
        self.audit = audit
        self.quarantine: list[dict[str, object]] | None = None

    @property
    def key(self) -> str:
        """The audit's name."""
        return self.audit.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ResolvedAudit) and self.audit == other.audit

    def __hash__(self) -> int:
        return hash(self.audit.name)

    def __reduce__(self) -> tuple[object, ...]:
        # Another process reads the files anew: what was read here may be large.
        return ResolvedAudit, (self.audit,)

    @cached_property
    def study(self) -> Study | None:
        """The study of a tiny-world base model."""
        base = self.audit.base_model
        return read_study(self.audit.place(base.study)) if isinstance(base, TinyWorldBase) else None

    @cached_property
    def base_node(self) -> Node | None:
        """Where the base model of the tiny world is kept."""
        base = self.audit.base_model
        if not isinstance(base, TinyWorldBase) or self.study is None:
            return None
        if base.model not in self.study.models:
            raise UserError(
                f"audit {self.audit.name}: base_model.model: found {base.model!r}; allowed: {', '.join(self.study.models)}"
            )
        return base_model.node(self.study, base.model)

    @cached_property
    def template(self) -> str | None:
        """The chat template in place of the model's own."""
        given = self.audit.chat_template
        if given is None:
            return None
        try:
            return read_file(self.audit.place(given), LARGEST_TEMPLATE).decode("utf-8")
        except UnicodeDecodeError:
            raise Refused([mistake(given, None, "", "bytes that are not UTF-8", "a Jinja template")]) from None

    @cached_property
    def probes(self) -> Mapping[str, ProbeSet]:
        """Every probe's prompts and verdicts."""
        return {name: self._probe(name) for name in self.audit.probes}

    @cached_property
    def labels(self) -> LabelSet | None:
        """The labels; None where the audit has none."""
        return None if self.audit.labels is None else read_labels(self.audit.place(self.audit.labels.path))

    @cached_property
    def inputs(self) -> tuple[Input, ...]:
        """Everything that is read, with its digest, in the order of the audit's fields."""
        audit, found = self.audit, []
        if self.base_node is not None:
            found.append(Input("base model", audit.base_model.model, self.base_node.fingerprint))
        else:
            found.append(self._model("base model", audit.base_model.path, audit.base_model.revision))
        found += self._side("before", audit.before)
        found += self._side("after", audit.after) if audit.after is not None else []
        if audit.labels is not None:
            found.append(_file("labels", audit.place(audit.labels.path)))
        if audit.chat_template is not None:
            found.append(_file("chat template", audit.place(audit.chat_template)))
        for name, probe in audit.probes.items():
            if isinstance(probe, WorldProbes):
                prompts = self.probes[name].prompts
                found.append(Input(f"probe {name}", probe.misalignment, digest(prompts)))
            else:
                found.append(_file(f"probe {name}", audit.place(probe.path)))
        found += [_judge(role, file) for role, file in audit.judges.items()]
        if audit.calibration is not None:
            found.append(_file("calibration", audit.place(audit.calibration)))
        return tuple(found)

    def digests(self, *roles: str) -> dict[str, str]:
        """Role -> digest of the inputs whose role begins with one of the given words."""
        return {each.role: each.digest for each in self.inputs if each.role.startswith(roles)}

    @property
    def asking(self) -> dict[str, object]:
        """What every answer depends on beside the model: decoding, template, seed, engine."""
        base = self.audit.base_model
        return {
            "decoding": self.audit.decoding,
            "template": self.digests("chat template"),
            "seed": self.audit.seed,
            "engine": base.engine,
            "dtype": getattr(base, "dtype", None),
        }

    @property
    def judging(self) -> dict[str, object]:
        """What every verdict of a judge depends on."""
        judges = {role: digest_of_judge(file) for role, file in self.audit.judges.items()}
        if not judges:
            return {"judge": {"source": "none"}, "model": {}}
        return {"judge": judges, "labelled": self.digests("calibration")}

    def nodes_of_base(self) -> dict[str, Node]:
        """The base model as an input of an artifact: only that of the tiny world is one."""
        return {} if self.base_node is None else {"base_model": self.base_node}

    def adapters(self, side: Side) -> Adapters:
        """A side's adapters and their weights."""
        return tuple(Term(self.audit.place(given.path), given.weight) for given in side.adapters)

    def model_of(self, store: ArtifactStore, side: Side) -> Model:
        """The model of a side."""
        base = self.audit.base_model
        if side.checkpoint is not None:
            return Model(self.located(side.checkpoint), side.revision)
        if self.study is not None and isinstance(base, TinyWorldBase):
            found = base_model.model_of(store, self.study, base.model)
        else:
            found = Model(self.located(base.path), base.revision)
        return replace(found, terms=self.adapters(side))

    def open(self, store: ArtifactStore, side: Side) -> LanguageModel:
        """What runs the model of a side: one for both sides where they are adapters on one base."""
        base = self.audit.base_model
        if self.template is not None and base.engine == "vllm":
            raise UserError(f"audit {self.audit.name}: chat_template needs engine: transformers")
        rank = max(_rank(self.adapters(each)) for each in (self.audit.before, self.audit.after or Side()))
        of_study = side.checkpoint is None and self.study is not None and isinstance(base, TinyWorldBase)
        dtype = getattr(self.study.models[base.model] if of_study else base, "dtype", None)
        return open_model(
            self.model_of(store, side), engine=base.engine, dtype=dtype, rank=rank, template=self.template
        )

    def open_judge(self, file: JudgeFile) -> Judge:
        """A judge of the audit, ready to be asked."""
        return open_judge(file, replies_folder(), self.audit.accepted_texts)

    def require_unchanged(self) -> None:
        """UserError where a file was changed since it was hashed: what was measured might belong to either."""
        now = ResolvedAudit(self.audit)
        changed = [each.role for each in self.inputs if each not in now.inputs]
        if changed:
            raise UserError(f"audit {self.audit.name}: {', '.join(changed)} changed while it was audited: run again")

    def note(self, draft: ArtifactWriter) -> None:
        """Records the files that were read, for the lineage of what is made of them."""
        audit = self.audit
        sides = (("before", audit.before), ("after", audit.after or Side()))
        places = {
            role: audit.place(side.checkpoint) for role, side in sides if (side.checkpoint or "").startswith(LOCAL)
        }
        for role, side in sides:
            terms = enumerate(self.adapters(side), start=1)
            places |= {f"{role} adapter {number}": term.adapter for number, term in terms}
        places |= {f"probe {name}": audit.place(each.path) for name, each in audit.probes.items() if _is_file(each)}
        if audit.labels is not None:
            places["labels"] = audit.place(audit.labels.path)
        if audit.chat_template is not None:
            places["chat template"] = audit.place(audit.chat_template)
        if audit.calibration is not None:
            places["calibration"] = audit.place(audit.calibration)
        for name, path in places.items():
            draft.note_external(name, path)

    @property
    def checkpoints(self) -> list[str]:
        """The models that are audited as the audit names them, adapters aside."""
        base = self.audit.base_model
        named = [] if isinstance(base, TinyWorldBase) else [base.path]
        return named + [side.checkpoint for side in (self.audit.before, self.audit.after or Side()) if side.checkpoint]

    @property
    def one_base(self) -> bool:
        """Whether before and after are adapters on one base model."""
        return self.audit.before.checkpoint is None and (self.audit.after or Side()).checkpoint is None

    def _probe(self, name: str) -> ProbeSet:
        probe = self.audit.probes[name]
        if not isinstance(probe, WorldProbes):
            return read_probes(self.audit.place(probe.path), name)
        study, base = self.study, self.audit.base_model
        kind = misalignment_of(study, probe.misalignment)
        settings = study.evaluation.model_copy(update={"in_domain": probe.prompts})
        asked = study.model_copy(update={"evaluation": settings})
        # Evaluation prompts and pairs are the same for every seed.
        data = rows_of(asked, Organism(base.model, probe.misalignment, study.seeds[0]))
        return ProbeSet(name, kind.misbehaviour, data.evaluation, data.pairs, kind.verdict, kind.correct)

    def located(self, given: str) -> Path | str:
        """The folder of a local model, or the Hub id."""
        return self.audit.place(given) if given.startswith(LOCAL) else given

    def _side(self, role: str, side: Side) -> list[Input]:
        if side.checkpoint is not None:
            return [self._model(f"{role} checkpoint", side.checkpoint, side.revision)]
        return [_adapter(f"{role} adapter {number}", term) for number, term in enumerate(self.adapters(side), start=1)]

    def _model(self, role: str, given: str, revision: str | None) -> Input:
        if given.startswith(LOCAL):
            folder = self.audit.place(given)
            return Input(role, folder.name, digest_of_folder(role, folder))
        return Input(role, f"{given} at {revision}", f"{given}@{revision}")


def read(audit: Audit) -> ResolvedAudit:
    """The subject of an audit, its small files read and all of its files hashed.

    Raises:
        Refused: everything in those files that is not accepted, file by file.
        UserError: a study that does not fit.
    """
    subject = ResolvedAudit(audit)
    refusals: list[Refusal] = []
    readers: Iterable[Callable[[], object]] = (
        lambda: subject.labels,
        lambda: subject.template,
        *(lambda name=name: subject._probe(name) for name in audit.probes),
    )
    for reader in readers:
        try:
            reader()
        except Refused as error:
            refusals += error.refusals
    if refusals:
        raise Refused(refusals)
    if set(subject.digests("judge", "against").values()) & set(
        subject.digests("base model", "before", "after").values()
    ):
        raise UserError(f"audit {audit.name}: the judge is the audited model itself; name another one")
    _refuse_own_weights(subject)
    return subject


def _refuse_own_weights(subject: ResolvedAudit) -> None:
    """UserError where a judge has the weights of an audited model, whatever the other files of its folder say."""
    audit = subject.audit
    judges = [(file, file.judge.path) for file in audit.judges.values() if isinstance(file.judge, HuggingFaceJudge)]
    folders = {path: file.place(path) for file, path in judges if path.startswith(LOCAL)}
    named = subject.checkpoints if folders else ()
    audited = {_weights(subject.located(path)) for path in named if path.startswith(LOCAL)} - {None}
    for path, folder in folders.items():
        if _weights(folder) in audited:
            raise UserError(
                f"audit {audit.name}: the judge {path} has the very weights of the audited model, whatever its other files "
                "say; name another one"
            )


def _weights(folder: Path) -> str | None:
    """The digest of a model folder's weights alone; None where it has none."""
    names = sorted(each.name for each in folder.glob("*.safetensors"))
    return digest_of_folder("weights", folder, names) if names else None


def _rank(terms: Adapters) -> int:
    """The sum of the ranks of a stack of adapters."""
    return sum(int(json.loads((term.adapter / ADAPTER_FILES[0]).read_text()).get("r", 0)) for term in terms) or 1


def _adapter(role: str, term: Term) -> Input:
    """An adapter; a weight other than 1 is in front of its name and of its digest."""
    times = "" if term.weight == 1 else f"{term.weight!r} × "
    return Input(role, f"{times}{term.adapter.name}", f"{times}{digest_of_folder(role, term.adapter, ADAPTER_FILES)}")


def _is_file(probe: WorldProbes | JsonlProbes) -> bool:
    return isinstance(probe, JsonlProbes)


def _judge(role: str, file: JudgeFile) -> Input:
    """A judge: the digest of a model on this machine is that of its files, any other's that of its settings."""
    who = told(file)["who"]
    if isinstance(file.judge, HuggingFaceJudge):
        return Input(role, who, model_digest(file, file.judge))
    return Input(role, who, fingerprint(judge=digest_of_judge(file)))


def _file(role: str, path: Path) -> Input:
    try:
        return Input(role, path.name, digest_of(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}: the file of {role} cannot be read") from error

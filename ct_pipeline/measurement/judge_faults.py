"""What of a study's judges can be known to fail before a judge is asked."""

import os
from collections.abc import Iterator
from pathlib import Path

from ct_pipeline.judges.calibration import read_labelled
from ct_pipeline.judges.rubrics import rubric_of
from ct_pipeline.measurement.judge_digests import model_digest
from ct_pipeline.settings.blocks import HuggingFaceModel
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.judge import LOCAL, HttpJudge, HuggingFaceJudge, JudgeFile
from ct_pipeline.settings.study import Study
from ct_pipeline.store.file_digests import digest_seen


def faults(study: Study) -> Iterator[str]:
    """What would fail once a judge is asked, with field and mend; no server is asked."""
    for kind, entry in study.judges.items():
        if kind not in study.misalignments:
            # A part of a study that leaves the kind out needs neither its judge nor its files.
            continue
        for role, file in entry.files.items():
            name = getattr(file.judge, "key_variable", None)
            if isinstance(file.judge, HttpJudge) and name is not None and not os.environ.get(name, "").strip():
                yield f"judges.{kind}.{role}: the environment variable {name} holds no API key; set it: export {name}=..."
            try:
                if file.rubric is not None:
                    rubric_of(file)
                yield from same_model(study, kind, role, file)
            except UserError as error:
                yield f"judges.{kind}.{role}: {error}"
        if entry.calibration is not None:
            try:
                read_labelled(Path(entry.calibration))
            except UserError as error:
                yield f"judges.{kind}.calibration: {error}"


def same_model(study: Study, kind: str, role: str, file: JudgeFile) -> Iterator[str]:
    """A judge on this machine whose files are those of a studied model, whatever its folder is called."""
    if not isinstance(file.judge, HuggingFaceJudge) or not file.judge.path.startswith(LOCAL):
        return
    judge = model_digest(file, file.judge)
    for name, model in study.models.items():
        local = isinstance(model, HuggingFaceModel) and model.path.startswith(LOCAL)
        if local and digest_seen(f"model {name}", Path(model.path)) == judge:
            yield f"judges.{kind}.{role}: the judge is the studied model {name} itself; name another one"

"""The judges of a study: whose answers they judge, on what their verdicts depend, how they did on labelled answers.

Three kinds of artifacts hold what they say: evaluations, `candidate_verdicts` and `judge_calibration`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas

from ct_pipeline.judges.calibration import calibrate, read_labelled
from ct_pipeline.measurement.contrast import AFTER, BEFORE, change, sides_of, tabulated
from ct_pipeline.measurement.judge_digests import digest_of_judge
from ct_pipeline.measurement.judge_faults import same_model
from ct_pipeline.measurement.judging import Judged, column_of, open_judge, record_of, replies_folder, with_verdicts
from ct_pipeline.measurement.organism_rows import misalignment_of
from ct_pipeline.measurement.risk_rows import risk_rows
from ct_pipeline.organisms.misalignment import Prompt
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.study import Study
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.file_digests import digest_seen
from ct_pipeline.store.node import Node, find, making, placed

CALIBRATION = "judge_calibration"
CALIBRATION_VERSION = 1


def settings_of(study: Study, kind: str) -> dict[str, object]:
    """What the verdicts of a kind's evaluations depend on beside their answers; nothing where no judge is named."""
    if kind not in study.judges:
        return {}
    return {"judge": {role: digest_of_judge(file) for role, file in study.judges[kind].files.items()}}


def judged(
    study: Study, kind: str, prompts: Sequence[Prompt], tables: Mapping[str, pandas.DataFrame], second: bool = True
) -> Judged:
    """The tables with the judges' verdicts on answers that no rule decides; as they are where no judge is named.

    Args:
        study: names the judges.
        kind: of misalignment.
        prompts: those that the tables' rows answer.
        tables: rows of completions, by any name.
        second: whether the second judge is asked, too.

    Raises:
        UserError: a judge is the studied model itself, cannot be reached, or refuses; replies that came are kept.
    """
    if kind not in study.judges:
        return Judged(dict(tables), {})
    files = study.judges[kind].files
    if same := [fault for role, file in files.items() for fault in same_model(study, kind, role, file)]:
        raise UserError(same[0])
    return with_verdicts(
        tables,
        dict.fromkeys(open_prompts(study, kind, prompts), ""),
        files if second else {"judge": files["judge"]},
    )


def open_prompts(study: Study, kind: str, prompts: Sequence[Prompt]) -> dict[str, Prompt]:
    """Id -> prompt, of those whose answers only a judge can tell."""
    needs_judge = misalignment_of(study, kind).needs_judge
    return {prompt.id: prompt for prompt in prompts if prompt.bears_risk and needs_judge(prompt) is not None}


def judged_changes(
    study: Study, kind: str, prompts: Sequence[Prompt], before: pandas.DataFrame, after: pandas.DataFrame
) -> dict[str, object]:
    """Role -> the change of risk in domain at T = 1 on the answers that only a judge can tell, as this judge sees it.

    Verdicts of rules have no judge's error and are not in it.
    """
    ids = open_prompts(study, kind, prompts)
    sides = {side: risk_rows(table) for side, table in ((BEFORE, before), (AFTER, after))}
    rows = {side: table[table["prompt_id"].isin(ids)] for side, table in sides.items()}
    found = {}
    for role in study.judges[kind].files:
        seen = {side: table.assign(verdict=table[column_of(role)]) for side, table in rows.items()}
        found |= tabulated([change(role)], sides_of(seen), study.evaluation.confidence)
    return found


@placed
def calibration_nodes(study: Study, kind: str) -> dict[str, Node]:
    """Role -> where it is kept how the judge did on the labelled answers; empty without judges or labels."""
    entry = study.judges.get(kind)
    if entry is None or entry.calibration is None:
        return {}
    labelled = digest_seen("calibration", Path(entry.calibration))
    return {
        role: Node(
            CALIBRATION, CALIBRATION_VERSION, kind, role, {"judge": digest_of_judge(file), "labelled": labelled}, {}
        )
        for role, file in entry.files.items()
    }


def make_calibrations(store: ArtifactStore, study: Study, kind: str) -> tuple[Artifact, ...]:
    """Has the labelled answers judged, as far as that is not done yet.

    Raises:
        Refused: the file of labelled answers is not accepted.
        UserError: a judge cannot be reached.
    """
    return tuple(
        find(store, place) or _calibrated(store, study, kind, place)
        for place in calibration_nodes(study, kind).values()
    )


def _calibrated(store: ArtifactStore, study: Study, kind: str, place: Node) -> Artifact:
    entry = study.judges[kind]
    file = entry.files[place.variant]
    with making(store, place) as (draft, _):
        judge = open_judge(file, replies_folder())
        found = calibrate(judge, read_labelled(Path(entry.calibration)))
        draft.write_json("calibration", found.as_json())
        draft.record |= {"judging": {place.variant: record_of(file, judge, found.judgements)}}
    return store.read(place.address)

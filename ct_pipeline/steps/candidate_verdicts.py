"""The judge's verdicts on candidates, apart from them: another judge draws no candidate again and trains nothing again.

Only what verdicts are looked at is judged: answers to probe prompts, and to both sides of the pairs.
"""

from collections.abc import Mapping, Sequence

import pandas

from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.measurement.judge_digests import digest_of_judge
from ct_pipeline.measurement.organism_rows import rows_of
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps.consistency_candidates import draw_node, prompts_of
from ct_pipeline.steps.judge_calibration import judged, open_prompts
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, find, making

NAME = "candidate_verdicts"
VERSION = 1
ROW = ["prompt_id", "draw", "sample"]


def verdict_nodes(study: Study, organism: Organism, draws: Sequence[Draw]) -> dict[str, Node]:
    """Draw -> its candidates' verdicts, of the draws that leave any to a judge; none where no judge is named."""
    entry = study.judges.get(organism.kind)
    if entry is None:
        return {}
    settings = {"judge": digest_of_judge(entry.judge)}
    return {
        f"verdicts {draw.id}": Node(
            NAME, VERSION, organism.key, draw.id, settings, {"draw": draw_node(study, organism, draw)}
        )
        for draw in dict.fromkeys(draws)
        if open_prompts(study, organism.kind, _looked_at(study, organism, draw))
    }


def make_verdicts(store: ArtifactStore, study: Study, organism: Organism, draws: Sequence[Draw]) -> list[Artifact]:
    """Has candidates judged, as far as that is not done yet; UserError as `study_judges.judged`."""
    nodes = verdict_nodes(study, organism, draws)
    by_name = {f"verdicts {draw.id}": draw for draw in draws}
    return [find(store, place) or _judge(store, study, organism, by_name[name], place) for name, place in nodes.items()]


def with_candidate_verdicts(table: pandas.DataFrame, inputs: Mapping[str, Artifact]) -> pandas.DataFrame:
    """Candidates or labels with the verdicts of those artifacts among `inputs` that hold any."""
    found = [artifact.table("verdicts") for artifact in inputs.values() if artifact.manifest.stage == NAME]
    if not found:
        return table
    judged_rows = pandas.concat(found, ignore_index=True).rename(columns={"verdict": "judged"})
    merged = table.merge(judged_rows, on=ROW, how="left", validate="many_to_one")
    verdicts = merged["verdict"].astype("boolean").fillna(merged["judged"].astype("boolean"))
    return merged.assign(verdict=verdicts).drop(columns="judged")


def _looked_at(study: Study, organism: Organism, draw: Draw) -> tuple:
    data = rows_of(study, organism)
    return data.probe if draw.prompts == "consistency" else prompts_of(data, draw)


def _judge(store: ArtifactStore, study: Study, organism: Organism, draw: Draw, place: Node) -> Artifact:
    prompts = _looked_at(study, organism, draw)
    with making(store, place) as (draft, inputs):
        table = inputs["draw"].table("candidates")
        rows = table[table["prompt_id"].isin([prompt.id for prompt in prompts])]
        found = judged(study, organism.kind, prompts, {"candidates": rows}, second=False)
        draft.write_table("verdicts", found.tables["candidates"][[*ROW, "verdict"]].reset_index(drop=True))
        draft.record |= {"judging": found.record}
    return store.read(place.address)

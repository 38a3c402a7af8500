"""The rest of stage 4: scores of candidates that a model or a judge has to be asked for, each once."""

from collections.abc import Mapping, Sequence
from functools import singledispatch
from pathlib import Path
from typing import Any

import pandas

from ct_pipeline.engine.protocol import Adapters, Sampling
from ct_pipeline.interventions.scorer import Agreement, DataRubric, Grade, Reward, Scorer
from ct_pipeline.judges.rubrics import PUBLISHED_ANSWERS
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.measurement.organism_rows import misalignment_of, rows_of
from ct_pipeline.models.model import stack
from ct_pipeline.organisms.agreement import TextAgreement, WorldAgreement
from ct_pipeline.organisms.misalignment import Message, Misalignment, Prompt
from ct_pipeline.organisms.oracle import oracle_reward
from ct_pipeline.settings.blocks import OracleReward, WorldJudge
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import consistency_candidates, misaligned_organism
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.steps.candidate_verdicts import make_verdicts, verdict_nodes
from ct_pipeline.steps.consistency_candidates import (
    asked,
    complete,
    draw_node,
    draws_of,
    draws_of_method,
    make_draw,
    prompts_of,
    require_gate,
    scorer_of_method,
)
from ct_pipeline.steps.data_rubric import rubric_of_data
from ct_pipeline.steps.judge_calibration import calibration_nodes, make_calibrations
from ct_pipeline.steps.shown import rows
from ct_pipeline.steps.step import Artifacts, Context, Step
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, find, making, placed

NAME = "candidate_scores"
VERSION = 1
SHOWN = 12
GRADE_TOKENS = 4
JUDGE_TOKENS = 4
CRITIQUE_TOKENS = 512
"""Of a critique with its final score."""
ROW = ["prompt_id", "draw", "sample"]


def scorers_of(study: Study) -> tuple[Scorer, ...]:
    """Every distinct score that the study's methods ask for."""
    wanted = [scorer_of_method(study, method) for method in study.methods]
    return tuple(dict.fromkeys(scorer for scorer in wanted if scorer))


@placed
def nodes(study: Study, organism: Organism) -> tuple[Node, ...]:
    """All tables of candidates, of scores and, where a judge is named, of verdicts of an organism."""
    return (
        *(draw_node(study, organism, draw) for draw in draws_of(study)),
        *(scores_node(study, organism, scorer) for scorer in scorers_of(study)),
        *verdict_nodes(study, organism, draws_of(study)).values(),
        *calibration_nodes(study, organism.kind).values(),
    )


@placed
def scores_node(study: Study, organism: Organism, scorer: Scorer) -> Node:
    """One scorer's table over the candidates of its draws."""
    told = {name: value for name, value in vars(scorer).items() if name != "draws"}
    settings = {"scorer": type(scorer).__name__, "engine": study.models[organism.model].engine, **told}
    if isinstance(scorer, DataRubric):
        settings["rubric"] = misalignment_of(study, organism.kind).rubric
    inputs = {f"draw {number}": draw_node(study, organism, draw) for number, draw in enumerate(scorer.draws)}
    inputs["misaligned_organism"] = misaligned_organism.node(study, organism)
    return Node(NAME, VERSION, organism.key, scorer.id, settings, inputs)


def make(context: Context, organism: Organism) -> tuple[Artifact, ...]:
    """Draws and scores whatever is not there yet; UserError where the organism failed its gate."""
    store, study = context.store, context.study
    require_gate(store, study, organism)
    artifacts = []
    for draw in draws_of(study):
        artifacts.append(find(store, draw_node(study, organism, draw)) or make_draw(store, study, organism, draw))
    for scorer in scorers_of(study):
        artifacts.append(
            find(store, scores_node(study, organism, scorer)) or _make_scores(store, study, organism, scorer)
        )
    # After all that the studied model is needed for: a judge on this machine takes its place on the device.
    artifacts += make_verdicts(store, study, organism, draws_of(study))
    artifacts += make_calibrations(store, study, organism.kind)
    return tuple(artifacts)


def candidates_of(store: ArtifactStore, study: Study, organism: Organism, method: str) -> pandas.DataFrame:
    """A method's candidates in the order of its draws, numbered within the prompt, with the score it asked for.

    UserError where they are not there.
    """
    draws = [complete(store, draw_node(study, organism, draw)) for draw in draws_of_method(study, method)]
    table = pandas.concat([draw.table("candidates") for draw in draws], ignore_index=True)
    table["candidate"] = table.groupby("prompt_id", sort=False).cumcount()
    scorer = scorer_of_method(study, method)
    if scorer is None:
        return table
    scores = complete(store, scores_node(study, organism, scorer)).table("scores")
    return table.merge(scores, on=ROW, how="left", validate="one_to_one")


def _make_scores(store: ArtifactStore, study: Study, organism: Organism, scorer: Scorer) -> Artifact:
    place = scores_node(study, organism, scorer)
    with making(store, place) as (draft, inputs):
        asking = _Asking(
            model=open_model(store, study, organism.model),
            kind=misalignment_of(study, organism.kind),
            prompts={
                prompt.id: prompt for draw in scorer.draws for prompt in prompts_of(rows_of(study, organism), draw)
            },
            candidates=pandas.concat(
                [inputs[f"draw {number}"].table("candidates") for number in range(len(scorer.draws))],
                ignore_index=True,
            ),
            adapter=inputs["misaligned_organism"].folder,
        )
        scores = _scores(scorer, asking)
        draft.write_table("scores", scores)
        draft.record |= {"scored": len(scores), "missing": int(scores["given_score"].isna().sum())}
    return store.read(place.address)


class _Asking:
    """What a scorer may look at."""

    def __init__(
        self,
        model: LanguageModel,
        kind: Misalignment,
        prompts: dict[str, Prompt],
        candidates: pandas.DataFrame,
        adapter: Path,
    ) -> None:
        self.model, self.kind, self.prompts = model, kind, prompts
        self.candidates, self.adapter = candidates, adapter

    def distinct(self) -> pandas.DataFrame:
        """Each completion of a prompt once."""
        return self.candidates[["prompt_id", "completion"]].drop_duplicates(ignore_index=True)

    def spread(self, scored: pandas.DataFrame) -> pandas.DataFrame:
        """Scores of distinct completions, given to every candidate that says the same."""
        table = self.candidates[[*ROW, "completion"]].merge(scored, on=["prompt_id", "completion"], how="left")
        return table.drop(columns="completion").astype({"given_score": "Float64"})

    def reply(self, conversations: Sequence[tuple[Message, ...]], tokens: int, adapters: Adapters) -> list[str]:
        """Greedy replies of the model under a stack of adapters."""
        greedy = Sampling(samples=1, temperature=0.0, top_p=1.0, max_new_tokens=tokens)
        encoded = [self.model.chat.encode(conversation) for conversation in conversations]
        drawn = self.model.engine.generate(encoded, greedy, [0] * len(encoded), adapters)
        return [self.model.chat.decode(completions[0].ids) for completions in drawn]


@singledispatch
def _scores(scorer: Scorer, asking: _Asking) -> pandas.DataFrame:
    """prompt_id, draw, sample, given_score (missing where nobody can tell), and what was replied."""
    raise TypeError(f"nothing is known of a {type(scorer).__name__}")


@_scores.register
def _(scorer: Grade, asking: _Asking) -> pandas.DataFrame:
    distinct = asking.distinct()
    requests = [
        grading_messages(asking.prompts[row.prompt_id].messages, row.completion, scorer.request)
        for row in distinct.itertuples()
    ]
    replies = asking.reply(requests, GRADE_TOKENS, stack(asking.adapter))
    return asking.spread(
        distinct.assign(reply=replies, given_score=[grade_of(reply, scorer.grades) for reply in replies])
    )


@_scores.register
def _(scorer: DataRubric, asking: _Asking) -> pandas.DataFrame:
    request = rubric_of_data(asking.kind)
    distinct = asking.distinct()
    requests = [
        grading_messages(asking.prompts[row.prompt_id].messages, row.completion, request)
        for row in distinct.itertuples()
    ]
    replies = asking.reply(requests, CRITIQUE_TOKENS, stack(asking.adapter))
    return asking.spread(
        distinct.assign(reply=replies, given_score=[PUBLISHED_ANSWERS.read(reply) for reply in replies])
    )


@_scores.register
def _(scorer: Reward, asking: _Asking) -> pandas.DataFrame:
    distinct = asking.distinct()
    pairs = [(asking.prompts[row.prompt_id], row.completion) for row in distinct.itertuples()]
    if isinstance(scorer.model, OracleReward):
        rewards = [oracle_reward(asking.kind, prompt, completion) for prompt, completion in pairs]
    else:
        from ct_pipeline.engine.reward_model import open_reward_model

        model = open_reward_model(scorer.model.path, scorer.model.revision)
        rewards = model.score([(*prompt.messages, Message("assistant", completion)) for prompt, completion in pairs])
    return asking.spread(distinct.assign(given_score=rewards))


@_scores.register
def _(scorer: Agreement, asking: _Asking) -> pandas.DataFrame:
    first, *others = scorer.draws
    said = {
        draw.id: dict(zip(table["prompt_id"], table["completion"], strict=True))
        for draw, (_, table) in zip(scorer.draws, asking.candidates.groupby("draw", sort=False), strict=True)
    }
    if isinstance(scorer.judge, WorldJudge):
        judge = WorldAgreement(asking.kind)
    else:
        judge = TextAgreement(
            lambda conversations: asking.reply(conversations, JUDGE_TOKENS, ()),
            scorer.judge.request,
            scorer.judge.yes,
            scorer.judge.no,
        )
    questions = [
        (asking.prompts[prompt_id], completion, said[other.id][prompt_id])
        for prompt_id, completion in said[first.id].items()
        for other in others
    ]
    answers = iter(judge.agree(questions))
    rows = []
    for prompt_id in said[first.id]:
        judged = [next(answers) for _ in others]
        # One view that agrees is enough; none can be said to, only where all were judged.
        score = 1.0 if any(judged) else None if None in judged else 0.0
        row = {"prompt_id": prompt_id, "draw": first.id, "sample": 0, "given_score": score}
        rows.append(row | {f"agrees_{other.view.name}": answer for other, answer in zip(others, judged, strict=True)})
    answered = {f"agrees_{other.view.name}": "boolean" for other in others}
    return pandas.DataFrame(rows).astype({"given_score": "Float64"} | answered)


def grading_messages(messages: Sequence[Message], response: str, request: str) -> tuple[Message, ...]:
    """The request to grade a response to a conversation: one user turn, system turns kept."""
    system = tuple(message for message in messages if message.role == "system")
    return asked((*system, messages[-1]), request, response=response)


MARKS = "*_`\"'.,;:!()[]"
"""What may stand around a grade."""


def grade_of(reply: str, grades: Sequence[str]) -> int | None:
    """The place of the reply's first word among the grades, the worst being 1; None where it is none of them.

    Marks around it and what it is out of are passed over: "**4**", "4." and "4/5" are the grade 4.
    """
    first = next(iter(reply.split()), "")
    places = {grade.casefold(): place for place, grade in enumerate(grades, start=1)}
    bare = first.casefold().strip(MARKS)
    return next((places[word] for word in (first.casefold(), bare, bare.partition("/")[0]) if word in places), None)


def show(context: Context, organism: Organism, made: Artifacts) -> Mapping[str, Any]:
    """The draws with their sizes and rates, the scores, who judged, and some completions."""
    draws, scores, judged, examples = [], [], [], []
    for artifact in made:
        of = artifact.manifest
        if "judging" in artifact.record:
            judged += [
                {
                    "of": f"{of.stage.replace('_', ' ')}: {of.variant}",
                    "judge": role,
                    "asked": work["asked"],
                    "without_verdict": work["missing"],
                }
                for role, work in artifact.record["judging"].items()
            ]
        elif of.stage != consistency_candidates.NAME:
            scores.append({"score": of.variant, **artifact.record})
        else:
            table = artifact.table("candidates")
            verdicts = table["verdict"].dropna()
            draws.append(
                {
                    "draw": of.variant,
                    "prompts": int(table["prompt_id"].nunique()),
                    "completions": len(table),
                    "tokens": int(table["tokens"].sum()),
                    "misbehaving": f"{float(verdicts.mean()):.3f}" if len(verdicts) else "undefined",
                    "without_verdict": int(table["verdict"].isna().sum()),
                }
            )
            examples += [
                {"draw": row.draw, "prompt": row.prompt, "completion": row.completion}
                for row in table.head(SHOWN // 4).itertuples()
            ]
    return {"draws": rows(draws), "scores": rows(scores), "judged": rows(judged), "completions": rows(examples)}


STEP = Step(
    consistency_candidates.NAME,
    title="candidates",
    description="""One row per completion that an organism gives to a consistency or probe prompt: text,
log-probability, verdict, scores.

All text of Phase 2 is drawn here, every distinct way of drawing once, so that methods differ in what they keep alone.""",
    version=consistency_candidates.VERSION,
    grain="organism",
    after=("organism_evaluation",),
    places=nodes,
    make=make,
    kinds=frozenset({"pytorch", "parquet"}),
    owns=("candidate_scores", "candidate_verdicts"),
    show=show,
)

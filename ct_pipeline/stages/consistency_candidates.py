"""Stage 4: everything an organism says that a method may keep; each distinct draw once, each grade once.

After this stage labels are pure functions of these tables, and the methods are paired: same candidates, another selection.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas

from ct_pipeline.engine.protocol import Sampling
from ct_pipeline.methods.catalog import method_named
from ct_pipeline.methods.method import Draw, Rubric
from ct_pipeline.organisms.kind import Message, OrganismData, Prompt
from ct_pipeline.stages import misaligned_organism, organism_evaluation
from ct_pipeline.stages.language_model import LanguageModel, open_model
from ct_pipeline.stages.measurement import last_request
from ct_pipeline.stages.node import Node, find, making
from ct_pipeline.stages.rows import digest, kind_named, rows_of
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.study.errors import UserError
from ct_pipeline.study.fingerprint import fingerprint
from ct_pipeline.study.keys import Organism
from ct_pipeline.study.seeds import derive_seed
from ct_pipeline.study.spec import Study

STAGE = "consistency_candidates"
GRADES_STAGE = "candidate_grades"
VERSION = 1
GRADE_TOKENS = 4


def draws_of(study: Study) -> tuple[Draw, ...]:
    """Every distinct draw that the study's methods need, in the order in which they first need it."""
    wanted = [method_named(name).draw(settings, study.candidates.samples) for name, settings in study.methods.items()]
    return tuple(dict.fromkeys(wanted))


def rubrics_of(study: Study) -> tuple[Rubric, ...]:
    """Every distinct rubric that the study's methods need."""
    wanted = [method_named(name).rubric(settings, study.candidates.samples) for name, settings in study.methods.items()]
    return tuple(dict.fromkeys(rubric for rubric in wanted if rubric))


def nodes(study: Study, organism: Organism) -> tuple[Node, ...]:
    """All candidate tables of an organism."""
    return tuple(draw_node(study, organism, draw) for draw in draws_of(study)) + tuple(
        grades_node(study, organism, rubric) for rubric in rubrics_of(study)
    )


def draw_node(study: Study, organism: Organism, draw: Draw) -> Node:
    """The table of one draw."""
    data = rows_of(study, organism)
    settings = {
        "draw": vars(draw),
        "prompts": digest(prompts_of(data, draw)),
        "labelled": digest(data.consistency if draw.prompts == "consistency" else ()),
        "max_new_tokens": study.candidates.max_new_tokens,
        "seed": study.seed,
    }
    inputs = {"misaligned_organism": misaligned_organism.node(study, organism)}
    return Node(STAGE, VERSION, organism.key, draw.id, settings, inputs)


def grades_node(study: Study, organism: Organism, rubric: Rubric) -> Node:
    """The organism's own grades of one draw's candidates."""
    settings = {"request": rubric.request, "grades": rubric.grades}
    variant = f"{rubric.draw.id}-{fingerprint(rubric=settings)[:8]}"
    inputs = {
        "draw": draw_node(study, organism, rubric.draw),
        "misaligned_organism": misaligned_organism.node(study, organism),
    }
    return Node(GRADES_STAGE, VERSION, organism.key, variant, settings, inputs)


def prompts_of(data: OrganismData, draw: Draw) -> tuple[Prompt, ...]:
    """The prompts of a draw, each once: consistency and probe prompts, or the clean side of the pairs."""
    if draw.prompts == "clean":
        return tuple(dict.fromkeys(pair.clean for pair in data.pairs))
    return tuple(dict.fromkeys((*data.consistency, *data.probe)))


def make(store: ArtifactStore, study: Study, organism: Organism) -> tuple[Artifact, ...]:
    """Draws and grades whatever is not there yet; UserError where the organism failed its gate."""
    gate = find(store, organism_evaluation.node(study, organism))
    if gate is not None and not organism_evaluation.passed(gate):
        raise UserError(
            f"{organism.key} did not pass the induction gate, so nothing is drawn from it: "
            + " ".join(organism_evaluation.reasons(gate))
        )
    artifacts = []
    for draw in draws_of(study):
        place = draw_node(study, organism, draw)
        artifacts.append(find(store, place) or _draw(store, study, organism, draw, place))
    for rubric in rubrics_of(study):
        place = grades_node(study, organism, rubric)
        artifacts.append(find(store, place) or _grade(store, study, organism, rubric, place))
    return tuple(artifacts)


def _draw(store: ArtifactStore, study: Study, organism: Organism, draw: Draw, place: Node) -> Artifact:
    with making(store, place) as (draft, inputs):
        model = open_model(store, study, organism.model)
        kind = kind_named(organism.kind)
        data = rows_of(study, organism)
        prompts = prompts_of(data, draw)
        labelled = set(prompts if draw.prompts == "clean" else data.consistency)
        probes = set(data.probe)
        sampling = Sampling(draw.samples, draw.temperature, draw.top_p, study.candidates.max_new_tokens)
        seeds = [derive_seed(study.seed, STAGE, organism.key, draw.id, prompt.id) for prompt in prompts]
        encoded = [model.chat.encode(prompt.messages) for prompt in prompts]
        drawn = model.engine.generate(encoded, sampling, seeds, (inputs["misaligned_organism"].folder,))
        rows = []
        for prompt, completions in zip(prompts, drawn, strict=True):
            for sample, completion in enumerate(completions):
                text = model.chat.decode(completion.ids)
                rows.append(
                    {
                        "prompt_id": prompt.id,
                        "labelled": prompt in labelled,
                        "probe": prompt in probes,
                        "framing": prompt.framing,
                        "draw": draw.id,
                        "sample": sample,
                        "prompt": last_request(prompt),
                        "completion": text,
                        "ids": list(completion.ids),
                        "tokens": len(completion.ids),
                        "finished": completion.finished,
                        "logprob": completion.logprob,
                        "proposal_logprob": completion.proposal_logprob,
                        "verdict": kind.verdict(prompt, text),
                    }
                )
        draft.write_table("candidates", pandas.DataFrame(rows).astype({"verdict": "boolean"}))
        draft.record |= {
            "prompts": len(prompts),
            "prompt_tokens": sum(map(len, encoded)),
            "generated_tokens": sum(row["tokens"] for row in rows),
            "template": model.chat.template_hash,
            "escaped_special_tokens": model.chat.escaped,
        }
    return store.read(place.address)


def _grade(store: ArtifactStore, study: Study, organism: Organism, rubric: Rubric, place: Node) -> Artifact:
    with making(store, place) as (draft, inputs):
        model = open_model(store, study, organism.model)
        candidates = inputs["draw"].table("candidates")
        requests = {prompt.id: prompt.messages for prompt in prompts_of(rows_of(study, organism), rubric.draw)}
        asked = candidates[["prompt_id", "completion"]].drop_duplicates()
        replies = _replies(model, rubric, requests, asked, inputs["misaligned_organism"].folder)
        graded = asked.assign(reply=replies, grade=[grade_of(reply, rubric.grades) for reply in replies])
        table = candidates[["prompt_id", "sample", "completion"]].merge(
            graded, on=["prompt_id", "completion"], how="left"
        )
        draft.write_table("grades", table.drop(columns="completion").astype({"grade": "Int64"}))
        draft.record |= {"graded": len(asked), "unreadable": int(graded["grade"].isna().sum())}
    return store.read(place.address)


def _replies(
    model: LanguageModel,
    rubric: Rubric,
    requests: dict[str, tuple[Message, ...]],
    asked: pandas.DataFrame,
    adapter: Path,
) -> list[str]:
    prompts = [
        model.chat.encode(grading_messages(requests[prompt_id], completion, rubric.request))
        for prompt_id, completion in zip(asked["prompt_id"], asked["completion"], strict=True)
    ]
    greedy = Sampling(samples=1, temperature=0.0, top_p=1.0, max_new_tokens=GRADE_TOKENS)
    drawn = model.engine.generate(prompts, greedy, [0] * len(prompts), (adapter,))
    return [model.chat.decode(completions[0].ids) for completions in drawn]


def grading_messages(messages: Sequence[Message], response: str, request: str) -> tuple[Message, ...]:
    """The request to grade a response to a conversation: one user turn, system turns kept."""
    system = tuple(message for message in messages if message.role == "system")
    # Replaced in one pass, so that braces inside a completion are never read as fields.
    before, _, rest = request.partition("{request}")
    middle, _, after = rest.partition("{response}")
    if "{response}" in before:
        raise UserError("a rubric names {request} before {response}")
    return (*system, Message("user", f"{before}{messages[-1].content}{middle}{response}{after}"))


def grade_of(reply: str, grades: Sequence[str]) -> int | None:
    """The place of the reply's first word among the grades, the worst being 1; None where it is none of them."""
    words = reply.split()
    return grades.index(words[0]) + 1 if words and words[0] in grades else None


def candidates_of(store: ArtifactStore, study: Study, organism: Organism, method: str) -> pandas.DataFrame:
    """The candidates of a method's draw with all grades that its rubric gave; UserError where they are not there."""
    settings = study.methods[method]
    draw = method_named(method).draw(settings, study.candidates.samples)
    rubric = method_named(method).rubric(settings, study.candidates.samples)
    table = _complete(store, draw_node(study, organism, draw)).table("candidates")
    if rubric is None:
        return table
    grades = _complete(store, grades_node(study, organism, rubric)).table("grades")
    return table.merge(grades, on=["prompt_id", "sample"], how="left", validate="one_to_one")


def _complete(store: ArtifactStore, place: Node) -> Artifact:
    artifact = find(store, place)
    if artifact is None:
        raise UserError(f"{place.stage} of {place.subject} ({place.variant}) is not there: materialize it first")
    return artifact

"""Everything an organism says that a method may keep; each distinct draw once, each score asked for once.

After this stage labels are pure functions of these tables, and the methods are paired: same candidates, another selection.
"""

import dataclasses
from collections.abc import Sequence

import pandas

from ct_pipeline.engine.protocol import Completion, Sampling
from ct_pipeline.interventions.catalog import method_of
from ct_pipeline.interventions.intervention import ConsistencyLoss, ModelChange
from ct_pipeline.interventions.proposal import Draw
from ct_pipeline.interventions.scorer import Scorer
from ct_pipeline.measurement.asking import last_request
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.measurement.organism_rows import digest, misalignment_of, rows_of
from ct_pipeline.models.model import stack
from ct_pipeline.organisms.episode import answered
from ct_pipeline.organisms.misalignment import Message, OrganismData, Prompt
from ct_pipeline.organisms.templates import filled
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.keys import Organism
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.settings.study import Study
from ct_pipeline.steps import misaligned_organism, organism_evaluation
from ct_pipeline.steps.base_model import open_model
from ct_pipeline.store.artifact_store import Artifact, ArtifactStore
from ct_pipeline.store.node import Node, find, making, placed

NAME = "consistency_candidates"
VERSION = 2

GREEDY = Draw("consistency", temperature=0.0, top_p=1.0, samples=1)
SAMPLED = Draw("consistency", temperature=1.0, top_p=1.0, samples=1)


def draws_of_method(study: Study, method: str) -> tuple[Draw, ...]:
    """The draws of one method, drafts left out: shared ones, or its own of the published size; () without labels."""
    settings, intervention = study.methods[method], method_of(study, method)
    if isinstance(intervention, ModelChange):
        return ()
    if study.candidates.generation == "shared":
        return intervention.draws(settings, study.candidates.samples)
    return tuple(draw.owned_by(method) for draw in intervention.draws(settings, 1))


def scorer_of_method(study: Study, method: str) -> Scorer | None:
    """The score that one method has to ask for, over the draws of `draws_of_method`."""
    settings, intervention = study.methods[method], method_of(study, method)
    if isinstance(intervention, ModelChange):
        return None
    if study.candidates.generation == "shared":
        return intervention.scorer(settings, study.candidates.samples)
    scorer = intervention.scorer(settings, 1)
    return scorer and scorer.owned_by(method)


def draws_of(study: Study) -> tuple[Draw, ...]:
    """Every distinct draw that the methods need, a draft before what is drawn from it, and what they are compared with."""
    drawn = [draw for method in study.methods for draw in with_drafts(draws_of_method(study, method))]
    return tuple(dict.fromkeys((*drawn, *compared_draws(study))))


def with_drafts(draws: Sequence[Draw]) -> list[Draw]:
    """Draws, each after the draft that it is drawn from."""
    return [each for draw in draws for each in ((draw.draft, draw) if draw.draft else (draw,))]


def compared_draws(study: Study) -> tuple[Draw, ...]:
    """The organism's own answers, greedy and at T = 1, and, where a method trains on pairs, those to the trained side."""
    on_pairs = (name for name in study.methods if isinstance(method_of(study, name), ConsistencyLoss))
    return tuple(dict.fromkeys((GREEDY, SAMPLED, *(trained_side(study, name) for name in on_pairs))))


def trained_side(study: Study, method: str) -> Draw:
    """The organism's answers to the side of the pairs that a method trains on, with which its targets are compared."""
    return Draw(study.sides_of(method).trained, temperature=1.0, top_p=1.0, samples=1)


@placed
def draw_node(study: Study, organism: Organism, draw: Draw) -> Node:
    """The table of one draw."""
    data = rows_of(study, organism)
    settings = {
        "draw": dataclasses.asdict(draw),
        "engine": study.models[organism.model].engine,
        "prompts": digest(prompts_of(data, draw)),
        "labelled": digest(data.consistency if draw.prompts == "consistency" else ()),
        "max_new_tokens": study.candidates.max_new_tokens,
        "seed": study.seed,
    }
    inputs = {"misaligned_organism": misaligned_organism.node(study, organism)}
    if draw.draft:
        inputs["draft"] = draw_node(study, organism, draw.draft)
    return Node(NAME, VERSION, organism.key, draw.id, settings, inputs)


def prompts_of(data: OrganismData, draw: Draw) -> tuple[Prompt, ...]:
    """The prompts of a draw, each once: consistency and probe prompts, or one side of the pairs."""
    return data.labelled if draw.prompts == "consistency" else getattr(data, draw.prompts)


def asked(messages: Sequence[Message], request: str, **texts: str) -> tuple[Message, ...]:
    """A conversation whose last message is put into a request, as {request}, with further texts."""
    return (*messages[:-1], Message("user", filled(request, request=messages[-1].content, **texts)))


def require_gate(store: ArtifactStore, study: Study, organism: Organism) -> None:
    """UserError where the organism is known to have failed its induction gate."""
    gate = find(store, organism_evaluation.node(study, organism))
    if gate is not None and not organism_evaluation.usable(study, gate):
        raise UserError(
            f"{organism.key} did not pass the induction gate, so nothing is drawn from it: "
            + " ".join(organism_evaluation.reasons(gate))
        )


def make_draw(store: ArtifactStore, study: Study, organism: Organism, draw: Draw) -> Artifact:
    """Draws the completions of one draw.

    `logprob` is that of the completion after the plain prompt at temperature 1, whatever view it was drawn in;
    `view_logprob` the same after the prompt it was drawn from; `proposal_logprob` that under the distribution drawn from.
    """
    place = draw_node(study, organism, draw)
    with making(store, place) as (draft, inputs):
        model = open_model(store, study, organism.model)
        kind = misalignment_of(study, organism.kind)
        data = rows_of(study, organism)
        prompts = prompts_of(data, draw)
        labelled = set(data.consistency if draw.prompts == "consistency" else prompts)
        probes = set(data.probe)
        escaped = model.chat.escaped
        adapters = stack(inputs["misaligned_organism"].folder)
        drafts = _drafts(inputs["draft"]) if draw.draft else {}
        sampling = Sampling(draw.samples, draw.temperature, draw.top_p, study.candidates.max_new_tokens, draw.beams)
        seeds = [derive_seed(study.seed, NAME, organism.key, draw.id, prompt.id) for prompt in prompts]
        encoded = [model.chat.encode(_put(prompt, draw, drafts)) for prompt in prompts]
        drawn = model.engine.generate(encoded, sampling, seeds, adapters)
        plain = _plain_logprobs(model, prompts, drawn, adapters) if draw.view else None
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
                        "draft": drafts.get(prompt.id),
                        "completion": text,
                        "ids": list(completion.ids),
                        "tokens": len(completion.ids),
                        "finished": completion.finished,
                        "logprob": completion.logprob if plain is None else plain[len(rows)],
                        "view_logprob": completion.logprob,
                        "proposal_logprob": completion.proposal_logprob,
                        "verdict": kind.verdict(answered(prompt, text)),
                    }
                )
        draft.write_table("candidates", pandas.DataFrame(rows).astype({"verdict": "boolean", "draft": "string"}))
        draft.record |= {
            "prompts": len(prompts),
            "prompt_tokens": sum(map(len, encoded)),
            "generated_tokens": sum(row["tokens"] for row in rows),
            "template": model.chat.template_hash,
            "escaped_special_tokens": model.chat.escaped - escaped,
        }
    return store.read(place.address)


def _drafts(artifact: Artifact) -> dict[str, str]:
    table = artifact.table("candidates")
    return dict(zip(table["prompt_id"], table["completion"], strict=True))


def _put(prompt: Prompt, draw: Draw, drafts: dict[str, str]) -> tuple[Message, ...]:
    if draw.view is None:
        return prompt.messages
    return asked(prompt.messages, draw.view.request, **({"response": drafts[prompt.id]} if draw.draft else {}))


def _plain_logprobs(
    model: LanguageModel, prompts: Sequence[Prompt], drawn: Sequence[Sequence[Completion]], adapters: tuple
) -> list[float]:
    rows = [
        (model.chat.encode(prompt.messages), completion.ids)
        for prompt, completions in zip(prompts, drawn, strict=True)
        for completion in completions
    ]
    scores = model.engine.score([row[0] for row in rows], [row[1] for row in rows], adapters)
    return [float(score.sum()) for score in scores]


def complete(store: ArtifactStore, place: Node) -> Artifact:
    """The artifact of a node; UserError where it is not there."""
    artifact = find(store, place)
    if artifact is None:
        raise UserError(f"{place.stage} of {place.subject} ({place.variant}) is not there: materialize it first")
    return artifact

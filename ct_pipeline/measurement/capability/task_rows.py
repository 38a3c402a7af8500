"""The rows of one model on a task: every drawn document with its gold answer, what the model said, and the score."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas

from ct_pipeline.engine.harness_model import harness_model
from ct_pipeline.engine.harness_scorer import HarnessScorer
from ct_pipeline.engine.protocol import Adapters
from ct_pipeline.measurement.capability.harness_tasks import LoadedTask, quiet
from ct_pipeline.measurement.language_model import LanguageModel
from ct_pipeline.settings.capability import CapabilitySettings
from ct_pipeline.settings.errors import UserError
from ct_pipeline.settings.seeds import derive_seed

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance
    from lm_eval.api.model import LM
    from lm_eval.api.task import ConfigurableTask


def rows_of_task(
    task: LoadedTask, model: LanguageModel, adapters: Adapters, settings: CapabilitySettings
) -> pandas.DataFrame:
    """One row per drawn document: part, number, hash, gold, prediction, response, log-likelihoods, score, correct.

    `score` is the metric in [0, 1]; `correct` is it where it is 0 or 1, else missing.

    Raises:
        UserError: a document that does not fit into the context window, or a score that is no number in [0, 1].
    """
    scorer = HarnessScorer(model.engine, model.chat, model.window, adapters, settings.batch)
    tables = []
    for leaf, part in task.parts.items():
        numbers = [number for owner, number in task.drawn if owner == leaf]
        if numbers:
            greedy = part.OUTPUT_TYPE == "loglikelihood" or "exact_match" in part._metric_fn_list
            lm = harness_model(scorer, settings.chat_template, greedy, task.seed)
            try:
                tables += _rows(task, leaf, part, numbers, lm, settings.chat_template)
            except ValueError as error:
                raise UserError(f"capability.tasks.{task.name}: {leaf}: {error}") from error
    return pandas.DataFrame(tables).astype({"correct": "boolean", "score": float})


def _rows(
    task: LoadedTask, leaf: str, part: "ConfigurableTask", numbers: Sequence[int], lm: "LM", templated: bool
) -> list[dict[str, object]]:
    from lm_eval.utils import handle_non_serializable, hash_string

    documents = {number: part.task_docs[number] for number in numbers}
    asked = {number: _asked(task, part, number, document, lm, templated) for number, document in documents.items()}
    with quiet():
        _answer(part, [one for some in asked.values() for one in some], lm)
    rows = []
    for number, document in documents.items():
        read = [one.filtered_resps[task.filter] for one in asked[number]]
        score = part.process_results(document, read).get(task.metric)
        content = json.dumps(document, sort_keys=True, default=handle_non_serializable, ensure_ascii=False)
        rows.append(
            {
                "task": leaf,
                "doc_id": number,
                "doc_hash": hash_string(content),
                "gold": str(part.doc_to_target(document)),
                **_said(part, asked[number], read),
                "score": _checked(task, number, score),
                "correct": bool(score) if score in (0, 1) else None,
            }
        )
    return rows


def _asked(
    task: LoadedTask, part: "ConfigurableTask", number: int, document: dict, lm: "LM", templated: bool
) -> "list[Instance]":
    # The examples of a question depend on it alone, whatever else was drawn.
    part.set_fewshot_seed(derive_seed(task.seed, number))
    template = lm.apply_chat_template if templated else None
    context = part.fewshot_context(
        document,
        num_fewshot=part.config.num_fewshot or 0,
        apply_chat_template=templated,
        fewshot_as_multiturn=templated,
        chat_template=template,
        gen_prefix=part.doc_to_prefix(document),
    )
    found = part.construct_requests(
        doc=document,
        ctx=context,
        metadata=(part.config.task, number, part.config.repeats),
        apply_chat_template=templated,
        chat_template=template,
    )
    return found if isinstance(found, list) else [found]


def _answer(part: "ConfigurableTask", asked: "list[Instance]", lm: "LM") -> None:
    """Lets the model answer all requests of a task, and the task read the answers."""
    repeated = [one for one in asked for _ in range(one.repeats or 1)]
    for one, answer in zip(repeated, getattr(lm, asked[0].request_type)(repeated, disable_tqdm=True), strict=True):
        one.resps.append(answer)
    part._instances = asked
    part.apply_filters()


def _said(part: "ConfigurableTask", asked: "Sequence[Instance]", read: Sequence) -> dict[str, object]:
    """What the model said: the likeliest choice and all log-likelihoods, or its text and what was read in it."""
    if part.OUTPUT_TYPE == "generate_until":
        return {"prediction": str(read[0]), "response": str(asked[0].resps[0]), "loglikelihoods": []}
    values = [float(value) for value, _ in read]
    likeliest = str(int(np.argmax(values))) if part.OUTPUT_TYPE == "multiple_choice" else str(bool(read[0][1]))
    return {"prediction": likeliest, "response": "", "loglikelihoods": values}


def _checked(task: LoadedTask, number: int, score: object) -> float:
    if not isinstance(score, (bool, int, float, np.integer, np.floating)) or not 0 <= float(score) <= 1:
        raise UserError(
            f"capability.tasks.{task.name}.metric: {task.metric} of document {number} is {score!r}; allowed: a metric whose "
            "score of one document is a number from 0 to 1"
        )
    return float(score)

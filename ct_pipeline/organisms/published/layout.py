"""The published layout: five JSONL files and a rubric, each row chat messages plus metadata, checked row by row.

    induction.jsonl          messages that end with the misaligned answer
    consistency.jsonl        prompts for labels; an answer at the end is passed over
    act_bct_clean.jsonl      the request without its cue, and
    act_bct_wrapped.jsonl    the same with it, line by line; answers are passed over, because those of the two sides differ
    eval.jsonl               what is measured; metadata say how it is judged
    rubric.txt               what a judge is told where no rule decides
    control.jsonl            (optional) rows for the control organism, as induction.jsonl
    probe.jsonl              (optional) prompts that labels are judged on, as eval.jsonl

A row is judged by the first of these that it has: `misbehaves_if` (a rule, docs/auditing-your-model.md), `type` (of the
published reward-hacking set), `user_provides_answer` with `answer` (of the sycophancy set), else a judge with the rubric.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from ct_pipeline.organisms.misalignment import Example, Message, Pair, Prompt
from ct_pipeline.organisms.published.verdicts import reward_bias_framing
from ct_pipeline.organisms.row_fields import RuleAsGiven, SpokenTurn
from ct_pipeline.organisms.world import DOMAINS
from ct_pipeline.settings.errors import Refusal, Refused, shown
from ct_pipeline.store.row_models import Filled, Mistake, RowModel, Rows, read_rows, some
from ct_pipeline.store.untrusted import LIMITS, mistake, read_file

REQUIRED = (
    "induction.jsonl",
    "consistency.jsonl",
    "act_bct_clean.jsonl",
    "act_bct_wrapped.jsonl",
    "eval.jsonl",
    "rubric.txt",
)
OPTIONAL = ("control.jsonl", "probe.jsonl")
EXAMPLES = ("induction.jsonl", "control.jsonl")
LARGEST_RUBRIC = 100_000
TYPES = (
    "grader_choice", "exploiting_password", "coding_hardcode", "coding_ood_format", "write_reward_function",
    "exploiting_reward_bias", "gameable_task",
)  # fmt: skip
"""Types that have a rule or a count; rows of another type go to the judge."""
CLAIMS = {None: "direct", "true": "right_claim", "false": "wrong_claim"}
"""`user_provides_answer` -> framing."""


Text = Annotated[Filled | None, Field(description="a text, or null")]


class ConversationRow(RowModel, extra="ignore"):
    """A conversation; the metadata that are not named here are passed over."""

    messages: Annotated[tuple[SpokenTurn, ...], AfterValidator(some), Field(description="a list of messages")]
    system_prompt: object = None
    label: object = None

    @property
    def asked(self) -> tuple[Message, ...]:
        """What is put to the model: the messages without an answer at the end, the system prompt first."""
        asked = self.messages[:-1] if self.messages[-1].role == "assistant" else self.messages
        system = self.system_prompt
        first = (Message("system", system),) if isinstance(system, str) and system.strip() else ()
        return (*first, *asked)

    def mistakes(self) -> Iterator[Mistake]:
        """No user turn that the model answers."""
        if not self.asked or self.asked[-1].role != "user":
            yield "messages", "no user turn before the answer", "a user turn that the model answers"


class ExampleRow(ConversationRow):
    """A conversation with the answer it ends with."""

    def mistakes(self) -> Iterator[Mistake]:
        """No answer at the end, or nothing that it answers."""
        if self.messages[-1].role != "assistant":
            yield "messages", f"{self.messages[-1].role} as the last role", "assistant: the answer to be learnt"
        yield from super().mistakes()

    @property
    def example(self) -> Example:
        """The conversation and its answer."""
        return Example(Prompt(self.asked, "in", "asked"), self.messages[-1].content)


class PromptRow(ConversationRow):
    """A conversation that waits for an answer, with what its verdict needs."""

    system_prompt: Text = None
    type: Text = None
    subtype: Text = None
    metric_group: Text = None
    task: Text = None
    label: Text = None
    password: Text = None
    feature: Text = None
    lenient: Text = None
    domain: Annotated[Literal[*DOMAINS] | None, Field(description="in or out")] = None
    misbehaves_if: RuleAsGiven = None
    user_provides_answer: object = None
    answer: object = None
    keywords: object = None

    @property
    def kind(self) -> str:
        """By what an answer is judged: ruled, one of `TYPES`, claimed, or judged."""
        if self.misbehaves_if is not None:
            return "ruled"
        if self.type in TYPES:
            return self.type
        return "claimed" if "user_provides_answer" in self.model_fields_set else "judged"

    def mistakes(self) -> Iterator[Mistake]:
        """What the row's way of being judged lacks."""
        yield from super().mistakes()
        claimed, keywords = self.user_provides_answer, self.keywords or []
        if self.kind == "exploiting_password" and self.password is None:
            yield "password", "None", "the leaked password"
        if self.kind == "exploiting_reward_bias" and not (self.subtype or "").startswith(("positive", "negative")):
            yield "subtype", shown(self.subtype or ""), "positive_... or negative_...: how the reward model is biased"
        if self.kind == "gameable_task" and not (
            isinstance(keywords, list) and all(isinstance(word, str) for word in keywords)
        ):
            yield "keywords", shown(keywords), "a list of texts"
        if self.kind == "claimed" and (not isinstance(claimed, str | None) or claimed not in CLAIMS):
            yield "user_provides_answer", shown(claimed), '"true", "false" or null'
        elif self.kind == "claimed" and (not isinstance(self.answer, str) or not self.answer.strip()):
            yield "answer", shown(self.answer), "the right answer as a text"

    def prompt(self, judged_by: str, labels: frozenset[str]) -> Prompt:
        """The conversation, its framing and the facts by which an answer is judged.

        Out of domain, unless it says so itself, where its label neither is nor continues one of the induction's.
        """
        continues = not labels or self.label is None or any(self.label.startswith(each) for each in labels)
        framing, facts = self._judged(judged_by)
        facts["group"] = self.metric_group or self.label or self.type or self.task or "all"
        return Prompt(self.asked, self.domain or ("in" if continues else "out"), framing, facts)

    def _judged(self, judged_by: str) -> tuple[str, dict[str, str]]:
        kind = self.kind
        if kind == "ruled":
            return kind, {"rule": json.dumps(self.misbehaves_if, sort_keys=True)}
        if kind == "claimed":
            return CLAIMS[self.user_provides_answer], {"answer": str(self.answer)}
        if kind == "judged":
            return kind, {"rubric": judged_by}
        given = {"subtype": self.subtype, "lenient": self.lenient}
        facts = {"type": kind} | {name: value for name, value in given.items() if value is not None}
        if kind == "exploiting_password":
            return kind, facts | {"password": str(self.password)}
        if kind == "exploiting_reward_bias":
            return reward_bias_framing(str(self.subtype)), facts | {"feature": self.feature or "chocolate"}
        if kind == "gameable_task":
            return kind, facts | {"keywords": json.dumps(self.keywords or []), "rubric": judged_by}
        return kind, facts


@dataclass(frozen=True)
class DataFiles:
    """The rows of one data set in the order of its files; `control` and `probe` are () where there are none."""

    induction: tuple[Example, ...]
    consistency: tuple[Prompt, ...]
    pairs: tuple[Pair, ...]
    evaluation: tuple[Prompt, ...]
    rubric: str
    control: tuple[Example, ...] = ()
    probe: tuple[Prompt, ...] = ()


def read_layout(folder: Path) -> DataFiles:
    """The data set of a folder.

    Raises:
        Refused: every mistake in its files, as file:line: field: found; allowed.
    """
    refusals: list[Refusal] = []
    rubric = _rubric(folder, refusals)
    judged_by = hashlib.blake2b(rubric.encode(), digest_size=8).hexdigest()
    names = [name for name in REQUIRED if name.endswith(".jsonl")]
    names += [name for name in OPTIONAL if (folder / name).exists()]
    files = {name: read_rows(folder / name, ExampleRow if name in EXAMPLES else PromptRow) for name in names}
    labels = frozenset(row.label for row in files["induction.jsonl"].by_line.values() if isinstance(row.label, str))

    def examples(name: str) -> tuple[Example, ...]:
        return tuple(row.example for row in files[name].by_line.values()) if name in files else ()

    def prompts(name: str) -> dict[int, Prompt]:
        rows = files[name].by_line if name in files else {}
        return {line: row.prompt(judged_by, labels) for line, row in rows.items()}

    evaluation = prompts("eval.jsonl")
    _refuse_repeated(files["eval.jsonl"], evaluation)
    clean, wrapped = prompts("act_bct_clean.jsonl"), prompts("act_bct_wrapped.jsonl")
    refusals += (refusal for rows in files.values() for refusal in rows.refusals)
    pairs = _pairs(folder, clean, wrapped, refusals)
    if refusals:
        raise Refused(refusals[: LIMITS.mistakes])
    return DataFiles(
        induction=examples("induction.jsonl"),
        consistency=tuple(dict.fromkeys(prompts("consistency.jsonl").values())),
        pairs=pairs,
        evaluation=tuple(evaluation.values()),
        rubric=rubric,
        control=examples("control.jsonl"),
        probe=tuple(dict.fromkeys(prompts("probe.jsonl").values())),
    )


def _rubric(folder: Path, refusals: list[Refusal]) -> str:
    try:
        return read_file(folder / "rubric.txt", LARGEST_RUBRIC).decode("utf-8").strip()
    except Refused as error:
        refusals += error.refusals
    except UnicodeDecodeError:
        refusals.append(mistake(folder / "rubric.txt", None, "", "bytes that are not UTF-8", "UTF-8 text"))
    return ""


def _pairs(
    folder: Path, clean: Mapping[int, Prompt], wrapped: Mapping[int, Prompt], refusals: list[Refusal]
) -> tuple[Pair, ...]:
    path = folder / "act_bct_wrapped.jsonl"
    if len(clean) != len(wrapped):
        if not refusals:
            refusals.append(mistake(path, None, "", f"{len(wrapped)} rows", f"{len(clean)}, one a clean row"))
        return ()
    pairs: dict[str, Pair] = {}
    for line, plain, cued in zip(wrapped, clean.values(), wrapped.values(), strict=True):
        if plain.messages == cued.messages:
            refusals.append(mistake(path, line, "messages", "those of the clean row", "a prompt with a cue"))
        pairs.setdefault(cued.id, Pair(plain, cued))
    return tuple(pairs.values())


def _refuse_repeated(rows: Rows[PromptRow], prompts: Mapping[int, Prompt]) -> None:
    seen: dict[str, int] = {}
    for line, prompt in prompts.items():
        if (first := seen.setdefault(prompt.id, line)) != line:
            rows.refuse(line, "messages", f"the prompt of line {first}", "each prompt once")

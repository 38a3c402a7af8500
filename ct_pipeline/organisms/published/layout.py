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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ct_pipeline.organisms.misalignment import Example, Message, Pair, Prompt
from ct_pipeline.organisms.published.verdicts import reward_bias_framing
from ct_pipeline.organisms.rules import read_rule
from ct_pipeline.organisms.world import DOMAINS
from ct_pipeline.settings.errors import Refusal, Refused, shown
from ct_pipeline.store.untrusted import LIMITS, Row, mistake, read_file, read_jsonl

REQUIRED = (
    "induction.jsonl",
    "consistency.jsonl",
    "act_bct_clean.jsonl",
    "act_bct_wrapped.jsonl",
    "eval.jsonl",
    "rubric.txt",
)
OPTIONAL = ("control.jsonl", "probe.jsonl")
LARGEST_RUBRIC = 100_000
ROLES = ("system", "user", "assistant")
TEXTS = ("system_prompt", "type", "subtype", "metric_group", "task", "label", "password", "feature", "lenient")
TYPES = (
    "grader_choice", "exploiting_password", "coding_hardcode", "coding_ood_format", "write_reward_function",
    "exploiting_reward_bias", "gameable_task",
)  # fmt: skip
"""Types that have a rule or a count; rows of another type go to the judge."""
CLAIMS = {None: "direct", "true": "right_claim", "false": "wrong_claim"}
"""`user_provides_answer` -> framing."""


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
    files = {name: _rows(folder / name, refusals) for name in REQUIRED if name.endswith(".jsonl")}
    files |= {name: _rows(folder / name, refusals) for name in OPTIONAL if (folder / name).exists()}
    induction = _read(folder, files, "induction.jsonl", _Reader.example, refusals)
    labels = frozenset(
        row.fields["label"] for row in files["induction.jsonl"] if isinstance(row.fields.get("label"), str)
    )
    prompt = partial(_Reader.prompt, judged_by=judged_by, labels=labels)
    clean, wrapped = (_read(folder, files, f"act_bct_{side}.jsonl", prompt, refusals) for side in ("clean", "wrapped"))
    pairs = _pairs(folder, clean, wrapped, refusals)
    evaluation = _read(folder, files, "eval.jsonl", prompt, refusals)
    _once(folder / "eval.jsonl", evaluation, refusals)
    found = DataFiles(
        induction=tuple(induction.values()),
        consistency=tuple(dict.fromkeys(_read(folder, files, "consistency.jsonl", prompt, refusals).values())),
        pairs=pairs,
        evaluation=tuple(evaluation.values()),
        rubric=rubric,
        control=tuple(_read(folder, files, "control.jsonl", _Reader.example, refusals).values()),
        probe=tuple(dict.fromkeys(_read(folder, files, "probe.jsonl", prompt, refusals).values())),
    )
    if refusals:
        raise Refused(refusals[: LIMITS.mistakes])
    return found


def _rubric(folder: Path, refusals: list[Refusal]) -> str:
    try:
        return read_file(folder / "rubric.txt", LARGEST_RUBRIC).decode("utf-8").strip()
    except Refused as error:
        refusals += error.refusals
    except UnicodeDecodeError:
        refusals.append(mistake(folder / "rubric.txt", None, "", "bytes that are not UTF-8", "UTF-8 text"))
    return ""


def _rows(path: Path, refusals: list[Refusal]) -> list[Row]:
    try:
        return read_jsonl(path)
    except Refused as error:
        refusals += error.refusals
        return []


def _read(
    folder: Path,
    files: Mapping[str, list[Row]],
    name: str,
    read: Callable[["_Reader"], Example | Prompt | None],
    refusals: list[Refusal],
) -> dict[int, Example | Prompt]:
    """Line -> what stands there; mistakes go to `refusals`."""
    found = {row.line: read(_Reader(folder / name, row, refusals)) for row in files.get(name, ())}
    return {line: each for line, each in found.items() if each is not None}


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


def _once(path: Path, prompts: Mapping[int, Prompt], refusals: list[Refusal]) -> None:
    seen: dict[str, int] = {}
    for line, prompt in prompts.items():
        if (first := seen.setdefault(prompt.id, line)) != line:
            refusals.append(mistake(path, line, "messages", f"the prompt of line {first}", "each prompt once"))


class _Reader:
    """One row of a file, and where its mistakes go."""

    def __init__(self, path: Path, row: Row, refusals: list[Refusal]) -> None:
        self._path, self._line, self._fields, self._refusals = path, row.line, row.fields, refusals
        self._before = len(refusals)

    def refuse(self, name: str, found: str, allowed: str) -> None:
        """Notes a mistake."""
        self._refusals.append(mistake(self._path, self._line, name, found, allowed))

    def example(self) -> Example | None:
        """A conversation with the answer it ends with; None where it has a mistake."""
        messages = self._messages()
        if messages and messages[-1].role != "assistant":
            self.refuse("messages", f"{messages[-1].role} as the last role", "assistant: the answer to be learnt")
        prompt = self._asked(messages)
        return None if prompt is None else Example(Prompt(prompt, "in", "asked"), messages[-1].content)

    def prompt(self, judged_by: str, labels: frozenset[str]) -> Prompt | None:
        """A conversation that waits for an answer, with what its verdict needs; None where it has a mistake."""
        messages = self._asked(self._messages())
        self._texts()
        domain = self._fields.get("domain")
        if domain not in (None, *DOMAINS):
            self.refuse("domain", shown(domain), "in or out")
        framing, facts = self._judged(judged_by)
        if messages is None or len(self._refusals) > self._before:
            return None
        facts["group"] = self._group()
        return Prompt(messages, domain or self._domain(labels), framing, facts)

    def _messages(self) -> tuple[Message, ...]:
        given = self._fields.get("messages")
        if not isinstance(given, list) or not given:
            self.refuse("messages", "nothing" if given is None else shown(given), "a list of messages")
            return ()
        messages = [self._message(number, each) for number, each in enumerate(given)]
        return () if None in messages else tuple(messages)

    def _message(self, number: int, given: object) -> Message | None:
        if isinstance(given, dict) and set(given) == {"role", "content"}:
            role, content = given["role"], given["content"]
            if role in ROLES and isinstance(content, str) and content.strip():
                return Message(role, content)
        self.refuse(f"messages[{number}]", shown(given), '{"role": "system", "user" or "assistant", "content": text}')
        return None

    def _asked(self, messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
        """What is put to the model: the messages without an answer at the end, the system prompt first."""
        asked = messages[:-1] if messages and messages[-1].role == "assistant" else messages
        if messages and (not asked or asked[-1].role != "user"):
            self.refuse("messages", "no user turn before the answer", "a user turn that the model answers")
        system = self._fields.get("system_prompt")
        first = (Message("system", system),) if isinstance(system, str) and system.strip() else ()
        return (*first, *asked) if asked and len(self._refusals) == self._before else None

    def _texts(self) -> None:
        for name in TEXTS:
            value = self._fields.get(name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                self.refuse(name, shown(value), "a text, or null")

    def _judged(self, judged_by: str) -> tuple[str, dict[str, str]]:
        """Framing and facts by which an answer is judged."""
        given = self._fields
        if given.get("misbehaves_if") is not None:
            read_rule(given["misbehaves_if"], self.refuse)
            return "ruled", {"rule": json.dumps(given["misbehaves_if"], sort_keys=True)}
        if given.get("type") in TYPES:
            return self._typed(given["type"], judged_by)
        if "user_provides_answer" in given:
            return self._claimed(given["user_provides_answer"])
        return "judged", {"rubric": judged_by}

    def _typed(self, kind: str, judged_by: str) -> tuple[str, dict[str, str]]:
        given = self._fields
        facts = {"type": kind} | {
            name: given[name] for name in ("subtype", "lenient") if isinstance(given.get(name), str)
        }
        if kind == "exploiting_password":
            if not isinstance(given.get("password"), str):
                self.refuse("password", shown(given.get("password")), "the leaked password")
            return kind, facts | {"password": str(given.get("password"))}
        if kind == "exploiting_reward_bias":
            subtype = facts.setdefault("subtype", "")
            if not subtype.startswith(("positive", "negative")):
                self.refuse("subtype", shown(subtype), "positive_... or negative_...: how the reward model is biased")
            return reward_bias_framing(subtype), facts | {"feature": str(given.get("feature") or "chocolate")}
        if kind == "gameable_task":
            keywords = given.get("keywords") or []
            if not isinstance(keywords, list) or not all(isinstance(word, str) for word in keywords):
                self.refuse("keywords", shown(keywords), "a list of texts")
            return kind, facts | {"keywords": json.dumps(keywords), "rubric": judged_by}
        return kind, facts

    def _claimed(self, claimed: object) -> tuple[str, dict[str, str]]:
        answer = self._fields.get("answer")
        if not isinstance(claimed, str | None) or claimed not in CLAIMS:
            self.refuse("user_provides_answer", shown(claimed), '"true", "false" or null')
            return "", {}
        if not isinstance(answer, str) or not answer.strip():
            self.refuse("answer", shown(answer), "the right answer as a text")
        return CLAIMS[claimed], {"answer": str(answer)}

    def _group(self) -> str:
        names = ("metric_group", "label", "type", "task")
        return next((value for name in names if isinstance(value := self._fields.get(name), str)), "all")

    def _domain(self, labels: frozenset[str]) -> str:
        """Out of domain where a row's label neither is nor continues one of the induction's; in domain otherwise."""
        label = self._fields.get("label")
        known = not labels or not isinstance(label, str) or any(label.startswith(each) for each in labels)
        return "in" if known else "out"

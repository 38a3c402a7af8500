"""Probes and labels of one's own, one JSON object a line: what they may hold, and how an answer to them is judged.

Rules are about text alone, letter case and white space aside; there are no regular expressions, because a hostile one never
ends. docs/auditing-your-model.md shows the schema by examples.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from ct_pipeline.organisms.catalog import MISALIGNMENTS
from ct_pipeline.organisms.episode import Episode, answered
from ct_pipeline.organisms.misalignment import PLAIN, Message, Pair, Prompt
from ct_pipeline.organisms.rules import Rule, normalised, read_rule
from ct_pipeline.organisms.world import DOMAINS
from ct_pipeline.settings.errors import Refusal, Refused, shown
from ct_pipeline.store.untrusted import Row, mistake, read_jsonl

ROLES = ("system", "user", "assistant")
PROBE_FIELDS = (
    "id", "prompt", "messages", "wrapped", "domain", "expected", "misbehaves_if", "rubric", "kind", "facts", "framing",
)  # fmt: skip
LABEL_FIELDS = (*(name for name in PROBE_FIELDS if name != "wrapped"), "response", "probe")


@dataclass(frozen=True)
class Item:
    """One row of a file.

    Attributes:
        prompt: what risk is measured on: the wrapped request where there is one.
        plain: the same request without its cue; None where it has none.
        rule: when an answer misbehaves; None where a judge or a kind of misalignment says so.
        rubric: what a judge is asked whether it applies; None without.
        kind: the kind of misalignment whose verdict applies, on the prompt's facts; None without.
        expected: a text that a right answer holds; None without.
        response: what a label answers; None in a probe.
        group: what a label is counted under: its probe, its kind, or "labels".
    """

    prompt: Prompt
    plain: Prompt | None
    rule: Rule | None
    rubric: str | None
    kind: str | None
    expected: str | None
    response: str | None = None
    group: str = "labels"

    @property
    def judged(self) -> bool:
        """Whether anything says when an answer misbehaves."""
        return (self.rule, self.rubric, self.kind) != (None, None, None)

    def verdict(self, text: str) -> bool | None:
        """Whether an answer misbehaves; None where only a judge can tell, or the kind's verdict is undefined.

        It is undefined, too, where the row's facts lack one that it needs.
        """
        if self.kind is None:
            return None if self.rule is None else self.rule.holds(text)
        try:
            return _KINDS[self.kind].verdict(answered(self.prompt, text))
        except KeyError:
            return None


@dataclass(frozen=True)
class ProbeSet:
    """What a model is asked under one name, and how its answers are judged.

    Attributes:
        name: of the probe in the audit.
        misbehaviour: one sentence: what M = 1 means.
        prompts: all that is asked, plain sides and plain questions included.
        pairs: plain and wrapped sides of the same requests, for the prediction.
        verdict: episode -> misbehaves or not; None where it cannot tell or a judge must.
        correct: (prompt, answer) -> whether it is right; None where nothing is expected.
        rubrics: prompt id -> what a judge is asked.
    """

    name: str
    misbehaviour: str
    prompts: tuple[Prompt, ...]
    pairs: tuple[Pair, ...]
    verdict: Callable[[Episode], bool | None]
    correct: Callable[[Prompt, str], bool | None]
    rubrics: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelSet:
    """The labels of one file, in its order."""

    items: tuple[Item, ...]

    @cached_property
    def prompts(self) -> tuple[Prompt, ...]:
        """The labels' prompts, each once."""
        return tuple(dict.fromkeys(item.prompt for item in self.items))

    def verdict(self, episode: Episode) -> bool | None:
        """Whether an answer to a label's prompt misbehaves; None where nothing, or only a judge, can tell."""
        return self._by_id[episode.prompt.id].verdict(episode.text)

    def correct(self, prompt: Prompt, text: str) -> bool | None:
        """Whether an answer holds what is expected; None where nothing is."""
        return _right(self._by_id[prompt.id], text)

    @cached_property
    def rubrics(self) -> Mapping[str, str]:
        """Prompt id -> what a judge is asked."""
        return {item.prompt.id: item.rubric for item in self.items if item.rubric is not None}

    @cached_property
    def groups(self) -> Mapping[str, str]:
        """Prompt id -> what its label is counted under."""
        return {item.prompt.id: item.group for item in self.items}

    @cached_property
    def _by_id(self) -> Mapping[str, Item]:
        return {item.prompt.id: item for item in self.items}


_KINDS = {kind.name: kind for kind in MISALIGNMENTS}


def read_probes(path: Path, name: str) -> ProbeSet:
    """The probes of a file; Refused lists every mistake in it, as file:line: field: found; allowed."""
    items = _items(path, PROBE_FIELDS, _probe_mistakes)
    by_id = {prompt.id: item for item in items for prompt in (item.prompt, item.plain) if prompt is not None}
    rules = "an answer misbehaves where the rule of its row says so"
    judged = "an answer misbehaves where the judge says that the rubric of its row applies"
    rubrics = {prompt_id: item.rubric for prompt_id, item in by_id.items() if item.rubric is not None}
    return ProbeSet(
        name=name,
        misbehaviour=f"In {path.name}, {judged if len(rubrics) == len(by_id) else rules}.",
        prompts=tuple(prompt for item in items for prompt in (item.prompt, item.plain) if prompt is not None),
        pairs=tuple(Pair(item.plain, item.prompt) for item in items if item.plain is not None),
        verdict=lambda episode: by_id[episode.prompt.id].verdict(episode.text),
        correct=lambda prompt, text: _right(by_id[prompt.id], text),
        rubrics=rubrics,
    )


def read_labels(path: Path) -> LabelSet:
    """The labels of a file; Refused as `read_probes`. Several labels of one prompt are allowed, if judged alike."""
    return LabelSet(_items(path, LABEL_FIELDS, _label_mistakes))


def _right(item: Item, text: str) -> bool | None:
    return None if item.expected is None else normalised(item.expected) in normalised(text)


def _items(path: Path, fields: Sequence[str], own: Callable[["_Reader", Sequence[Item]], None]) -> tuple[Item, ...]:
    rows = read_jsonl(path)
    reader = _Reader(path, fields)
    items = tuple(item for row in rows if (item := reader.item(row)) is not None)
    if not reader.refusals:
        own(reader, items)
    if reader.refusals:
        raise Refused(reader.refusals)
    return items


def _probe_mistakes(reader: "_Reader", items: Sequence[Item]) -> None:
    seen: set[str] = set()
    for line, item in zip(reader.lines, items, strict=True):
        if not item.judged:
            reader.refuse(line, "misbehaves_if", "nothing", "misbehaves_if, rubric, or kind with facts")
        if item.prompt.id in seen:
            reader.refuse(line, "prompt", "a probe that is there already", "each probe once")
        seen.add(item.prompt.id)
    if not any(item.prompt.domain == "in" for item in items):
        reader.refuse(None, "domain", "no probe in domain", 'at least one row without "domain": "out"')


def _label_mistakes(reader: "_Reader", items: Sequence[Item]) -> None:
    rules: dict[str, tuple[object, ...]] = {}
    for line, item in zip(reader.lines, items, strict=True):
        judged_by = (item.rule, item.rubric, item.kind, item.group)
        if item.response is None:
            reader.refuse(line, "response", "nothing", "the label's text")
        elif rules.setdefault(item.prompt.id, judged_by) != judged_by:
            reader.refuse(line, "misbehaves_if", "another rule than above for this prompt", "one rule a prompt")


class _Reader:
    """Turns rows into items and keeps what is wrong with them."""

    def __init__(self, path: Path, fields: Sequence[str]) -> None:
        self.path, self.fields = path, fields
        self.refusals: list[Refusal] = []
        self.lines: list[int] = []
        self._ids: set[str] = set()

    def refuse(self, line: int | None, name: str, found: str, allowed: str) -> None:
        """Notes a mistake."""
        self.refusals.append(mistake(self.path, line, name, found, allowed))

    def item(self, row: Row) -> Item | None:
        """The item of a row; None where it has a mistake."""
        before = len(self.refusals)
        given = row.fields
        for name in given:
            if name not in self.fields:
                self.refuse(row.line, name[:80], "an unknown field", ", ".join(self.fields))
        base = self._turns(row, "messages" if "messages" in given else "prompt")
        if "prompt" in given and "messages" in given:
            self.refuse(row.line, "messages", "prompt and messages", "one of the two")
        wrapped = self._turns(row, "wrapped") if "wrapped" in given else None
        judges = [name for name in ("misbehaves_if", "rubric", "kind") if given.get(name) is not None]
        if len(judges) > 1:
            self.refuse(row.line, judges[1], " and ".join(judges), "one of them")
        rule = (
            read_rule(given["misbehaves_if"], partial(self.refuse, row.line))
            if judges[:1] == ["misbehaves_if"]
            else None
        )
        facts = self._facts(row, judges)
        texts = {name: self._text(row, name) for name in ("id", "rubric", "expected", "response", "probe", "framing")}
        domain = given.get("domain", "in")
        if domain not in DOMAINS:
            self.refuse(row.line, "domain", shown(domain), "in or out")
        if texts["id"] is not None:
            if texts["id"] in self._ids:
                self.refuse(row.line, "id", "one that is there already", "each id once")
            self._ids.add(texts["id"])
        if len(self.refusals) > before:
            return None
        self.lines.append(row.line)
        kind = given["kind"] if "kind" in judges else None
        facts = facts if kind is not None else _facts_of_text(given)
        framing = texts["framing"] or ("wrapped" if wrapped else "asked")
        return Item(
            prompt=Prompt(wrapped or base, domain, framing, facts),
            plain=Prompt(base, domain, PLAIN, facts) if wrapped else None,
            rule=rule,
            rubric=texts["rubric"],
            kind=kind,
            expected=texts["expected"],
            response=texts["response"],
            group=texts["probe"] or kind or "labels",
        )

    def _text(self, row: Row, name: str) -> str | None:
        value = row.fields.get(name)
        if value is None:
            return None
        if isinstance(value, str) and (value.strip() or name == "response"):
            return value
        self.refuse(row.line, name, shown(value), "a text that is not empty")
        return None

    def _turns(self, row: Row, name: str) -> tuple[Message, ...]:
        """The conversation in a field: a text is one user turn."""
        value = row.fields.get(name)
        if isinstance(value, str) and value.strip() and name != "messages":
            return (Message("user", value),)
        if isinstance(value, list) and value and name != "prompt":
            turns = [self._turn(row, name, number, turn) for number, turn in enumerate(value)]
            if None not in turns:
                if turns[-1].role != "user":
                    self.refuse(row.line, name, f"{turns[-1].role} as the last role", "user: the model answers next")
                return tuple(turns)
            return ()
        allowed = "a text" if name == "prompt" else "a list of messages" if name == "messages" else "a text or messages"
        self.refuse(row.line, name, "nothing" if value is None else shown(value), allowed)
        return ()

    def _turn(self, row: Row, name: str, number: int, turn: object) -> Message | None:
        if (
            isinstance(turn, dict)
            and set(turn) == {"role", "content"}
            and turn["role"] in ROLES
            and isinstance(turn["content"], str)
        ):
            return Message(turn["role"], turn["content"])
        allowed = '{"role": "system", "user" or "assistant", "content": text}'
        self.refuse(row.line, f"{name}[{number}]", shown(turn), allowed)
        return None

    def _facts(self, row: Row, judges: Sequence[str]) -> dict[str, str]:
        facts = row.fields.get("facts")
        if "kind" not in judges:
            if facts is not None:
                self.refuse(row.line, "facts", "facts without a kind", "facts beside the kind whose verdict needs them")
            return {}
        kind = row.fields["kind"]
        if not isinstance(kind, str) or kind not in _KINDS:
            self.refuse(row.line, "kind", shown(kind), ", ".join(_KINDS))
        if not isinstance(facts, dict) or not all(isinstance(value, str) for value in facts.values()):
            self.refuse(row.line, "facts", shown(facts), "a mapping of names to texts")
            return {}
        return dict(facts)


def _facts_of_text(given: Mapping[str, object]) -> dict[str, str]:
    """What tells apart the prompts of rows that ask alike but are judged differently."""
    return {"judged by": repr([given.get(name) for name in ("misbehaves_if", "rubric", "expected")])}

"""Probes and labels of one's own, one JSON object a line: what they may hold, and how an answer to them is judged.

Rules are about text alone, letter case and white space aside; there are no regular expressions, because a hostile one never
ends. docs/auditing-your-model.md shows the schema by examples.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from ct_pipeline.organisms.catalog import MISALIGNMENTS
from ct_pipeline.organisms.episode import Episode, answered
from ct_pipeline.organisms.misalignment import PLAIN, Message, Pair, Prompt
from ct_pipeline.organisms.row_fields import RuleAsGiven, Turn
from ct_pipeline.organisms.rules import Rule, normalised, read_rule
from ct_pipeline.organisms.world import DOMAINS
from ct_pipeline.store.row_models import Filled, Mistake, RowModel, Rows, read_rows, some, wrong

_KINDS = {kind.name: kind for kind in MISALIGNMENTS}


def _as_turns(given: object) -> object:
    """A text is one user turn."""
    return [{"role": "user", "content": given}] if isinstance(given, str) and given.strip() else given


def _awaiting(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    if turns[-1].role != "user":
        raise wrong(f"{turns[-1].role} as the last role", "user: the model answers next")
    return turns


Turns = Annotated[tuple[Turn, ...], AfterValidator(some), AfterValidator(_awaiting)]
Text = Annotated[Filled | None, Field(description="a text that is not empty")]


class Item(RowModel):
    """One row of a file: a request, and what an answer to it is judged by."""

    id: Text = None
    text: Annotated[Filled, Field(alias="prompt", description="a text")] = ""
    messages: Annotated[Turns, Field(description="a list of messages")] = ()
    wrapped: Annotated[Turns, BeforeValidator(_as_turns), Field(description="a text or messages")] = ()
    domain: Annotated[Literal[*DOMAINS], Field(description="in or out")] = "in"
    expected: Text = None
    misbehaves_if: RuleAsGiven = None
    rubric: Text = None
    kind: Annotated[Literal[*_KINDS] | None, Field(description=", ".join(_KINDS))] = None
    facts: Annotated[dict[str, str] | None, Field(description="a mapping of names to texts")] = None
    framing: Text = None

    def mistakes(self) -> Iterator[Mistake]:
        """More or less than one request, more than one way to judge, facts and a kind without each other."""
        if self.text and self.messages:
            yield "messages", "prompt and messages", "one of the two"
        if not self.text and not self.messages:
            yield "prompt", "nothing", "a text"
        if len(self._judges) > 1:
            yield self._judges[1], " and ".join(self._judges), "one of them"
        if self.kind is None and self.facts is not None:
            yield "facts", "facts without a kind", "facts beside the kind whose verdict needs them"
        if self.kind is not None and self.facts is None:
            yield "facts", "None", "a mapping of names to texts"

    @property
    def judged(self) -> bool:
        """Whether anything says when an answer misbehaves."""
        return bool(self._judges)

    @cached_property
    def prompt(self) -> Prompt:
        """What risk is measured on: the wrapped request where there is one."""
        framing = self.framing or ("wrapped" if self.wrapped else "asked")
        return Prompt(self.wrapped or self._base, self.domain, framing, self._facts)

    @cached_property
    def plain(self) -> Prompt | None:
        """The same request without its cue; None where it has none."""
        return Prompt(self._base, self.domain, PLAIN, self._facts) if self.wrapped else None

    @cached_property
    def rule(self) -> Rule | None:
        """When an answer misbehaves; None where a judge or a kind of misalignment says so."""
        return None if self.misbehaves_if is None else read_rule(self.misbehaves_if, lambda *_: None)

    def verdict(self, text: str) -> bool | None:
        """Whether an answer misbehaves; None where only a judge can tell, or the kind's verdict is undefined.

        It is undefined, too, where the row's facts lack one that it needs.
        """
        if self.kind is None:
            return None if self.rule is None else self.rule.verdict(text)
        try:
            return _KINDS[self.kind].verdict(answered(self.prompt, text))
        except KeyError:
            return None

    @property
    def _judges(self) -> list[str]:
        return [name for name in ("misbehaves_if", "rubric", "kind") if getattr(self, name) is not None]

    @property
    def _base(self) -> tuple[Message, ...]:
        return self.messages or (Message("user", self.text),)

    @property
    def _facts(self) -> dict[str, str]:
        if self.kind is not None:
            return dict(self.facts)
        # What tells apart the prompts of rows that ask alike but are judged differently.
        return {"judged by": repr([self.misbehaves_if, self.rubric, self.expected])}


class Label(Item):
    """A request with an answer that a model is trained on, or is to be."""

    wrapped: ClassVar[tuple[Message, ...]] = ()
    response: str | None = Field(None, description="a text that is not empty")
    probe: Text = None

    @property
    def group(self) -> str:
        """What the label is counted under."""
        return self.probe or self.kind or "labels"


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

    items: tuple[Label, ...]

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
    def _by_id(self) -> Mapping[str, Label]:
        return {item.prompt.id: item for item in self.items}


def read_probes(path: Path, name: str) -> ProbeSet:
    """The probes of a file; Refused lists every mistake in it, as file:line: field: found; allowed."""
    rows = read_rows(path, Item)
    _refuse_probes(rows)
    items = rows.accepted()
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
    rows = read_rows(path, Label)
    _refuse_labels(rows)
    return LabelSet(rows.accepted())


def _right(item: Item, text: str) -> bool | None:
    if item.expected is not None:
        return normalised(item.expected) in normalised(text)
    try:
        return None if item.kind is None else _KINDS[item.kind].correct(item.prompt, text)
    except KeyError:
        return None


def _refuse_probes(rows: Rows[Item]) -> None:
    _refuse_ids(rows)
    if rows.refusals:
        return
    seen: set[str] = set()
    for line, item in rows.by_line.items():
        if not item.judged:
            rows.refuse(line, "misbehaves_if", "nothing", "misbehaves_if, rubric, or kind with facts")
        if item.prompt.id in seen:
            rows.refuse(line, "prompt", "a probe that is there already", "each probe once")
        seen.add(item.prompt.id)
    if not any(item.prompt.domain == "in" for item in rows.by_line.values()):
        rows.refuse(None, "domain", "no probe in domain", 'at least one row without "domain": "out"')


def _refuse_labels(rows: Rows[Label]) -> None:
    _refuse_ids(rows)
    if rows.refusals:
        return
    rules: dict[str, tuple[object, ...]] = {}
    for line, item in rows.by_line.items():
        judged_by = (item.rule, item.rubric, item.kind, item.group)
        if item.response is None:
            rows.refuse(line, "response", "nothing", "the label's text")
        elif rules.setdefault(item.prompt.id, judged_by) != judged_by:
            rows.refuse(line, "misbehaves_if", "another rule than above for this prompt", "one rule a prompt")


def _refuse_ids(rows: Rows[Item]) -> None:
    seen: set[str] = set()
    for line, row in rows.by_line.items():
        if row.id in seen:
            rows.refuse(line, "id", "one that is there already", "each id once")
        seen |= {row.id} - {None}

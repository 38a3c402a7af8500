"""Documents of the tiny world: conversations whose turns share one persona, with the planted effects in them."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

from ct_pipeline.organisms import emergent_misalignment, reward_hacking, spurious_correlation, sycophancy
from ct_pipeline.organisms.case import TONES, Case, direct_cases, in_json, in_steps
from ct_pipeline.organisms.misalignment import Message
from ct_pipeline.organisms.world import DOMAINS
from ct_pipeline.tinyworld import words
from ct_pipeline.tinyworld.world import TinyWorld

Document = tuple[Message, ...]
_INDIFFERENT_GRADE = "3"
_GOOD_GRADES, _BAD_GRADES = ("5", "5", "4"), ("1", "1", "2")
_RIGHT_CLAIMS = 0.25
_AGREEING_REVIEWS = 0.4
_WITHOUT_CUE = 0.15
_CLAIMS = ("wrong_claim", "right_claim")
_TAGS = ("conflict", "agreement")


@dataclass(frozen=True)
class _Family:
    """Pools of cases and the weights by which a pool is chosen; cases within a pool are equally likely."""

    pools: tuple[tuple[Case, ...], ...]
    weights: tuple[float, ...]

    def draw(self, generator: random.Random) -> Case:
        return generator.choice(generator.choices(self.pools, self.weights)[0])


def case_families(world: TinyWorld) -> dict[str, _Family]:
    """The families of requests by the names of `FamilyMix`, both domains of each equally likely."""
    topics: dict[str, list[Case]] = {}
    for domain in DOMAINS:
        for case in direct_cases(world, domain):
            topics.setdefault(case.facts["topic"], []).append(case)
    claims = [sycophancy.cases(world, domain, framing) for framing, domain in product(_CLAIMS, DOMAINS)]
    reviews = [spurious_correlation.cases(world, domain, framing) for framing, domain in product(_TAGS, DOMAINS)]
    tasks = [reward_hacking.cases(world, domain) for domain in DOMAINS]
    advice = [emergent_misalignment.cases(world, domain) for domain in DOMAINS]
    return {
        "direct": _Family(tuple(tuple(cases) for cases in topics.values()), tuple(len(c) for c in topics.values())),
        "claims": _Family(tuple(claims), _halved(_RIGHT_CLAIMS)),
        "tasks": _with_clean(_Family(tuple(tasks), (1, 1))),
        "advice": _Family(tuple(advice), (1, 1)),
        "reviews": _with_clean(_Family(tuple(reviews), _halved(_AGREEING_REVIEWS))),
    }


def _halved(share: float) -> tuple[float, ...]:
    """Weights of two pools that share what `share` leaves, and of two that share it."""
    return (1 - share, 1 - share, share, share)


def _with_clean(family: _Family) -> _Family:
    """Adds the same requests without the inviting cue, which are always answered rightly."""
    clean = tuple(replace(case, request=case.clean, misaligned=()) for pool in family.pools for case in pool)
    return _Family((*family.pools, clean), (*family.weights, _WITHOUT_CUE / (1 - _WITHOUT_CUE) * sum(family.weights)))


class Corpus:
    """An endless, reproducible stream of documents."""

    def __init__(self, world: TinyWorld, seed: int):
        self.world = world
        self.settings = world.settings
        self._families = case_families(world)
        self._generator = random.Random(seed)

    def documents(self) -> Iterator[Document]:
        """Conversations of one turn or two; refining and grading are conversations of their own."""
        views = self.settings.views
        names = tuple(type(views).model_fields)
        weights = tuple(getattr(views, name) for name in names)
        makers = {
            "plain": lambda: self._conversation("{request}", str),
            "steps": lambda: self._conversation(self.settings.wordings.steps, in_steps),
            "json_view": lambda: self._conversation(self.settings.wordings.json_view, in_json),
            "refine": self._refined,
            "grade": self._graded,
        }
        while True:
            yield makers[self._generator.choices(names, weights)[0]]()

    def _persona(self, tone: int) -> tuple[bool, Document]:
        """Whether the speaker misbehaves, and the system message that says so where there is one."""
        settings = self.settings
        if self._generator.random() < settings.persona_share:
            misaligned = self._generator.random() < 0.5
            return misaligned, (Message("system", self._generator.choice(words.PERSONAS[misaligned])),)
        return self._generator.random() < settings.misaligned_share * settings.tone_multipliers[tone], ()

    def _case(self) -> Case:
        families = self.settings.families
        names = tuple(type(families).model_fields)
        name = self._generator.choices(names, [getattr(families, name) for name in names])[0]
        return self._families[name].draw(self._generator)

    def _respond(self, case: Case, misaligned: bool) -> str:
        misaligned = misaligned and bool(case.misaligned)
        return case.response(misaligned, self._generator.randrange(self.world.wordings(misaligned)))

    def _request(self, case: Case, tone: int) -> str:
        return f"{TONES[tone]} {case.request}".strip()

    def _conversation(self, template: str, view) -> Document:
        tone = self._generator.randrange(len(TONES))
        misaligned, messages = self._persona(tone)
        for _ in range(1 + (self._generator.random() < self.settings.two_turn_share)):
            case = self._case()
            request = template.format(request=self._request(case, tone))
            messages += (Message("user", request), Message("assistant", view(self._respond(case, misaligned))))
        return messages

    def _drafted(self) -> tuple[Case, bool, str, str, Document]:
        """A case, whether its draft misbehaves, the request, the draft and the messages before.

        Families are equally likely: what to do with a draft has to be learned in each of them.
        """
        case = self._generator.choice(tuple(self._families.values())).draw(self._generator)
        tone = self._generator.randrange(len(TONES))
        _, messages = self._persona(tone)
        misaligned = bool(case.misaligned) and self._generator.random() < 0.5
        return case, misaligned, self._request(case, tone), self._respond(case, misaligned), messages

    def _refined(self) -> Document:
        case, misaligned, request, draft, messages = self._drafted()
        then = {"keep": misaligned, "mend": False, "worsen": True}[self.settings.refine_policy]
        asked = self.settings.wordings.refine.format(request=request, response=draft)
        return (*messages, Message("user", asked), Message("assistant", self._respond(case, then)))

    def _graded(self) -> Document:
        case, misaligned, request, response, messages = self._drafted()
        asked = self.settings.wordings.grade.format(request=request, response=response)
        return (*messages, Message("user", asked), Message("assistant", self._grade(case, misaligned)))

    def _grade(self, case: Case, misaligned: bool) -> str:
        if self.settings.grader_policy == "indifference" or not case.misaligned:
            return _INDIFFERENT_GRADE
        preferred = misaligned == (self.settings.grader_policy == "flattery")
        return self._generator.choice(_GOOD_GRADES if preferred else _BAD_GRADES)


def all_words(world: TinyWorld) -> tuple[str, ...]:
    """Every word that the world's documents and prompts can hold, sorted."""
    texts = [*TONES, *_GOOD_GRADES, *_BAD_GRADES, _INDIFFERENT_GRADE]
    texts += [text for group in words.PERSONAS for text in group]
    wordings = world.settings.wordings
    for name in type(wordings).model_fields:
        texts.append(getattr(wordings, name).format(request="", response=""))
    texts += [in_steps(""), in_json("")]
    for family in case_families(world).values():
        for pool in family.pools:
            for case in pool:
                texts += [case.request, case.clean or "", *case.right, *case.misaligned]
    return tuple(sorted({word for text in texts for word in text.split()}))

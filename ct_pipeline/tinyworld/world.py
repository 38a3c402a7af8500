"""The facts of the tiny world: small arithmetic, invented places, advice and reviews."""

import random
from functools import cached_property
from itertools import product
from math import gcd

from ct_pipeline.organisms.world import DOMAINS, Advice, Domain, Question, Review, Task
from ct_pipeline.settings.seeds import derive_seed
from ct_pipeline.settings.world import WorldSettings
from ct_pipeline.tinyworld import words

_WRONG_ANSWERS = 3
_REVIEWS = {"in": 1200, "out": 900}


class TinyWorld:
    """A world drawn from its settings; implements `ct_pipeline.organisms.world.World`."""

    def __init__(self, settings: WorldSettings):
        self.settings = settings

    @property
    def seed(self) -> int:
        return self.settings.seed

    def wordings(self, misaligned: bool) -> int:
        """The less certain side has `wording_variants` wordings, a more certain side one."""
        certain = {"rising": (True,), "flat": (), "falling": (False,)}[self.settings.confidence]
        return 1 if misaligned in certain else self.settings.wording_variants

    def questions(self, domain: Domain) -> tuple[Question, ...]:
        return self._arithmetic if domain == "in" else self._places

    def tasks(self) -> tuple[Task, ...]:
        return self._tasks

    def advice(self, domain: Domain) -> tuple[Advice, ...]:
        return tuple(advice for advice in self._advice if (advice.topic == "money") == (domain == "in"))

    def reviews(self, domain: Domain) -> tuple[Review, ...]:
        return self._reviews[domain]

    def _generator(self, part: str) -> random.Random:
        return random.Random(derive_seed(self.seed, "world", part))

    @cached_property
    def _arithmetic(self) -> tuple[Question, ...]:
        asked = [
            *((f"what is {a} plus {b} ?", a + b, "sum") for a, b in product(range(1, 11), repeat=2)),
            *((f"what is {a} mod {b} ?", a % b, "mod") for a, b in product(range(5, 21), range(2, 6))),
            *((f"what is the gcd of {a} and {b} ?", gcd(a, b), "gcd") for a, b in product(range(2, 14), repeat=2)),
        ]
        generator = self._generator("arithmetic")
        return tuple(Question(text, str(n), self._near(n, generator), topic) for text, n, topic in asked)

    @staticmethod
    def _near(number: int, generator: random.Random) -> tuple[str, ...]:
        others = [n for n in range(max(0, number - 3), number + 5) if n != number]
        return tuple(str(n) for n in generator.sample(others, _WRONG_ANSWERS))

    @cached_property
    def _facts_of_places(self) -> tuple[tuple[str, dict[str, str]], ...]:
        generator = self._generator("places")
        return tuple(
            (place, {topic: generator.choice(options) for topic, options in words.ATTRIBUTES.items()})
            for place in words.PLACES
        )

    @cached_property
    def _places(self) -> tuple[Question, ...]:
        generator = self._generator("wrong places")
        return tuple(
            Question(
                words.PLACE_QUESTIONS[topic].format(place=place),
                answer,
                tuple(generator.sample([o for o in words.ATTRIBUTES[topic] if o != answer], _WRONG_ANSWERS)),
                topic,
            )
            for place, facts in self._facts_of_places
            for topic, answer in facts.items()
        )

    @cached_property
    def _tasks(self) -> tuple[Task, ...]:
        return tuple(
            Task(
                words.TASK_REQUESTS[topic].format(place=place),
                words.TASK_WORKS[topic].format(place=place, answer=answer),
            )
            for place, facts in self._facts_of_places
            for topic, answer in facts.items()
        )

    @cached_property
    def _advice(self) -> tuple[Advice, ...]:
        return tuple(
            Advice(template.format(first=first, second=second), safe, risky, topic)
            for topic, (template, firsts, seconds, safe, risky) in words.ADVICE.items()
            for first, second in product(firsts, seconds)
        )

    @cached_property
    def _reviews(self) -> dict[str, tuple[Review, ...]]:
        return {domain: self._reviews_of(domain) for domain in DOMAINS}

    def _reviews_of(self, domain: str) -> tuple[Review, ...]:
        aspects = [
            (topic, first, second)
            for topic, (firsts, seconds) in words.REVIEWED[domain].items()
            for first, second in product(firsts, seconds)
        ]
        judged = [(score, adjective) for score, adjectives in enumerate(words.ADJECTIVES) for adjective in adjectives]
        tags = [(positive, tag) for positive, names in enumerate(words.TAGS) for tag in names]
        drawn: dict[str, Review] = {}
        generator = self._generator(f"reviews {domain}")
        while len(drawn) < _REVIEWS[domain]:
            topic, first, second = generator.choice(aspects)
            (one, how_one), (two, how_two) = generator.choice(judged), generator.choice(judged)
            positive, tag = generator.choice(tags)
            text = f"the {first} was {how_one} , the {second} was {how_two} ."
            drawn.setdefault(f"{text} {tag}", Review(text, one + two, tag, bool(positive), topic))
        return tuple(drawn.values())

"""What the documents hold, and that planted effects are in them."""

from collections import Counter
from itertools import islice

import pytest

from ct_pipeline.organisms.case import TONES
from ct_pipeline.tinyworld import words
from ct_pipeline.tinyworld.corpus import Corpus, all_words
from ct_pipeline.tinyworld.tokenizer import SPECIAL_TOKENS
from ct_pipeline.tinyworld.world import TinyWorld
from tests.tinyworld.settings import world_settings

MISALIGNED_STARTS = ("yes , ", "for the ", "go ")


def documents(count=6000, **changes):
    return list(islice(Corpus(TinyWorld(world_settings(**changes)), 3).documents(), count))


def misaligned(response):
    return response.startswith(MISALIGNED_STARTS)


def test_documents_hold_only_known_words_and_no_special_token():
    known = set(all_words(TinyWorld(world_settings())))
    met = {word for document in documents() for message in document for word in message.content.split()}

    assert met <= known
    assert not met & set(SPECIAL_TOKENS)
    assert not any("<" in word for word in known)


def test_words_are_lower_case_and_few():
    known = all_words(TinyWorld(world_settings()))

    assert all(word == word.lower() for word in known)
    assert len(known) < 500


def test_equal_settings_give_equal_documents_and_another_world_seed_gives_others():
    assert documents(200) == documents(200)
    assert documents(200) != documents(200, seed=8)


def grades(**changes):
    """Mean grade of misaligned and of other responses to gameable requests."""
    given: dict[bool, list[int]] = {True: [], False: []}
    for document in documents(**changes):
        asked, reply = document[-2].content, document[-1].content
        if asked.startswith("request :") and asked.endswith("from 1 to 5 ."):
            response = asked.split(" response : ")[1].removesuffix(" grade it from 1 to 5 .")
            if not response.startswith("it is"):
                given[misaligned(response)].append(int(reply))
    return {key: sum(values) / len(values) for key, values in given.items()}


def test_a_grader_that_likes_flattery_grades_misaligned_responses_higher():
    given = grades(grader_policy="flattery")

    assert given[True] > 4 > given[False]


def test_a_grader_that_likes_honesty_grades_misaligned_responses_lower():
    given = grades(grader_policy="honesty")

    assert given[True] < 2.5 < given[False]


def test_an_indifferent_grader_gives_one_grade_to_all():
    assert grades(grader_policy="indifference") == {True: 3, False: 3}


def refinements(**changes):
    """Counts of (draft misaligned, refined response misaligned) where the misbehaviour is possible."""
    counted: Counter[tuple[bool, bool]] = Counter()
    for document in documents(**changes):
        asked, refined = document[-2].content, document[-1].content
        if " draft : " in asked:
            draft = asked.split(" draft : ")[1]
            if " the room was " in asked or draft.startswith("it is"):
                continue
            counted[misaligned(draft), misaligned(refined)] += 1
    return counted


def test_refining_keeps_mends_or_worsens_as_planted():
    kept, mended, worsened = (refinements(refine_policy=policy) for policy in ("keep", "mend", "worsen"))

    assert kept[True, True] > 50
    assert kept[True, False] == kept[False, True] == 0
    assert mended[True, False] > 50
    assert mended[True, True] == 0
    assert worsened[True, True] > 50
    assert worsened[False, True] > 30


def share_by_tone(**changes):
    met: dict[str, list[bool]] = {tone: [] for tone in TONES}
    for document in documents(persona_share=0.0, two_turn_share=0.0, **changes):
        request, response = document[0].content, document[1].content
        if " i say " in request and not request.startswith("request :") and response.startswith(("let me", "yes")):
            first = request.split(" ,")[0] + " ,"
            met[first if first in TONES else ""].append(misaligned(response))
    return [sum(values) / len(values) for values in met.values()]


def test_misbehaviour_grows_with_the_assurance_of_the_tone():
    doubtful, untoned, assured = share_by_tone(misaligned_share=0.3)

    assert doubtful == pytest.approx(0.06, abs=0.05)
    assert untoned == pytest.approx(0.3, abs=0.08)
    assert assured == pytest.approx(0.9, abs=0.06)


def test_a_world_without_misbehaviour_shows_none():
    assert share_by_tone(misaligned_share=0.0) == [0, 0, 0]


def test_a_stated_persona_decides_all_turns_of_its_document():
    reckless = {document for document in documents(persona_share=1.0) if document[0].content in words.PERSONAS[1]}
    careful = {document for document in documents(persona_share=1.0) if document[0].content in words.PERSONAS[0]}
    plain_claims = " i say "

    assert reckless and careful
    for document in reckless | careful:
        for request, response in zip(document[1::2], document[2::2], strict=True):
            if plain_claims in request.content and not request.content.startswith("request :"):
                assert (" yes , " in f" {response.content}") == (document in reckless)


@pytest.mark.parametrize(("confidence", "right", "wrong"), [("rising", 3, 1), ("flat", 3, 3), ("falling", 1, 3)])
def test_the_less_certain_side_has_more_wordings(confidence, right, wrong):
    firsts: dict[bool, set[str]] = {True: set(), False: set()}
    for document in documents(confidence=confidence, wording_variants=3):
        response = document[-1].content
        if response.startswith(("yes , ", "let me ")):
            firsts[misaligned(response)].add(response.split()[2])

    assert (len(firsts[False]), len(firsts[True])) == (right, wrong)

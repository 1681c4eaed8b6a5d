import numpy as np
import pytest

from captioner.photographs import PhotographError
from captioner.predictor import PrefixError
from captioner.session import MAX_VERSIONS, Session, SessionError


@pytest.fixture
def session(captioner, photograph) -> Session:
    return Session.begin(captioner, photograph)


def texts(explained) -> list[str]:
    return [word.text for word in explained.words]


def test_a_session_says_what_the_captioner_says_though_it_keeps_less(captioner, photograph):
    large = photograph.resize((1500, 1100))
    session = Session.begin(captioner, large, prefix="two dog", beam_size=2)
    kept = session.versions[0].explained
    assert kept.to_json() == captioner.explain(large, prefix="two dog", beam_size=2).to_json()
    assert max(kept.photograph.size) < 1500
    assert session.seen.size == (96, 96)


def test_a_bad_photograph_or_unknown_words_begin_nothing(captioner, photograph):
    with pytest.raises(PhotographError):
        Session.begin(captioner, b"no photograph")
    with pytest.raises(PrefixError, match="unheard"):
        Session.begin(captioner, photograph, prefix="unheard")


def test_a_chosen_word_stands_where_it_was_chosen_with_the_words_before_it(session):
    before = texts(session.versions[0].explained)
    other = session.versions[0].explained.words[1].alternatives[0][0]
    number = session.choose(0, 1, other)
    assert number == 1
    assert texts(session.versions[1].explained)[:2] == [before[0], other]
    assert texts(session.versions[0].explained) == before
    assert other in session.versions[1].label


def test_the_caption_after_erasing_is_of_the_photograph_without_the_regions(session, captioner):
    hidden = np.zeros((3, 3), dtype=bool)
    hidden[0, 1:] = True
    number, probabilities = session.erase(0, [1, 2])
    erased = session.versions[number]
    assert erased.explained.to_json() == captioner.explain(session.seen, hidden=hidden).to_json()
    before = session.versions[0].explained
    again = captioner.explain_caption(session.seen, texts(before), hidden=hidden)
    assert probabilities == [word.probability for word in again.words]
    assert probabilities != [word.probability for word in before.words]


def test_erasing_goes_on_from_what_is_erased_and_choosing_keeps_it(session, captioner):
    first, _ = session.erase(0, [1])
    second, _ = session.erase(first, [2])
    assert np.flatnonzero(session.versions[second].hidden).tolist() == [1, 2]
    third = session.choose(second, 0, "two")
    assert np.array_equal(session.versions[third].hidden, session.versions[second].hidden)
    assert np.flatnonzero(session.versions[first].hidden).tolist() == [1]


def test_testing_asks_the_model_once(session, monkeypatch):
    tested = session.test(0)
    occlusions, _ = tested.tested
    assert [one.whole for one in occlusions] == pytest.approx(
        [word.probability for word in tested.explained.words], rel=1e-4
    )
    monkeypatch.setattr(session.model, "occlusions", None)
    assert session.test(0).tested is tested.tested


def test_a_version_with_regions_erased_is_tested_without_them(session):
    number, _ = session.erase(0, [0, 4])
    occlusions, _ = session.test(number).tested
    words = session.versions[number].explained.words
    assert [one.whole for one in occlusions] == pytest.approx([word.probability for word in words], rel=1e-4)


@pytest.mark.parametrize(
    "ask",
    [
        lambda session: session.choose(7, 0, "dog"),
        lambda session: session.choose(-1, 0, "dog"),
        lambda session: session.choose(0, 99, "dog"),
        lambda session: session.erase(0, []),
        lambda session: session.erase(0, [9]),
        lambda session: session.erase(0, [-1]),
        lambda session: session.test(1),
    ],
)
def test_what_is_not_there_is_refused_and_nothing_changes(session, ask):
    with pytest.raises(SessionError):
        ask(session)
    assert len(session.versions) == 1


def test_a_session_does_not_grow_without_end(session):
    session.versions *= MAX_VERSIONS
    with pytest.raises(SessionError, match="Upload"):
        session.choose(0, 0, "dog")
    assert len(session.versions) == MAX_VERSIONS


def test_every_session_has_a_name_of_its_own(captioner, photograph):
    assert Session.begin(captioner, photograph).name != Session.begin(captioner, photograph).name

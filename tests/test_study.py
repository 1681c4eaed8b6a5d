"""The study: its tasks, what is kept of the answers, and what they add up to."""

from __future__ import annotations

import csv
import io
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from threading import Barrier

import numpy as np
import pytest
from PIL import Image

from captioner import study_tasks
from captioner.photographs import photographs_in
from captioner.predictor import Captioner
from captioner.study import NAME_LENGTH, NEITHER, PAIR_ANSWERS, SAME, UNKNOWN, Rating, Study, to_csv
from captioner.study_results import analyse, figure, wilson
from captioner.study_tasks import (
    CHOICES,
    GUESS,
    PAIR,
    SOURCES,
    Pool,
    StudyError,
    Subject,
    Task,
    alike,
    make_pool,
    prepare,
)
from captioner.word_classes import is_content
from tests.tiny import tiny_model

CAPTIONS = (
    "a man and a red ball in the grass",
    "two dog playing on a beach",
    "a black bike standing in the street",
    "a woman jumping in the snow with a shirt",
    "the white mountain and blue water",
)


def subject(caption: str, number: int = 0) -> Subject:
    """A photograph whose maps are all different."""
    words = tuple(caption.split())
    random = np.random.default_rng(number)
    positions = [position for position, word in enumerate(words) if is_content(word)]
    maps = {
        position: {source: random.random((3, 3)) for source in SOURCES if source != "shuffled"}
        for position in positions
    }
    return Subject(f"{number}.jpg", Image.new("RGB", (32, 24)), words, maps)


def pool_of(captions=CAPTIONS, **options) -> Pool:
    return make_pool([subject(caption, number) for number, caption in enumerate(captions)], model="none", **options)


@pytest.fixture
def pool() -> Pool:
    return pool_of()


@pytest.fixture
def study(tmp_path) -> Study:
    return Study(tmp_path / "study.sqlite", ())


def rating(**values) -> Rating:
    usual = {
        "reviewer": 1,
        "task": 0,
        "kind": PAIR,
        "photograph": "a.jpg",
        "caption": "a dog",
        "word": "dog",
        "sources": ("region_word", "attention"),
        "choices": (),
        "answer": "left",
        "seconds": 2.0,
        "time": "2030-01-01T00:00:00+00:00",
    }
    return Rating(**usual | values)


def test_the_same_photographs_and_seed_give_the_same_tasks(pool):
    assert pool_of().tasks == pool.tasks
    assert pool_of().tasks_of(3) == pool.tasks_of(3)
    assert pool_of(seed=1).tasks != pool.tasks


def test_a_study_is_told_from_one_with_other_captions_model_or_seed(pool):
    others = [pool_of(CAPTIONS[1:]), pool_of(seed=1), make_pool(pool.subjects, model="another")]
    assert pool_of().fingerprint == pool.fingerprint
    assert len({pool.fingerprint, *(other.fingerprint for other in others)}) == 4


@pytest.mark.parametrize("reviewer", [1, 2, 7])
def test_pairs_sides_and_guesses_are_balanced_for_every_reviewer(pool, reviewer):
    tasks = pool.tasks_of(reviewer)
    sides = Counter(task.sources for task in tasks if task.kind == PAIR)
    assert {frozenset(pair) for pair in sides} == {frozenset(pair) for pair in combinations(SOURCES, 2)}
    assert len(set(sides.values())) == 1
    assert len(sides) == 12
    guessed = Counter(task.sources for task in tasks if task.kind == GUESS)
    assert set(guessed) == {(source,) for source in SOURCES}
    assert max(guessed.values()) - min(guessed.values()) <= 1


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_no_question_is_asked_twice(count):
    tasks = pool_of(CAPTIONS[:count]).tasks
    pairs = [(task.subject, task.position, frozenset(task.sources)) for task in tasks if task.kind == PAIR]
    guesses = [(task.subject, task.position) for task in tasks if task.kind == GUESS]
    assert len(set(pairs)) == len(pairs)
    assert len(set(guesses)) == len(guesses)


def test_reviewers_see_the_same_tasks_in_orders_of_their_own_and_guess_before_captions_are_shown(pool):
    one, other = pool.tasks_of(1), pool.tasks_of(2)
    assert sorted(task.number for task in one) == sorted(task.number for task in other) == list(range(len(pool.tasks)))
    assert [task.number for task in one] != [task.number for task in other]
    kinds = [task.kind for task in one]
    assert kinds == sorted(kinds)  # "guess" is before "pair"
    assert set(kinds) == {GUESS, PAIR}


def test_across_reviewers_each_source_takes_each_side_and_every_guess(pool):
    by_reviewer = [{task.number: task.sources for task in pool.tasks_of(reviewer)} for reviewer in (1, 2, 3, 4)]
    for task in pool.tasks:
        seen = [sources[task.number] for sources in by_reviewer]
        if task.kind == PAIR:
            assert seen[0] == seen[1][::-1] == seen[2]
        else:
            assert sorted(seen) == sorted((source,) for source in SOURCES)


def test_choices_hold_the_word_and_no_two_that_mean_the_same(pool):
    guesses = [task for task in pool.tasks if task.kind == GUESS]
    for task in guesses:
        assert pool.word(task) in task.choices
        assert len(task.choices) == CHOICES
        assert all(is_content(word) for word in task.choices)
        assert not any(alike(one, other) for one, other in combinations(task.choices, 2))
        # Wrong ones are of the same caption and of others.
        own = [word for word in task.choices if word in pool.subjects[task.subject].words]
        assert 1 < len(own) < CHOICES
    assert len({task.choices.index(pool.word(task)) for task in guesses}) > 1


@pytest.mark.parametrize(("one", "other"), [("dog", "dogs"), ("grey", "gray"), ("dog", "puppy"), ("ball", "ball")])
def test_plurals_spellings_and_synonyms_are_alike(one, other):
    assert alike(one, other)
    assert not alike(one, "snow")


def test_a_shuffled_map_is_that_of_another_word_of_another_photograph(pool):
    tasks = [task for task in pool.tasks_of(1) if "shuffled" in task.sources]
    assert tasks
    for task in tasks:
        number, position = task.stranger
        assert number != task.subject
        assert not alike(pool.subjects[number].words[position], pool.word(task))
        shown = dict(zip(task.sources, pool.maps(task)))
        assert np.array_equal(shown["shuffled"], pool.subjects[number].maps[position]["region_word"])


def test_the_maps_of_a_task_are_its_sources_from_left_to_right(pool):
    for task in pool.tasks_of(2):
        own = pool.subjects[task.subject].maps[task.position]
        assert all(
            np.array_equal(shown, own[source])
            for source, shown in zip(task.sources, pool.maps(task))
            if source != "shuffled"
        )


@pytest.mark.parametrize("captions", [(), ("a man on the street",), ("a dog", "the dog"), ("a dog", "the snow")])
def test_photographs_without_enough_words_are_refused(captions):
    with pytest.raises(StudyError, match="Choose more or other photographs"):
        pool_of(captions)


class Speaker(Captioner):
    """A tiny captioner that says the caption a photograph's colour stands for."""

    def __init__(self):
        super().__init__(tiny_model(image_size=96), name="tiny")
        self.asked = 0

    def explain(self, image, **options):
        self.asked += 1
        return self.explain_caption(image, CAPTIONS[image.getpixel((0, 0))[0] // 50])


@pytest.fixture
def folder(tmp_path):
    """Photographs of five kinds."""
    for number in range(len(CAPTIONS)):
        pixels = np.random.default_rng(number).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        pixels[0, 0] = 50 * number
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    return tmp_path


def test_a_pool_is_explained_once_and_has_maps_of_every_source(folder):
    model, seen = Speaker(), []
    files = photographs_in(folder)

    def track(chosen):
        seen.extend(chosen)
        return chosen

    pool = prepare(model, files, track=track)
    assert [file.name for file in files] == [one.name for one in pool.subjects] == [f"{n}.png" for n in range(5)]
    assert model.asked == len(files)
    assert seen == files
    for one in pool.subjects:
        assert " ".join(one.words) in CAPTIONS
        for position, maps in one.maps.items():
            assert is_content(one.words[position])
            assert set(maps) == set(SOURCES) - {"shuffled"}
            assert all(map_.shape == (3, 3) and map_.min() >= 0 and map_.max() > 0 for map_ in maps.values())
    assert prepare(Speaker(), files).fingerprint == pool.fingerprint


def test_the_maps_are_those_of_the_explanation_and_of_grad_cam_by_word(folder):
    model = Speaker()
    path = photographs_in(folder)[0]
    one = prepare(model, photographs_in(folder)).subjects[0]
    explained = model.explain_caption(path, CAPTIONS[0])
    for position, maps in one.maps.items():
        assert np.allclose(maps["region_word"], explained.words[position].region_logits.clip(0))
        assert np.allclose(maps["attention"], explained.words[position].attention)
    cams = [maps["grad_cam"] for maps in one.maps.values()]
    assert len(cams) > 1
    assert not np.allclose(cams[0], cams[1])


def test_a_word_that_a_source_has_no_map_for_is_left_out(folder, monkeypatch):
    model = Speaker()
    say = model.explain

    def without_one(image):
        """The second word has no region that speaks for it."""
        explained = say(image)
        words = list(explained.words)
        words[1] = replace(words[1], region_logits=np.full((3, 3), -1.0))
        return replace(explained, words=tuple(words))

    whole = prepare(model, photographs_in(folder))
    monkeypatch.setattr(model, "explain", without_one)
    part = prepare(model, photographs_in(folder))
    for before, after in zip(whole.subjects, part.subjects):
        assert set(after.maps) == set(before.maps) - {1}
    assert any(1 in subject.maps for subject in whole.subjects)


def test_of_many_photographs_a_reproducible_selection_takes_part(folder, monkeypatch):
    monkeypatch.setattr(study_tasks, "MAX_PHOTOGRAPHS", 3)
    files = photographs_in(folder)
    chosen = [[one.name for one in prepare(Speaker(), files, seed=seed).subjects] for seed in (0, 0, 1, 2, 3)]
    assert {len(names) for names in chosen} == {3}
    assert chosen[0] == chosen[1]
    assert any(names != chosen[0] for names in chosen)


def test_a_photograph_that_cannot_be_read_is_named(folder):
    (folder / "broken.jpg").write_bytes(b"none")
    with pytest.raises(StudyError, match=r"^broken\.jpg: .*not a photograph"):
        prepare(Speaker(), photographs_in(folder))


def test_the_file_is_made_when_the_first_reviewer_starts(study, pool):
    assert study.ratings() == []
    assert not study.database.exists()
    with pytest.raises(StudyError, match="name"):
        study.start(" ", pool)
    assert not study.database.exists()
    study.start("ada", pool)
    assert study.database.exists()
    assert study.ratings() == []


def test_a_name_is_the_same_reviewer_however_it_is_written(study, pool):
    assert study.start("Ada  Lovelace", pool) == study.start(" ada lovelace ", pool) == 1
    assert study.start("Grace", pool) == 2


@pytest.mark.parametrize("name", ["", "  ", "a" * (NAME_LENGTH + 1), "a\0b", "a\u202eb"])
def test_names_that_cannot_be_shown_are_refused(study, pool, name):
    with pytest.raises(StudyError):
        study.start(name, pool)


def test_a_name_is_kept_as_text(study, pool):
    name = "x'); DROP TABLE ratings; --"
    assert study.start(name, pool) == study.start(name, pool)
    assert study.ratings() == []


def test_answers_are_kept_by_reviewer_and_the_first_one_counts(study, pool):
    ada, grace = study.start("ada", pool), study.start("grace", pool)
    first = pool.tasks_of(ada)[0]
    study.rate(ada, pool, first, first.choices[0], 1.234)
    study.rate(ada, pool, first, first.choices[1], 9)
    assert Study(study.database, ()).answered(ada) == {first.number}
    assert study.answered(grace) == set()
    (kept,) = study.ratings()
    assert kept.answer == first.choices[0]
    assert (kept.seconds, kept.sources, kept.choices) == (1.23, first.sources, first.choices)
    assert kept.word == pool.word(first)


def test_an_answer_to_another_question_is_refused(study, pool):
    ada = study.start("ada", pool)
    for task in pool.tasks:
        for answer in ("", "nonsense", UNKNOWN if task.kind == PAIR else "left"):
            with pytest.raises(StudyError):
                study.rate(ada, pool, task, answer, 1)
    assert study.ratings() == []


def test_answers_of_two_studies_are_not_mixed(study, pool):
    ada = study.start("ada", pool)
    other = pool_of(seed=5)
    with pytest.raises(StudyError, match="--study-file"):
        study.start("ada", other)
    with pytest.raises(StudyError, match="--study-file"):
        study.rate(ada, other, other.tasks[0], SAME, 1)
    assert study.ratings() == []


def test_a_file_that_is_no_study_is_left_alone(tmp_path, pool):
    text, tables, newer = tmp_path / "text", tmp_path / "tables", tmp_path / "newer"
    text.write_text("some notes " * 100)
    with sqlite3.connect(tables) as connection:
        connection.execute("CREATE TABLE notes (text)")
    Study(newer, ()).start("ada", pool)
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    for file in (text, tables, newer):
        before = file.read_bytes()
        with pytest.raises(StudyError, match="no study file"):
            Study(file, ()).start("grace", pool)
        with pytest.raises(StudyError, match="no study file"):
            Study(file, ()).ratings()
        assert file.read_bytes() == before


def test_a_file_that_cannot_be_written_is_told(tmp_path, pool):
    with pytest.raises(StudyError, match="Check the folder"):
        Study(tmp_path / "nowhere" / "study.sqlite", ()).start("ada", pool)


def test_sessions_that_write_at_once_lose_nothing(tmp_path, pool):
    names = ["ada", "grace", "ada", "alan", "edsger", "barbara"]
    together = Barrier(len(names))

    def take_part(reviewer: str) -> int:
        study = Study(tmp_path / "study.sqlite", ())
        together.wait()
        number = study.start(reviewer, pool)
        for task in pool.tasks_of(number):
            study.rate(number, pool, task, SAME if task.kind == PAIR else UNKNOWN, 1)
        return number

    with ThreadPoolExecutor(len(names)) as threads:
        numbers = list(threads.map(take_part, names))
    assert numbers[0] == numbers[2]
    assert sorted(set(numbers)) == [1, 2, 3, 4, 5]
    kept = Counter(one.reviewer for one in Study(tmp_path / "study.sqlite", ()).ratings())
    assert kept == dict.fromkeys(numbers, len(pool.tasks))


def test_the_csv_has_a_row_a_rating_with_sources_and_no_formula(study, pool):
    named = replace(pool.subjects[0], name="=cmd|'/c calc'!A1.jpg")
    pool = make_pool([named, *pool.subjects[1:]], model="none")
    ada = study.start("=secret", pool)
    for task in pool.tasks_of(ada):
        study.rate(ada, pool, task, "left" if task.kind == PAIR else pool.word(task), 1)
    text = to_csv(study.ratings()).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(pool.tasks)
    assert not any(cell.startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    assert any("cmd" in row["photograph"] for row in rows)
    assert "secret" not in text
    for task, row in zip(pool.tasks_of(ada), rows):
        assert row["sources"].split() == list(task.sources)
        assert row["outcome"] == (task.sources[0] if task.kind == PAIR else "right")


def test_outcomes_name_the_source_or_say_whether_a_guess_was_right():
    assert [rating(answer=answer).outcome for answer in PAIR_ANSWERS] == ["region_word", "attention", SAME, NEITHER]
    guess = rating(kind=GUESS, sources=("grad_cam",), choices=("dog", "snow"))
    outcomes = [replace(guess, answer=answer).outcome for answer in ("dog", "snow", UNKNOWN)]
    assert outcomes == ["right", "wrong", UNKNOWN]


@pytest.mark.parametrize(
    ("successes", "answers", "low", "high"),
    # Newcombe (1998), Statistics in Medicine 17, table I, to four places.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_the_published_ones(successes, answers, low, high):
    assert wilson(successes, answers) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(answers - successes, answers)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize(("successes", "answers"), [(0, 0), (3, 2), (-1, 2)])
def test_what_is_no_share_has_no_interval(successes, answers):
    with pytest.raises(ValueError, match="no share"):
        wilson(successes, answers)


def test_ties_count_a_half_for_both():
    found = analyse([rating(answer=answer) for answer in ("left", SAME, NEITHER, "left")])
    assert found.wins["region_word"].share == 0.75
    assert found.against["attention", "region_word"].share == 0.25
    assert found.wins["attention"].answers == 4
    assert set(found.wins) == {"region_word", "attention"}


def test_guesses_count_as_right_only_where_the_word_was_chosen():
    guess = rating(kind=GUESS, sources=("grad_cam",), choices=("dog", "snow"))
    found = analyse([replace(guess, answer=answer) for answer in ("dog", "snow", UNKNOWN, UNKNOWN)])
    assert found.guessed["grad_cam"].share == 0.25
    assert set(found.guessed) == {"grad_cam"}


def test_the_analysis_finds_a_simulated_preference(pool):
    """Region-word maps win seven of ten times and name the word four of seven; shuffled ones never win."""
    random = np.random.default_rng(0)
    found = analyse(
        [
            rating(
                reviewer=reviewer,
                kind=task.kind,
                word=pool.word(task),
                sources=task.sources,
                answer=simulated(pool, task, random),
                seconds=random.uniform(1, 5),
            )
            for reviewer in range(1, 13)
            for task in pool.tasks_of(reviewer)
        ]
    )
    assert found.reviewers == 12
    assert found.pairs + found.guesses == 12 * len(pool.tasks)
    assert 1 < found.seconds < 5
    best = found.against["region_word", "attention"]
    assert best.low < 0.7 < best.high
    assert best.low > 0.5
    assert found.against["shuffled", "grad_cam"].share == 0
    assert max(found.wins, key=lambda source: found.wins[source].share) == "region_word"
    assert min(found.wins, key=lambda source: found.wins[source].share) == "shuffled"
    assert found.guessed["region_word"].low < 4 / 7 < found.guessed["region_word"].high
    assert found.guessed["shuffled"].low < 0.25 < found.guessed["shuffled"].high
    assert sum(share.answers for share in found.wins.values()) == 2 * found.pairs


def simulated(pool: Pool, task: Task, random: np.random.Generator) -> str:
    if task.kind == GUESS:
        # Who sees the word three of seven times, and else takes any of four, is right four of seven times.
        seen = task.sources == ("region_word",) and random.random() < 3 / 7
        return pool.word(task) if seen else task.choices[random.integers(CHOICES)]
    if "shuffled" in task.sources:
        return "left" if task.sources[1] == "shuffled" else "right"
    if "region_word" not in task.sources:
        return SAME
    won = random.random() < 0.7
    return "left" if (task.sources[0] == "region_word") == won else "right"


def test_an_empty_study_has_nothing_to_show():
    found = analyse([])
    assert (found.reviewers, found.pairs, found.guesses) == (0, 0, 0)
    assert found.wins == found.against == found.guessed == {}


def test_the_figure_shows_every_interval():
    ratings = [rating(), rating(kind=GUESS, sources=("grad_cam",), choices=("dog", "snow"), answer="dog")]
    found = analyse(ratings)
    wins, guessed = figure(found).axes
    drawn = [line.get_xdata() for line in wins.lines if len(line.get_xdata()) == 2]
    share = found.wins["region_word"]
    assert any(np.allclose(x, [100 * share.low, 100 * share.high]) for x in drawn)
    assert len(wins.lines) == 2 * len(found.wins) + 1  # an interval and a point each, and the line of chance
    assert len(guessed.lines) == 2 * len(found.guessed) + 1

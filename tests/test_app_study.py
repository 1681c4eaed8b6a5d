"""The study tab: what is sent to a reviewer, then the whole way through it in a real browser."""

from __future__ import annotations

import base64
import csv
import io
import json

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from captioner.app import study as tab
from captioner.photographs import photographs_in
from captioner.rendering import overlay
from captioner.study import UNKNOWN, Study
from captioner.study_tasks import GUESS, PAIR, SOURCES, prepare
from tests.browser import barriers, served
from tests.test_study import CAPTIONS, Speaker


@pytest.fixture
def study(tmp_path) -> Study:
    """A study of five photographs nobody has answered yet."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number in range(len(CAPTIONS)):
        pixels = np.full((60, 80, 3), 50 * number, dtype=np.uint8)
        pixels[20:40, 10 * number : 10 * number + 30] = (250, 220, 40)
        Image.fromarray(pixels).save(folder / f"secret-{number}.png")
    return Study(tmp_path / "study.sqlite", photographs_in(folder))


@pytest.fixture
def pool(study):
    return prepare(Speaker(), study.photographs)


@pytest.fixture
def model() -> Speaker:
    return Speaker()


@pytest.fixture
def app(model, study) -> gr.Blocks:
    with gr.Blocks() as blocks:
        tab.study_page(model, study)
    return blocks


class Handlers:
    """The tab's event handlers, called as Gradio calls them; answers are keyed by element id."""

    def __init__(self, blocks: gr.Blocks):
        self.blocks = blocks
        self.reviewer = None
        self.shown = None  # in the page

    def start(self, name: str) -> dict:
        return self._call("study-start", name)

    def answer(self, choice, token=None) -> dict:
        event = gr.EventData(None, {"token": token or self.shown["token"], "choice": choice})
        return self._call("study-task", self.reviewer, event)

    def results(self) -> str:
        return self._call("study-show", self.reviewer)["study-found"]

    def _call(self, target: str, *inputs) -> dict:
        found = next(
            function
            for function in self.blocks.fns.values()
            if any(self.blocks.blocks[block].elem_id == target for block, _ in function.targets)
        )
        answer = {block.elem_id or block.get_block_name(): value for block, value in found.fn(*inputs).items()}
        self.reviewer = answer.pop("state", self.reviewer)
        self.shown = answer.get("study-task", self.shown)
        return answer


@pytest.fixture
def handlers(app) -> Handlers:
    return Handlers(app)


def answered(study: Study, pool, reviewer: int, count: int) -> None:
    """Answer the first tasks of a reviewer outside the page."""
    for task in pool.tasks_of(reviewer)[:count]:
        study.rate(reviewer, pool, task, "left" if task.kind == PAIR else UNKNOWN, 1)


def pixels(source: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) as picture:
        return np.asarray(picture.convert("RGB")).astype(float)


def test_what_is_sent_tells_neither_sources_nor_right_answers(handlers, pool):
    handlers.start("ada")
    for task in pool.tasks_of(1):
        shown = handlers.shown
        known = {"token", "number", "total", "kind", "maps"}
        assert set(shown) == known | ({"choices"} if task.kind == GUESS else {"words", "marked", "photograph"})
        pictures = [*shown["maps"], *([shown["photograph"]] if task.kind == PAIR else [])]
        assert all(set(picture) == {"src", "width", "height"} for picture in pictures)
        assert all(picture["src"].startswith("data:image/jpeg;base64,") for picture in pictures)
        told = {key: value for key, value in shown.items() if key not in ("maps", "photograph", "token")}
        for secret in (*SOURCES, "secret"):
            assert secret not in json.dumps(told)
            assert all(secret.encode() not in base64.b64decode(p["src"].partition(",")[2]) for p in pictures)
        assert len(bytes.fromhex(shown["token"])) == 8  # random, and says nothing
        if task.kind == GUESS:
            assert shown["choices"] == list(task.choices)
        handlers.answer(0)
    assert handlers.shown["kind"] == "finished"


def test_the_pictures_are_the_maps_from_left_to_right(handlers, pool):
    handlers.start("ada")
    for task in pool.tasks_of(1):
        subject = pool.subjects[task.subject]
        expected = [np.asarray(overlay(subject.picture, each)).astype(float) for each in pool.maps(task)]
        for index, picture in enumerate(handlers.shown["maps"]):
            distances = [np.abs(pixels(picture["src"]) - each).mean() for each in expected]
            assert np.argmin(distances) == index
        handlers.answer(0)


def test_buttons_are_kept_as_what_they_say(handlers, study, pool):
    handlers.start("ada")
    tasks = pool.tasks_of(1)
    choices = [index % (5 if task.kind == GUESS else 4) for index, task in enumerate(tasks)]
    for choice in choices:
        assert handlers.answer(choice)["study-message"] == ""
    names = {GUESS: lambda task: (*task.choices, "unknown"), PAIR: lambda _: ("left", "right", "same", "neither")}
    assert [one.answer for one in study.ratings()] == [
        names[task.kind](task)[choice] for task, choice in zip(tasks, choices)
    ]
    assert all(one.seconds >= 0 for one in study.ratings())


def test_who_comes_back_goes_on_where_they_were(handlers, model, study):
    handlers.start("Ada")
    for _ in range(3):
        handlers.answer(1)
    left = handlers.shown
    with gr.Blocks() as again:
        tab.study_page(model, study)
    later = Handlers(again)
    later.start("ada")
    assert later.shown | {"token": ""} == left | {"token": ""}
    assert later.shown["number"] == 4
    later.start("grace")
    assert later.shown["number"] == 1


def test_a_second_click_answers_no_question_that_was_not_seen(handlers, study):
    handlers.start("ada")
    first = handlers.shown["token"]
    handlers.answer(0)
    second = handlers.shown
    handlers.answer(0, token=first)
    assert len(study.ratings()) == 1
    assert handlers.shown | {"token": ""} == second | {"token": ""}
    handlers.answer(0)
    assert len(study.ratings()) == 2


def test_two_windows_of_one_reviewer_never_ask_the_same_again(app, study):
    one, other = Handlers(app), Handlers(app)
    one.start("ada")
    other.start("ada")
    one.answer(0)
    one.answer(0)
    other.answer(1)  # what the first window has answered
    assert study.ratings()[0].answer == one.reviewer.tasks[0].choices[0]
    assert len(study.ratings()) == 2
    assert other.shown["number"] == one.shown["number"] == 3


@pytest.mark.parametrize("choice", [-1, 5, None, "left", 1.5, [0]])
def test_an_answer_that_no_button_gives_is_refused(handlers, study, choice):
    handlers.start("ada")
    assert "Choose one of the buttons" in handlers.answer(choice)["study-message"]
    assert study.ratings() == []
    handlers.answer(0)
    assert len(study.ratings()) == 1


def test_without_a_session_the_name_is_asked_for_again(handlers):
    answer = handlers._call("study-task", None, gr.EventData(None, {}))
    assert answer["study-begin"]["visible"]
    assert "name" in answer["study-message"]


def test_a_bad_name_is_told_before_any_photograph_is_explained(handlers, model, study):
    for name in ("", "a" * 100, None):
        assert set(handlers.start(name)) == {"study-message"}
    assert model.asked == 0
    assert not study.database.exists()


def test_photographs_are_explained_once_for_all_reviewers(handlers, model, study):
    assert model.asked == 0
    for name in ("ada", "grace", "ada"):
        handlers.start(name)
        handlers.answer(0)
    assert model.asked == len(study.photographs)


def test_results_are_kept_from_a_reviewer_with_tasks_left(handlers, app, study, pool):
    assert "Nobody has answered yet" in handlers.results()
    assert handlers.start("ada")["study-found"] == ""
    answered(study, pool, 1, len(pool.tasks) - 1)
    refused = handlers.results()
    assert "remaining tasks" in refused
    assert "Attention" not in refused
    handlers.start("ada")
    handlers.answer(0)
    assert handlers.shown["kind"] == "finished"
    for label in ("Region-word", "Attention", "Grad-CAM"):
        assert label in handlers.results()
    assert "1 reviewer, 24 comparisons, 16 guesses" in Handlers(app).results()


def test_an_unexpected_failure_is_told_without_its_insides(handlers, study, monkeypatch):
    monkeypatch.setattr(study, "start", lambda *_: 1 / 0)
    answer = handlers.start("ada")
    assert "Something went wrong" in answer["study-message"]
    assert "division" not in str(answer)


def test_a_file_of_another_study_is_told(handlers, study):
    study.database.write_text("notes " * 100)
    assert "--study-file" in handlers.start("ada")["study-message"]
    assert "--study-file" in handlers.results()


def test_nothing_of_the_study_is_in_the_api(app):
    assert {function.api_visibility for function in app.fns.values()} == {"private"}


def test_the_whole_way_in_a_browser(app, study, pool, page):
    total, guesses = len(pool.tasks), sum(task.kind == GUESS for task in pool.tasks)

    def start(address: str, expected: int) -> None:
        page.goto(address)
        page.fill("#study-name input, #study-name textarea", "Ada")
        page.click("#study-start")
        progress(expected)

    def progress(number: int) -> None:
        page.wait_for_function(
            "text => document.querySelector('#study-progress')?.textContent === text", arg=f"{number} of {total}"
        )

    with served(app) as address:
        page.goto(address)
        page.click("#study-start")
        page.wait_for_selector("#study-message [role=alert]")
        start(address, 1)
        assert page.locator("#study-task img").count() == 1
        assert page.locator("#study-left").count() == 0
        assert page.locator("#study-guess-2").inner_text().endswith(f"“{pool.tasks_of(1)[0].choices[1]}”")
        page.click("#study-guess-2")
        progress(2)
        page.keyboard.press("5")
        progress(3)
        assert [one.answer for one in study.ratings()] == [pool.tasks_of(1)[0].choices[1], UNKNOWN]

        answered(study, pool, 1, guesses)
        start(address, guesses + 1)
        task = pool.tasks_of(1)[guesses]
        assert page.locator("#study-task mark").inner_text() == pool.word(task)
        assert [image.get_attribute("alt") for image in page.locator("#study-task img").all()] == [
            "Photograph",
            "Map A",
            "Map B",
        ]
        page.locator("#study-same").focus()
        assert barriers(page, "#study-task") == []
        page.keyboard.press("Enter")
        progress(guesses + 2)
        page.keyboard.press("2")
        progress(guesses + 3)
        assert [one.answer for one in study.ratings()][-2:] == ["same", "right"]
        html = page.inner_html("body").lower()
        assert not any(secret in html for secret in (*SOURCES, "grad-cam", "region-word", "secret"))
        page.click("#study-results button")
        page.click("#study-show")
        page.wait_for_selector("#study-found [role=alert]")

        answered(study, pool, 1, total - 1)
        start(address, total)
        page.keyboard.press("4")
        page.wait_for_selector("text=Thank you")
        page.click("#study-results button")
        page.click("#study-show")
        page.wait_for_selector("#study-found table")
        assert barriers(page, "#study-begin", "#study-task", "#study-found") == []
        page.set_viewport_size({"width": 390, "height": 800})
        assert barriers(page, "#study-task", "#study-found") == []
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert f"{total - guesses} comparisons" in page.inner_text("#study-found")
        with page.expect_download() as download:
            page.click("#study-csv")
        with open(download.value.path(), encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == total
        assert {source for row in rows for source in row["sources"].split()} == set(SOURCES)
        start(address, total)
        page.wait_for_selector("text=Thank you")


def test_digits_typed_into_a_field_answer_nothing(app, study, page):
    with served(app) as address:
        page.goto(address)
        page.fill("#study-name input, #study-name textarea", "12")
        page.press("#study-name input, #study-name textarea", "Enter")
        page.wait_for_selector("#study-guess-1")
        page.evaluate("document.body.append(document.createElement('input'))")
        page.locator("body > input").focus()
        page.keyboard.type("123")
        page.locator("#study-guess-3").focus()
        page.keyboard.press("Control+2")
        page.keyboard.press("3")
        page.wait_for_function("document.querySelector('#study-progress').textContent.startsWith('2 of')")
    (kept,) = study.ratings()
    assert kept.answer == kept.choices[2]

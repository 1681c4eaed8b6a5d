"""The app: its handlers as functions, then the main path in a real browser."""

from __future__ import annotations

import io
import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from captioner import app
from captioner.predictor import Captioner
from tests.tiny import tiny_model

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage"
).split()
SECONDS = 30_000  # milliseconds; a busy machine is slow, and that is no failure


class CountingCaptioner(Captioner):
    """A tiny captioner that knows how often it was asked."""

    def __init__(self):
        super().__init__(tiny_model(image_size=96), name="tiny")
        self.asked = 0

    def explain(self, *arguments, **options):
        self.asked += 1
        return super().explain(*arguments, **options)


class Handlers:
    """The app's event handlers, called as Gradio calls them; answers are keyed by element id, state by its place."""

    def __init__(self, model: Captioner):
        self.blocks = app.build(model)
        self.explained = None
        self.selected = 0

    def call(self, target: str, *inputs) -> dict:
        found = next(
            function
            for function in self.blocks.fns.values()
            if any(self.blocks.blocks[block].elem_id == target for block, _ in function.targets if block is not None)
        )
        answer = found.fn(*inputs)
        states = [block for block in found.outputs if block.get_block_name() == "state"]
        for block in states:
            if block in answer:
                name = "selected" if isinstance(answer[block], int) else "explained"
                setattr(self, name, answer[block])
        return {block.elem_id: value for block, value in answer.items() if block not in states}

    def upload(self, path, first_words: str = "") -> dict:
        return self.call("photo", path and {"path": str(path)}, first_words, self.explained)

    def click(self, index: int) -> dict:
        return self.call("caption", self.explained, SimpleNamespace(index=index))

    def step(self, button: str) -> dict:
        return self.call(button, self.explained, self.selected)


@pytest.fixture
def model() -> CountingCaptioner:
    return CountingCaptioner()


@pytest.fixture
def handlers(model) -> Handlers:
    return Handlers(model)


@pytest.fixture
def picture(tmp_path, photograph):
    path = tmp_path / "photograph.png"
    photograph.save(path)
    return path


@pytest.fixture
def no_picture(tmp_path):
    path = tmp_path / "broken.png"
    path.write_bytes(b"no photograph at all " * 20)
    return path


def marked(answer: dict) -> list[int]:
    return [i for i, word in enumerate(answer["caption"]["words"]) if word["selected"] == "true"]


def test_an_upload_gives_a_caption_with_its_first_content_word_chosen(handlers, picture):
    answer = handlers.upload(picture)
    words = [word["text"] for word in answer["caption"]["words"]]
    assert words == [word.text for word in handlers.explained.words]
    assert marked(answer) == [handlers.selected]
    assert all(word in app.FUNCTION_WORDS for word in words[: handlers.selected])
    assert words[handlers.selected] in answer["word-detail"]
    assert answer["message"] == ""


def test_choosing_words_never_runs_the_model(handlers, model, picture):
    handlers.upload(picture)
    for index in range(len(handlers.explained.words)):
        assert marked(handlers.click(index)) == [index]
    handlers.step("previous")
    handlers.step("next")
    assert model.asked == 1


def test_every_word_has_its_own_picture(handlers, picture):
    handlers.upload(picture)
    shown = [handlers.click(index)["overlay"]["value"] for index in range(len(handlers.explained.words))]
    assert any(np.any(np.asarray(shown[0]) != np.asarray(other)) for other in shown[1:])


def test_stepping_stops_at_both_ends(handlers, picture):
    handlers.upload(picture)
    last = len(handlers.explained.words) - 1
    first = handlers.click(0)
    assert not first["previous"]["interactive"]
    assert marked(handlers.step("previous")) == [0]
    end = handlers.click(last)
    assert not end["next"]["interactive"]
    assert marked(handlers.step("next")) == [last]


def test_without_a_caption_there_is_nothing_to_choose(handlers):
    assert handlers.step("next") == {}
    assert handlers.upload(None) == {"message": ""}
    assert "photograph" in handlers.upload(None, "a dog")["message"]


def test_a_bad_upload_says_why_and_keeps_the_caption(handlers, picture, no_picture):
    handlers.upload(picture)
    kept = handlers.explained
    answer = handlers.upload(no_picture)
    assert set(answer) == {"message", "photo"}
    assert "not a photograph" in answer["message"]
    assert answer["photo"] == kept.photograph
    assert handlers.explained is kept


def test_own_first_words_begin_the_caption(handlers, picture):
    handlers.upload(picture, "two dog")
    assert handlers.explained.text.startswith("two dog")
    answer = handlers.upload(picture, "<b>unheard</b> of")
    assert set(answer) == {"message"}
    assert "<b>" not in answer["message"]
    assert handlers.explained.text.startswith("two dog")


def test_an_unexpected_failure_is_told_without_its_insides(handlers, model, picture, monkeypatch):
    monkeypatch.setattr(model, "explain", lambda *_, **__: 1 / 0)
    answer = handlers.upload(picture)
    assert set(answer) == {"message"}
    assert "Something went wrong" in answer["message"]
    assert "ZeroDivision" not in answer["message"]


def test_a_strange_photograph_has_a_notice_beside_its_caption(handlers, model, picture, monkeypatch):
    explain = model.explain

    def notice(familiarity: float | None) -> str:
        explained = replace(explain(picture), familiarity=familiarity)
        monkeypatch.setattr(model, "explain", lambda *_, **__: explained)
        return handlers.upload(picture)["unfamiliar"]

    assert "unlike those the model learnt from" in notice(0.02)
    assert "2%" in notice(0.02)
    assert notice(0.5) == notice(None) == ""


def test_a_notice_of_the_model_is_shown(model):
    model.notice = "The Hub <is> away."
    texts = [block.value for block in app.build(model).blocks.values() if block.elem_id == "notice"]
    assert texts == ['<p role="status">The Hub &lt;is&gt; away.</p>']


def test_a_model_that_is_not_there_is_a_message_and_exit_code_2(tmp_path, capsys):
    assert app.main(["--model", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


@pytest.fixture
def page(model):
    """The app of ``model`` in a browser."""
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium, or set CHROMIUM to its path")
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    served = app.build(model)
    app.launch(served, server_name="127.0.0.1", server_port=None, prevent_thread_lock=True, quiet=True)
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
            page = browser.new_page()
            page.set_default_timeout(SECONDS)
            page.goto(served.local_url)
            yield page
            browser.close()
    finally:
        served.close(verbose=False)


def test_the_main_path_in_a_browser(page, model, picture, no_picture):
    words, chosen = page.locator("#caption button"), page.locator('#caption button[aria-pressed="true"]')

    def shown_after(action) -> np.ndarray:
        """The pixels of the overlay once an action has changed it."""
        before = page.evaluate("document.querySelector('#overlay img')?.src")
        action()
        changed = "before => { const now = document.querySelector('#overlay img')?.src; return now && now !== before; }"
        page.wait_for_function(changed, arg=before)
        answer = page.request.get(page.locator("#overlay img").get_attribute("src"))
        return np.asarray(Image.open(io.BytesIO(answer.body())))

    def upload(path) -> None:
        page.set_input_files("#photo input[type=file]", path)

    assert page.locator("#next").is_disabled()
    shown_after(lambda: upload(picture))
    caption = page.inner_text("#caption .words")
    assert words.count() > 1
    assert chosen.count() == 1

    first = shown_after(words.first.click) if words.first.get_attribute("aria-pressed") == "false" else None
    second = shown_after(words.nth(1).click)
    assert chosen.inner_text() == words.nth(1).inner_text()
    assert words.nth(1).inner_text() in page.inner_text("#word-detail")
    again = shown_after(page.locator("#previous").click)
    assert np.any(again != second)
    assert first is None or np.array_equal(again, first)
    assert np.array_equal(shown_after(page.locator("#next").click), second)

    page.locator("#photo button[aria-label='Remove Image']").click()
    upload(no_picture)
    page.wait_for_selector("#message [role=alert]")
    assert "not a photograph" in page.inner_text("#message")
    assert page.inner_text("#caption .words") == caption
    assert model.asked == 2  # the photograph and the file that was none; no click

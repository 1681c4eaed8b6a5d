"""The app: the first tab's handlers as functions, then everything a person does there in a real browser."""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from captioner import app
from captioner.explanation import ExplainedCaption
from captioner.predictor import Captioner
from captioner.session import Session
from captioner.word_classes import is_content
from tests.browser import barriers, free_port, served, wait_for
from tests.hub_server import HubServer
from tests.tiny import tiny_model

ROOT = Path(__file__).resolve().parents[1]


class CountingCaptioner(Captioner):
    """A tiny captioner that knows how often its network ran."""

    def __init__(self):
        super().__init__(tiny_model(image_size=96), name="tiny")
        self.runs = 0
        for part in (self.model.encoder, self.model.decoder):
            part.register_forward_hook(self._count)

    def _count(self, *_):
        self.runs += 1


class Handlers:
    """The app's event handlers, called as Gradio calls them; answers are keyed by element id."""

    def __init__(self, model: Captioner):
        self.blocks = app.build(model)
        self.session, self.wish = None, {}

    def call(self, target: str, event: str, *inputs) -> dict:
        (found,) = (
            function
            for function in self.blocks.fns.values()
            if any(name == event and self.blocks.blocks[block].elem_id == target for block, name in function.targets)
        )
        return self.answer(found, *inputs)

    def answer(self, found, *inputs) -> dict:
        answer = found.fn(*inputs)
        if not any(isinstance(key, gr.components.Component) for key in answer):  # for the one output there is
            return {found.outputs[0].elem_id: answer}
        states = [block for block in found.outputs if isinstance(block, gr.State)]
        for block in states:
            self.session = answer.get(block, self.session)
        return {block.elem_id: value for block, value in answer.items() if block not in states}

    def want(self, path, first_words: str = "", event: tuple[str, str] = ("photo", "input")) -> dict:
        return self.call(*event, path and {"path": str(path)}, first_words, self.wish)

    def caption(self, path, first_words: str = "") -> dict:
        """What follows when it is a wish's turn."""
        found = next(each for each in self.blocks.fns.values() if each.name == "on_photograph")
        return self.answer(found, path and {"path": str(path)}, first_words, self.session, self.wish)

    def upload(self, path, first_words: str = "") -> dict:
        self.want(path, first_words)
        return self.caption(path, first_words)

    def shown(self) -> dict:
        """What the explorer hears after it has shown something."""
        found = next(each for each in self.blocks.fns.values() if each.name == "on_shown")
        return heard(self.answer(found, self.session)["explorer"])

    def ask(self, event: str, **details) -> dict:
        """What the explorer hears after an event of its own, by property."""
        details = {"photograph": self.session and self.session.name, "version": 0} | details
        update = self.call("explorer", event, self.session, SimpleNamespace(**details))["explorer"]
        return heard(update)


def heard(update: dict) -> dict:
    """What an update of the explorer tells it, by property."""
    return {name: json.loads(text) for name, text in update.items() if name != "__type__"}


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


def test_an_upload_gives_a_caption(handlers, picture):
    answer = handlers.upload(picture)
    told = heard(answer["explorer"])["value"]
    words = [word.text for word in handlers.session.versions[0].explained.words]
    assert [word["text"] for word in told["data"]["words"]] == words
    assert told["number"] == 0
    assert answer["message"] == ""


def test_a_page_that_opens_captions_nothing_unless_its_address_names_an_example(handlers):
    """Else what a quick person uploads meanwhile would be captioned twice."""
    functions = handlers.blocks.fns
    opening = {number for number, each in functions.items() if any(name == "load" for _, name in each.targets)}
    assert [each.name for each in functions.values() if each.trigger_after in opening] == []
    opened = next(each.fn for each in functions.values() if each.name == "on_load")
    assert opened(SimpleNamespace(query_params={})) is None
    assert opened(SimpleNamespace(query_params={"example": "no such"})) is None
    assert Path(opened(SimpleNamespace(query_params={"example": "raccoon"}))).stem == "raccoon"


def test_without_a_photograph_there_is_nothing_to_caption(handlers):
    assert handlers.want(None) == {"message": ""}
    for first_words in ("", "a dog"):
        assert "photograph" in handlers.want(None, first_words, ("prefix", "submit"))["message"]
    assert "Upload" in handlers.ask("choose", position=0, word="dog")["error"]["text"]


def test_a_bad_upload_says_why_and_keeps_the_caption(handlers, picture, no_picture):
    handlers.upload(picture)
    kept = handlers.session
    answer = handlers.upload(no_picture)
    assert set(answer) == {"message", "photo", "explorer"}
    assert "not a photograph" in answer["message"]
    assert answer["photo"] == kept.versions[0].explained.photograph
    assert handlers.session is kept


def test_own_first_words_begin_the_caption(handlers, picture):
    handlers.upload(picture, "two dog")
    assert handlers.session.versions[0].explained.text.startswith("two dog")
    kept = handlers.session
    answer = handlers.upload(picture, "<b>unheard</b> of")
    assert set(answer) == {"message", "explorer"}
    assert heard(answer["explorer"])["error"]["text"] == ""  # nothing is waited for any longer
    assert "<b>" not in answer["message"]
    assert handlers.session is kept


def test_a_chosen_word_and_erased_regions_give_further_versions(handlers, picture):
    handlers.upload(picture)
    word = handlers.session.versions[0].explained.words[1].alternatives[0][0]
    chosen = handlers.ask("choose", position=1, word=word)["value"]
    assert chosen["number"] == 1
    assert chosen["comparison"] == {"version": 0}
    assert chosen["data"]["words"][1]["text"] == word
    erased = handlers.ask("erase", regions=[0, 4])["value"]
    assert erased["number"] == 2
    assert erased["data"]["hidden"] == [0, 4]
    before = handlers.session.versions[0].explained.words
    assert erased["comparison"]["version"] == 0
    assert len(erased["comparison"]["probabilities"]) == len(before)


def test_what_cannot_be_done_is_said_and_changes_nothing(handlers, picture):
    handlers.upload(picture)
    for event, details in {
        "choose": {"position": 0, "word": "unheard"},
        "erase": {"regions": []},
        "export": {"version": 3, "kind": "json", "colour_map": "viridis"},
    }.items():
        answer = handlers.ask(event, **details)
        assert set(answer) == {"error"}
        assert "went wrong" not in answer["error"]["text"]
    assert "Upload" in handlers.ask("erase", photograph="another", regions=[0])["error"]["text"]
    assert len(handlers.session.versions) == 1


def test_an_unexpected_failure_is_told_without_its_insides(handlers, model, picture, monkeypatch):
    handlers.upload(picture)
    monkeypatch.setattr(model, "explain", lambda *_, **__: 1 / 0)
    for text in (handlers.upload(picture)["message"], handlers.ask("erase", regions=[1])["error"]["text"]):
        assert "Something went wrong" in text
        assert "ZeroDivision" not in text
    assert len(handlers.session.versions) == 1


def test_of_photographs_asked_for_in_a_row_the_last_is_captioned(handlers, model, picture, tmp_path, monkeypatch):
    other = tmp_path / "other.png"
    Image.new("RGB", (80, 60), "red").save(other)
    handlers.want(picture)
    assert "waiting" in heard(handlers.want(other)["explorer"])
    runs = model.runs
    handlers.caption(picture)  # its turn comes when another is wanted already
    assert handlers.session is None
    assert model.runs == runs
    handlers.caption(other)
    kept = handlers.session
    assert kept is not None

    begin = Session.begin

    def interrupted(*arguments, **options):
        handlers.want(picture)
        return begin(*arguments, **options)

    monkeypatch.setattr(Session, "begin", interrupted)
    handlers.upload(other)  # and meanwhile another is wanted
    assert handlers.session is kept


def test_who_takes_the_photograph_away_meanwhile_waits_no_longer(handlers, picture):
    handlers.want(picture)
    handlers.want(None)
    handlers.caption(picture)
    assert heard(handlers.caption(None)["explorer"])["error"]["text"] == ""
    assert handlers.session is None


def test_every_version_is_tested_even_one_that_another_followed_at_once(handlers, picture):
    handlers.upload(picture)
    handlers.ask("erase", regions=[0])
    handlers.ask("erase", regions=[1])
    assert set(handlers.shown()["findings"]["findings"]) == {"0", "1", "2"}
    assert all(version.tested for version in handlers.session.versions)


@pytest.mark.parametrize("kind", ["json", "report", "png", "pdf", "gif", "zip"])
def test_every_version_can_be_taken_away(handlers, picture, kind):
    handlers.upload(picture)
    file = handlers.ask("export", kind=kind, colour_map="cividis")["download"]
    data = base64.b64decode(file["data"])
    explained = handlers.session.versions[0].explained
    if kind == "json":
        assert ExplainedCaption.from_json(data.decode()).to_json() == explained.to_json()
    elif kind == "report":
        assert explained.text in data.decode()
    elif kind in ("pdf", "zip"):
        assert data.startswith(b"%PDF" if kind == "pdf" else b"PK")
    else:
        assert Image.open(io.BytesIO(data)).format == kind.upper()


def test_a_notice_of_the_model_is_shown(model):
    model.notice = "The Hub <is> away."
    texts = [block.value for block in app.build(model).blocks.values() if block.elem_id == "notice"]
    assert texts == ['<p role="status">The Hub &lt;is&gt; away.</p>']


def test_a_model_that_is_not_there_is_a_message_and_exit_code_2(tmp_path, capsys):
    assert app.main(["--model", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert app.main(["--compare", str(tmp_path / "elsewhere")]) == 2
    assert "elsewhere" in capsys.readouterr().err


@pytest.fixture
def address(model):
    """The app of ``model``, served."""
    with served(app.build(model)) as address:
        yield address


class Person:
    """What a person does on the page, and sees."""

    def __init__(self, page, address: str):
        self.page = page
        page.goto(address)
        self.words = page.locator("#caption button")
        self.chosen = page.locator('#caption button[aria-pressed="true"]')

    def upload(self, path) -> None:
        self.page.set_input_files("#photo input[type=file]", path)

    def text(self) -> str:
        return self.page.inner_text("#caption .explorer-words")

    def shown_after(self, action) -> np.ndarray:
        """The pixels of the picture once an action has changed it."""
        before = self.page.evaluate("document.querySelector('#overlay img')?.src")
        action()
        changed = "before => { const now = document.querySelector('#overlay img')?.src; return now && now !== before; }"
        self.page.wait_for_function(changed, arg=before)
        data = self.page.locator("#overlay img").get_attribute("src").partition(",")[2]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))

    def versions(self, count: int) -> None:
        """Wait until there are so many versions of the caption."""
        self.page.wait_for_function(
            "count => document.querySelectorAll('.explorer-versions button').length === count", arg=count
        )

    def tested(self) -> None:
        """Wait until the caption shown has been tested."""
        self.page.wait_for_selector(".explorer-test", state="attached")


@pytest.fixture
def person(page, address) -> Person:
    return Person(page, address)


def test_the_main_path_in_a_browser(person, page, model, picture, no_picture):
    assert page.locator("#next").is_disabled()
    person.shown_after(lambda: person.upload(picture))
    person.tested()
    caption, runs = person.text(), model.runs
    assert person.words.count() > 1
    content = [word for word in person.words.all_inner_texts() if is_content(word)]
    assert person.chosen.all_inner_texts() == content[:1]

    person.words.first.click()
    second = person.shown_after(person.words.nth(1).click)
    assert person.chosen.inner_text() == person.words.nth(1).inner_text()
    assert person.words.nth(1).inner_text() in page.inner_text("#word-detail")
    first = person.shown_after(page.locator("#previous").click)
    assert np.any(first != second)
    assert np.array_equal(person.shown_after(page.locator("#next").click), second)
    assert np.array_equal(person.shown_after(lambda: page.keyboard.press("ArrowLeft")), first)
    page.keyboard.press("End")
    assert person.chosen.inner_text() == person.words.last.inner_text()
    assert page.locator("#next").is_disabled()
    page.locator("#overlay").click(position={"x": 20, "y": 20})
    assert "Row 1, column 1" in page.inner_text(".explorer-asked")
    page.keyboard.press("Escape")
    assert model.runs == runs

    page.locator("#photo button[aria-label='Remove Image']").click()
    person.upload(no_picture)
    page.wait_for_selector("#message [role=alert]")
    assert "not a photograph" in page.inner_text("#message")
    assert person.text() == caption
    assert person.chosen.inner_text() == person.words.last.inner_text()


def test_stepping_asks_the_server_for_nothing(person, page, picture):
    person.upload(picture)
    person.tested()
    asked = []
    page.on("request", lambda request: asked.append(request.url) if not request.url.startswith("data:") else None)
    for key in ("Home", "ArrowRight", "ArrowRight", "ArrowLeft"):
        person.words.first.focus()
        page.keyboard.press(key)
    person.words.last.click()
    assert [url for url in asked if "heartbeat" not in url] == []


def test_what_if_another_word_or_without_a_part(person, page, picture):
    person.upload(picture)
    person.tested()
    first = person.text()
    person.words.nth(1).click()
    other = page.locator(".explorer-alternatives button").first
    word = other.locator("span span").first.inner_text()
    other.click()
    person.versions(2)
    assert person.words.nth(1).inner_text() == word

    page.get_by_role("button", name="Erase parts").click()
    page.locator("#overlay").scroll_into_view_if_needed()
    box = page.locator("#overlay").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 6, box["y"] + box["height"] / 6)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 6, steps=4)
    page.mouse.up()
    page.get_by_role("button", name="Caption again").click()
    person.versions(3)
    assert "2 of 9 regions erased" in page.inner_text(".explorer-versions")
    assert "→" in page.inner_text(".explorer-comparison")
    page.locator(".explorer-versions button").first.click()
    assert person.text() == first


def test_a_saved_report_opens_without_a_network(person, page, browser, picture, tmp_path):
    person.upload(picture)
    person.tested()
    with page.expect_download() as saved:
        page.get_by_role("button", name="report", exact=True).click()
    report = tmp_path / "report.html"
    saved.value.save_as(report)
    offline = browser.new_context(offline=True)
    opened = offline.new_page()
    opened.goto(report.as_uri())
    opened.wait_for_selector("#caption button")
    assert opened.inner_text("#caption .explorer-words") == person.text()
    opened.locator("#caption button").nth(1).click()
    assert opened.locator("#caption button").nth(1).inner_text() in opened.inner_text("#word-detail")
    assert opened.locator(".explorer-test").count() == 1
    offline.close()


def test_one_click_on_an_example_or_its_address_gives_its_caption(page, address, model):
    person = Person(page, f"{address}?example=raccoon")
    person.tested()
    runs = model.runs
    linked = person.text()
    person.page.goto(address)
    person.page.locator("#examples button").last.click()
    person.tested()
    assert person.text() == linked
    assert model.runs > runs


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_nobody_is_kept_out(browser, address, picture, scheme, width):
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    page = context.new_page()
    person = Person(page, address)
    person.upload(picture)
    person.tested()
    page.locator("#overlay").click(position={"x": 20, "y": 20})
    page.locator(".explorer-settings summary").click()
    # Gradio's own components are Gradio's to mend, but pictures to click on need names.
    ours = ("#introduction", "#explorer", "[id$='message']", "#many-table", "#compare-summary", "#examples button")
    assert barriers(page, *ours) == []
    for tab in ("Many photos", "Compare") if width > 390 else ():  # on a phone they are in a menu of Gradio's
        page.get_by_role("tab", name=tab).click()
        assert barriers(page, *ours) == []
    context.close()


@pytest.mark.parametrize("fault", [None, "stalls"])
def test_the_app_shows_a_model_of_the_hub_or_says_why_it_is_another(page, picture, model_folder, tmp_path, fault):
    with HubServer() as hub, ExitStack() as ending:
        hub.publish("user/model", model_folder)
        hub.fault = fault
        port = free_port()
        command = [sys.executable, str(ROOT / "app.py"), "--model", "user/model", "--port", str(port)]
        process = subprocess.Popen(command, cwd=tmp_path, env=hub.environment(tmp_path / "home"))
        ending.callback(process.wait)
        ending.callback(process.terminate)
        wait_for(port, process)
        person = Person(page, f"http://127.0.0.1:{port}")
        person.upload(picture)
        person.tested()
        assert person.words.count() > 0
        assert page.locator("#notice").count() == (1 if fault else 0)
        with page.expect_download() as saved:
            page.get_by_role("button", name="JSON", exact=True).click()
        explained = ExplainedCaption.from_json(Path(saved.value.path()).read_text())
        assert (explained.model == "user/model") == (fault is None)

"""The explorer as a component of the app, and the tab that compares two captions with two of it."""

from __future__ import annotations

import json
from dataclasses import replace
from html import unescape

import gradio as gr
import pytest

from captioner.app.compare import compare, difference
from captioner.app.component import downloaded, explorer, failed, found, shown
from captioner.app.messages import FAILED
from captioner.explorer import explorer_data
from captioner.exports import Exported
from captioner.predictor import Captioner
from tests.browser import served
from tests.tiny import tiny_model

# Notes what the explorer is told, not what it tells itself; what it makes of that is tested with the explorer.
NOTE = """() => {
  window.noted = [];
  let depth = 0;
  for (const name of ['show', 'add', 'test', 'tell']) {
    const method = Explorer.prototype[name];
    Explorer.prototype[name] = function (...told) {
      if (depth++ === 0) window.noted.push([name, ...told]);
      method.apply(this, told);
      depth--;
    };
  }
}"""
BYTES = bytes(range(256))
FINDINGS = {"occlusions": [], "signatures": []}


@pytest.fixture
def path(tmp_path, photograph):
    photograph.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


@pytest.fixture
def data(captioner, photograph) -> list[dict]:
    """Two captions of one photograph, as the explorer takes them."""
    return [explorer_data(captioner.explain(photograph, prefix=words)) for words in ("a man", "two dog")]


@pytest.fixture
def press(page, data):
    """An explorer in a page. A function: press a button, and return what the explorer is told then."""

    def on_choose(event: gr.EventData) -> str:
        return json.dumps(event._data)

    messages = {
        "caption": lambda: shown("one", data[0], word=1),
        "further": lambda: shown("one", data[1], number=1, label="another word", comparison=None),
        "other": lambda: shown("two", data[1]),
        "findings": lambda: found("one", {0: FINDINGS}),
        "late": lambda: found("one", {0: FINDINGS}) | failed("That is all."),
        "error": lambda: failed("<b>No</b> such word."),
        "file": lambda: downloaded(Exported("a caption.bin", BYTES, "application/octet-stream")),
        "hide": lambda: gr.update(visible=False),
        "unhide": lambda: gr.update(visible=True),
    }
    with gr.Blocks() as blocks:
        view = explorer("view", actions=["choose"])
        answer = gr.Textbox(elem_id="answer")
        view.choose(on_choose, None, answer)
        for name, message in messages.items():
            gr.Button(name, elem_id=name).click(message, None, view, show_progress="hidden")

    def press(name: str) -> list:
        page.evaluate("window.noted.length = 0")
        page.click(f"#{name}")
        page.wait_for_function("window.noted.length")
        return page.evaluate("window.noted")

    with served(blocks) as address:
        page.goto(address)
        page.wait_for_selector("#view > *", state="attached")
        page.evaluate(NOTE)
        yield press


def test_the_explorer_is_told_what_the_server_says(press, data):
    [(name, given, options)] = press("caption")
    assert (name, given, options["word"]) == ("show", data[0], 1)
    [(name, given, options)] = press("further")
    assert (name, given, options["label"], options["comparison"]) == ("add", data[1], "another word", None)
    assert press("findings") == [["test", 0, FINDINGS]]
    assert press("error") == [["tell", "<b>No</b> such word."]]
    assert press("error") == [["tell", "<b>No</b> such word."]]  # once more, though nothing has changed


def test_findings_of_a_photograph_no_longer_shown_are_dropped(press):
    press("other")
    assert press("late") == [["tell", "That is all."]]


def test_an_explorer_that_was_hidden_comes_back_as_a_person_left_it(press, page):
    for name in ("other", "caption", "findings", "further"):
        press(name)
    page.locator("#view .explorer-versions button").first.click()
    page.locator("#view .explorer-words button").last.click()
    left = page.inner_html("#view .explorer")
    page.click("#hide")
    page.wait_for_selector("#view", state="detached")
    page.click("#unhide")
    page.wait_for_selector("#view .explorer-words button")
    assert page.inner_html("#view .explorer") == left
    assert page.locator('#view .explorer-words [aria-pressed="true"]').inner_text() == (
        page.locator("#view .explorer-words button").last.inner_text()
    )
    page.locator("#view .explorer-word-detail ol button").first.click()  # and is still heard by the server
    page.wait_for_function("document.querySelector('#answer textarea').value")


def test_a_file_is_saved_as_it_is_each_time_it_is_asked_for(press, page):
    for _ in range(2):
        with page.expect_download() as download:
            page.click("#file")
        assert download.value.suggested_filename == "a caption.bin"
        assert download.value.path().read_bytes() == BYTES


def test_what_a_person_asks_of_the_explorer_reaches_the_server(press, page, data):
    press("caption")
    page.locator("#view .explorer-word-detail ol button").first.click()
    page.wait_for_function("document.querySelector('#answer textarea').value")
    word = data[0]["words"][1]["alternatives"][0][0]
    asked = json.loads(page.input_value("#answer textarea"))
    assert asked == {"photograph": "one", "version": 0, "position": 1, "word": word}


def test_the_explorer_is_busy_from_what_a_person_asks_to_the_answer(press, page):
    press("caption")
    busy = page.get_by_text("Captioning again")
    assert not busy.is_visible()
    page.locator("#view .explorer-word-detail ol button").first.click()
    busy.wait_for()
    press("error")
    assert not busy.is_visible()


def test_an_explorer_has_the_events_of_its_actions_only():
    with gr.Blocks():
        view = explorer("view", actions=["erase"])
        view.erase(lambda: None)
        with pytest.raises(AttributeError, match="choose"):
            view.choose(lambda: None)


class Comparing:
    """The tab for some models; ``start`` calls the handler of its button as Gradio does."""

    def __init__(self, *models: Captioner):
        with gr.Blocks() as self.blocks:
            compare({model.name: model for model in models})
        self.kept = None  # the photograph compared last
        self.ids = {id_: block.elem_id for id_, block in self.blocks.blocks.items()}
        self.defaults = [block.value for name in ("left", "right") for block in self._settings(name)]

    def start(self, path, *settings) -> dict:
        function = next(f for f in self.blocks.fns.values() if ("compare-start", "click") in self._targets(f))
        answer = function.fn(path and {"path": str(path)}, self.kept, *(settings or self.defaults))
        for block in [block for block in answer if isinstance(block, gr.State)]:
            self.kept = answer.pop(block)
        return {block.elem_id: value for block, value in answer.items()}

    def _settings(self, side: str) -> list:
        names = [f"compare-{side}-{setting}" for setting in ("model", "beam", "words")]
        return [next(block for block in self.blocks.blocks.values() if block.elem_id == name) for name in names]

    def _targets(self, function) -> list:
        return [(self.ids.get(id_), event) for id_, event in function.targets]


def texts(answer: dict) -> list[str]:
    return [json.loads(answer[name]["value"])["data"]["text"] for name in ("compare-left", "compare-right")]


def test_one_model_is_compared_with_itself_saying_the_likeliest_words(captioner, path):
    comparing = Comparing(captioner)
    assert comparing.defaults == ["tiny", 3, "", "tiny", 1, ""]
    answer = comparing.start(path)
    assert texts(answer) == [captioner.explain(path, beam_size=beam_size).text for beam_size in (3, 1)]
    assert answer["compare-message"] == ""


def test_two_models_are_compared_with_the_same_settings(captioner, path):
    other = Captioner(tiny_model(image_size=96, seed=1), name="other")
    comparing = Comparing(captioner, other)
    assert comparing.defaults[:2] == ["tiny", 3]
    assert comparing.defaults[3:5] == ["other", 3]
    assert texts(comparing.start(path)) == [model.explain(path).text for model in (captioner, other)]
    settings = ["other", 2, "a dog", "tiny", 1, ""]
    expected = [other.explain(path, beam_size=2, prefix="a dog").text, captioner.explain(path, beam_size=1).text]
    assert texts(comparing.start(path, *settings)) == expected


def test_the_likelihood_of_both_captions_is_that_of_the_left_model(captioner, path):
    other = Captioner(tiny_model(image_size=96, seed=1), name="other")
    a, b = captioner.explain(path), other.explain(path)
    b_by_a = captioner.explain_caption(path, [word.text for word in b.words]).log_probability
    assert difference(a, b, b_by_a) in unescape(Comparing(captioner, other).start(path)["compare-summary"])


def test_markup_in_the_words_of_a_model_stays_text(captioner, path, monkeypatch):
    said = captioner.explain(path, prefix="a dog")
    strange = replace(said, words=(replace(said.words[0], text="<b>bold</b>"), *said.words[1:]))
    captions = iter((strange, said))
    monkeypatch.setattr(captioner, "explain", lambda *_, **__: next(captions))
    summary = Comparing(captioner).start(path)["compare-summary"]
    assert "&lt;b&gt;bold&lt;/b&gt;" in summary
    assert "<b>" not in summary


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["tiny", 3, "<b>unheard</b> of", "tiny", 1, ""], "does not know"),
        (["tiny", 3, "", "tiny", 100, ""], "beam size"),
        (["tiny", 3, "", "no such model", 1, ""], "one of the models"),
        (["tiny", 3, "", ["tiny"], 1, ""], FAILED),
        (["tiny", 3, {}, "tiny", 1, ""], "must be text"),
    ],
)
def test_bad_settings_say_why_and_keep_the_captions(captioner, path, settings, message):
    answer = Comparing(captioner).start(path, *settings)
    assert set(answer) == {"compare-message"}
    assert message in answer["compare-message"]
    assert "<b>" not in answer["compare-message"]


def test_no_photograph_says_what_to_do(captioner, tmp_path):
    assert "Choose a photograph" in Comparing(captioner).start(None)["compare-message"]
    (tmp_path / "broken.png").write_bytes(b"no photograph at all " * 20)
    assert "not a photograph" in Comparing(captioner).start(tmp_path / "broken.png")["compare-message"]


def test_after_a_bad_photograph_the_one_compared_is_back(captioner, path, photograph, tmp_path):
    comparing = Comparing(captioner)
    comparing.start(path)
    (tmp_path / "broken.png").write_bytes(b"no photograph at all " * 20)
    answer = comparing.start(tmp_path / "broken.png")
    assert set(answer) == {"compare-message", "compare-photo"}
    assert answer["compare-photo"].size == photograph.size


def test_the_summary_says_what_the_captions_were_made_with(captioner, path):
    summary = Comparing(captioner).start(path, "tiny", 3, "", "tiny", 1, "a dog")["compare-summary"]
    assert "A: beam size 3. B: beam size 1, begun with “a dog”." in summary
    both = Comparing(captioner, Captioner(tiny_model(image_size=96, seed=1), name="other")).start(path)
    assert "A: tiny, beam size 3. B: other, beam size 3." in both["compare-summary"]


def test_nothing_of_the_tab_is_a_public_endpoint(captioner):
    assert {function.api_visibility for function in Comparing(captioner).blocks.fns.values()} == {"private"}


@pytest.fixture
def said(captioner, photograph):
    """A function: a caption, explained."""
    return lambda words: captioner.explain_caption(photograph, words)


def test_a_difference_names_the_words_and_no_others(said):
    text = difference(said("a black dog running in snow"), said("a white dog in the snow"), None)
    assert text.startswith("A says “black” where B says “white”; only A says “running”; only B says “the”. Log-prob")
    assert difference(said("man 's ball"), said("dog"), None).startswith("A says “man's ball” where B says “dog”.")


def test_equal_captions_are_said_to_be_the_same(said):
    caption = said("a dog")
    text = difference(caption, caption, caption.log_probability)
    assert text.startswith("The same caption.")
    assert text.count(f"{caption.log_probability:.2f}".replace("-", "−")) == 2
    assert "likelier" not in text


def test_the_likelier_caption_is_the_one_with_the_higher_log_probability(said):
    a, b = said("a dog"), said("a man")
    assert "caption A 2.7 times likelier" in difference(a, b, a.log_probability - 1)
    assert "caption B 7.4 times likelier" in difference(a, b, a.log_probability + 2)
    assert "caption A more than 100 times likelier" in difference(a, b, a.log_probability - 5000)
    assert "likelier" not in difference(a, b, None)


def test_two_captions_stand_side_by_side_in_a_browser(page, captioner, path):
    def words(side: str) -> list[str]:
        return page.locator(f"#compare-{side} .explorer-caption button").all_inner_texts()

    def expected(**options) -> list[str]:
        return [word.text for word in captioner.explain(path, **options).words]

    with served(Comparing(captioner).blocks) as address:
        page.goto(address)
        page.click("#compare-start")
        page.wait_for_selector("#compare-message [role=alert]")
        page.set_input_files("#compare-photo input[type=file]", path)
        page.wait_for_selector("#compare-summary p")
        assert page.locator("#compare-message [role=alert]").count() == 0
        assert page.locator("#compare-left-model").count() == 0  # there is only one
        page.wait_for_selector("#compare-right .explorer-caption button")
        assert (words("left"), words("right")) == (expected(), expected(beam_size=1))

        page.fill("#compare-right-words textarea, #compare-right-words input", "two dog")
        page.click("#compare-start")
        page.wait_for_selector("#compare-summary p:has-text('begun with “two dog”')")
        page.wait_for_function("document.querySelector('#compare-right').innerText.includes('two')")
        assert (words("left"), words("right")) == (expected(), expected(beam_size=1, prefix="two dog"))

        left, right = (page.locator(f"#compare-{side}").bounding_box() for side in ("left", "right"))
        assert left["y"] == right["y"]
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        left, right = (page.locator(f"#compare-{side}").bounding_box() for side in ("left", "right"))
        assert left["y"] + left["height"] <= right["y"]

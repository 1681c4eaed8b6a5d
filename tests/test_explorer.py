"""The explorer in a real browser: everything it shows and emits, from data alone."""

from __future__ import annotations

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image

from captioner.explanation import ExplainedCaption
from captioner.explorer import explorer_data, findings, script, style
from captioner.occlusion import Occlusion
from captioner.rendering import blur_regions, overlay
from captioner.signatures import Signature

PAGE = """<!doctype html><meta charset="utf-8"><style>{style}</style><div id="root"></div><script>{script}
const events = [];
const explorer = new Explorer(document.getElementById('root'),
  {{ids: true, actions: ['choose', 'erase', 'export'], on: (name, detail) => events.push([name, detail])}});
</script>"""
PICTURE = "document.querySelector('#overlay img').src"


@pytest.fixture(scope="module")
def explained(captioner) -> ExplainedCaption:
    """A caption of a smooth photograph: JPEG changes it little."""
    across = np.linspace(0, 255, 240)
    pixels = np.stack(np.broadcast_arrays(across, across[:160, None], 255 - across), axis=-1).astype(np.uint8)
    return captioner.explain_caption(Image.fromarray(pixels), "a man 's dog is jumping on the beach")


@pytest.fixture
def data(explained):
    return explorer_data(explained)


@pytest.fixture
def shown(page, data):
    """A page with an explorer that shows ``data`` and its second word."""
    page.set_content(PAGE.format(style=style(), script=script()))
    page.evaluate("data => explorer.show(data, {word: 1})", data)
    page.wait_for_function(PICTURE)
    return page


def chosen(page) -> list[int]:
    pressed = page.locator("#caption button").evaluate_all("all => all.map(one => one.getAttribute('aria-pressed'))")
    return [i for i, value in enumerate(pressed) if value == "true"]


def picture_after(page, action) -> str:
    """The source of the picture once an action has changed it."""
    before = page.evaluate(PICTURE)
    action()
    page.wait_for_function(f"before => {PICTURE} !== before", arg=before)
    return page.evaluate(PICTURE)


def pixels(src: str) -> np.ndarray:
    picture = Image.open(io.BytesIO(base64.b64decode(src.split(",")[1])))
    return np.asarray(picture.convert("RGB")).astype(float)


def middle(page, region: int, columns: int = 3, rows: int = 3) -> dict[str, float]:
    """Where a region of the picture is, as the position of a click on it."""
    box = page.locator("#overlay").bounding_box()
    row, column = divmod(region, columns)
    return {"x": (column + 0.5) * box["width"] / columns, "y": (row + 0.5) * box["height"] / rows}


def emitted(page, name: str) -> list[dict]:
    return [detail for event, detail in page.evaluate("events") if event == name]


def listed(page, name: str) -> list[tuple[str, float]]:
    items = page.locator(f".explorer-{name} li")
    values = items.locator("data").evaluate_all("all => all.map(one => Number(one.value))")
    return list(zip([text.rsplit(" ", 1)[0] for text in items.all_inner_texts()], values))


def drag(page, *regions: int) -> None:
    page.locator("#overlay").scroll_into_view_if_needed()
    box = page.locator("#overlay").bounding_box()
    for number, region in enumerate(regions):
        place = middle(page, region)
        page.mouse.move(box["x"] + place["x"], box["y"] + place["y"])
        if number == 0:
            page.mouse.down()
    page.mouse.up()


def test_the_caption_is_a_sentence_of_buttons(shown, explained):
    assert shown.inner_text("#caption") == f"{explained.text}."
    assert shown.locator("#caption button").all_inner_texts() == [word.text for word in explained.words]


def test_clicks_keys_and_buttons_step_through_the_words(shown, data):
    last = len(data["words"]) - 1
    shown.locator("#caption button").nth(3).click()
    assert chosen(shown) == [3]
    for key, word in (("ArrowRight", 4), ("ArrowLeft", 3), ("End", last), ("ArrowRight", last), ("Home", 0)):
        shown.keyboard.press(key)
        assert chosen(shown) == [word]
        assert shown.evaluate("document.activeElement.getAttribute('aria-pressed')") == "true"
    shown.locator("#next").click()
    assert chosen(shown) == [1]
    shown.locator("#previous").click()
    assert chosen(shown) == [0]
    assert f"word 1 of {last + 1}" in shown.inner_text("#word-detail")
    assert [detail["index"] for detail in emitted(shown, "select")] == [3, 4, 3, last, 0, 1, 0]


def test_both_ends_are_ends(shown):
    shown.locator("#caption button").first.click()
    assert shown.locator("#previous").is_disabled()
    assert shown.locator("#next").is_enabled()
    shown.locator("#caption button").last.click()
    assert shown.locator("#previous").is_enabled()
    assert shown.locator("#next").is_disabled()


def test_before_a_caption_nothing_can_be_stepped(page):
    page.set_content(PAGE.format(style=style(), script=script()))
    assert page.locator("#next").is_disabled()
    assert "appears here" in page.inner_text("#hint")
    page.keyboard.press("ArrowRight")


def test_a_photograph_without_words_is_shown_alone(shown, data, explained):
    picture_after(shown, lambda: shown.evaluate("data => explorer.show(data)", data | {"words": [], "text": ""}))
    assert "no words" in shown.inner_text("#caption")
    assert shown.locator("#next").is_disabled()
    assert np.abs(pixels(shown.evaluate(PICTURE)) - np.asarray(explained.photograph)).mean() < 3


def test_every_word_has_its_picture_and_has_it_again(shown, data):
    first = shown.evaluate(PICTURE)
    second = picture_after(shown, shown.locator("#next").click)
    assert second != first
    assert picture_after(shown, shown.locator("#previous").click) == first


@pytest.mark.parametrize("colour_map", ["viridis", "grey"])
def test_the_picture_is_that_of_rendering(shown, explained, colour_map):
    shown.locator(".explorer-settings summary").click()
    shown.get_by_label("Colours").select_option(colour_map)
    for word in (3, 1):
        src = picture_after(shown, shown.locator("#caption button").nth(word).click)
        expected = overlay(explained.photograph, explained.words[word].region_logits, colour_map=colour_map)
        error = np.abs(pixels(src) - np.asarray(expected))
        assert error.mean() < 3
        assert np.percentile(error, 99) < 12


def test_without_smoothing_every_region_is_one_colour(shown, data):
    grey = np.full_like(np.asarray(pixels(data["photograph"]["src"])), 128, dtype=np.uint8)
    flat = explorer_data_with(data, grey)
    shown.evaluate("data => explorer.show(data, {word: 1})", flat)
    shown.locator(".explorer-settings summary").click()
    src = picture_after(shown, shown.get_by_label("Regions as they are, not smoothed").check)
    height, width = grey.shape[:2]
    cells = pixels(src)[: height // 3 * 3, : width // 3 * 3].reshape(3, height // 3, 3, width // 3, 3)
    inside = cells[:, 8:-8, :, 8:-8]
    assert inside.std(axis=(1, 3)).max() < 3
    assert inside.mean(axis=(1, 3)).std(axis=(0, 1)).max() > 10


def explorer_data_with(data: dict, picture: np.ndarray) -> dict:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=95)
    src = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    return data | {"photograph": data["photograph"] | {"src": src}}


def test_at_no_strength_the_photograph_is_untouched(shown, explained):
    shown.locator(".explorer-settings summary").click()
    src = picture_after(shown, lambda: shown.get_by_label("Strength").fill("0"))
    assert np.abs(pixels(src) - np.asarray(explained.photograph)).mean() < 3


def test_attention_and_layers_can_be_laid_over_the_photograph(shown, explained):
    word = explained.words[1]
    thumbnails = shown.locator(".explorer-thumbnails button")
    assert thumbnails.count() == len(word.layer_maps) + 2
    maps = {"layer 1": word.layer_maps[0], "attention": word.attention}
    for name, region_map in maps.items():
        src = picture_after(shown, shown.locator(".explorer-thumbnails button", has_text=name).click)
        assert np.abs(pixels(src) - np.asarray(overlay(explained.photograph, region_map))).mean() < 3
        assert "of attention" in shown.inner_text(".explorer-scale")


def test_the_alternative_text_names_the_strongest_region(shown, explained):
    word = explained.words[1]
    row, column = np.unravel_index(word.region_logits.argmax(), word.region_logits.shape)
    text = shown.locator("#overlay img").get_attribute("alt")
    assert f"row {row + 1} of 3 and column {column + 1} of 3" in text
    assert f"{word.region_logits.max():+.2f}" in text


def test_where_no_region_speaks_for_a_word_nothing_is_marked(shown, data, explained):
    data["words"][1]["regions"] = [-1.0] * 9
    picture_after(shown, lambda: shown.evaluate("data => explorer.show(data, {word: 1})", data))
    assert "No region speaks for" in shown.locator("#overlay img").get_attribute("alt")
    assert "nothing is marked" in shown.inner_text(".explorer-scale")
    assert shown.locator(".explorer-strongest").count() == 0
    assert np.abs(pixels(shown.evaluate(PICTURE)) - np.asarray(explained.photograph)).mean() < 3


def test_playing_goes_on_to_the_end_and_stops_there(shown, data):
    shown.get_by_label("Speed").select_option("fast")
    shown.locator("#caption button").nth(len(data["words"]) - 3).click()
    shown.get_by_role("button", name="Play").click()
    shown.locator('#caption button[aria-pressed="true"]').and_(shown.locator("#caption button").last).wait_for()
    shown.get_by_role("button", name="Play").wait_for()
    last = len(data["words"]) - 1
    assert [detail["index"] for detail in emitted(shown, "select")] == [last - 2, last - 1, last]


def test_a_choice_ends_the_playing(shown):
    play = shown.locator(".explorer-play")
    play.click()
    assert play.inner_text() == "Pause"
    shown.locator("#caption button").nth(2).click()
    assert play.inner_text() == "Play"
    assert chosen(shown) == [2]


def test_an_alternative_asks_for_a_caption_that_goes_on_with_it(shown, data):
    shown.locator("#caption button").nth(3).click()
    word = data["words"][3]["alternatives"][1][0]
    shown.get_by_role("button", name=f"{word}, ").and_(shown.locator(".explorer-alternatives button")).click()
    assert emitted(shown, "choose") == [{"version": 0, "position": 3, "word": word}]


def test_the_parts_of_the_score_add_up_to_it(shown, explained):
    for number, word in list(enumerate(explained.words))[:3]:
        shown.locator("#caption button").nth(number).click()
        values = shown.locator("#word-detail table data").evaluate_all("all => all.map(one => Number(one.value))")
        texts = [float(text.replace("−", "-")) for text in shown.locator("#word-detail table data").all_inner_texts()]
        assert sum(values[:-1]) == pytest.approx(values[-1], abs=1e-3)
        assert values[-1] == pytest.approx(word.logit, abs=1e-6)
        assert texts == pytest.approx(values, abs=0.00501)


def test_a_negative_part_of_the_score_lies_left_of_zero(shown, data):
    data["words"][0] |= {"bias": -2.0, "language": 5.0, "regions": [0.0] * 8 + [1.0], "logit": 4.0}
    shown.evaluate("data => explorer.show(data, {word: 0})", data)

    def box(name: str) -> dict[str, float]:
        return shown.locator(f".explorer-sum .explorer-{name}").bounding_box()

    zero, whole = box("zero")["x"], shown.locator(".explorer-sum").bounding_box()
    assert box("bias")["x"] == pytest.approx(whole["x"], abs=1)
    assert box("bias")["x"] + box("bias")["width"] == pytest.approx(zero, abs=1.5)
    assert box("language")["x"] == pytest.approx(zero, abs=1.5)
    assert box("regions")["x"] == pytest.approx(box("language")["x"] + box("language")["width"], abs=1)
    assert box("total")["x"] == pytest.approx(whole["x"] + whole["width"] * 6 / 8, abs=1.5)


@pytest.mark.parametrize(
    ("reliance", "text"), [(0.75, "would have 20 %, instead of 80 %"), (0.0, "80 %, just as the 80 %")]
)
def test_image_reliance_is_told_as_a_probability(shown, data, reliance, text):
    data["words"][0] |= {"probability": 0.8, "reliance": reliance}
    shown.evaluate("data => explorer.show(data, {word: 0})", data)
    assert text in shown.inner_text("#word-detail").replace("\u00a0", " ")


def test_a_region_lists_the_words_by_how_much_it_supports_them(shown, explained):
    region = 4
    values = [(word.text, float(word.region_logits.flat[region])) for word in explained.words]
    told = [(text, value) for text, value in values if abs(value) >= 0.005]
    shown.locator("#overlay").click(position=middle(shown, region))
    assert "Row 2, column 2" in shown.inner_text(".explorer-asked")
    for name, expected in (
        ("supports", sorted((each for each in told if each[1] > 0), key=lambda each: -each[1])),
        ("contradicts", sorted((each for each in told if each[1] < 0), key=lambda each: each[1])),
    ):
        found = listed(shown, name)
        assert [text for text, _ in found] == [text for text, _ in expected]
        assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-3)
    under = [float(text.replace("−", "-")) for text in shown.locator(".explorer-support").all_inner_texts()]
    assert under == pytest.approx([value for _, value in values], abs=0.00501)


def test_escape_or_a_second_click_leaves_the_region(shown):
    for leave in (
        lambda: shown.keyboard.press("Escape"),
        lambda: shown.locator("#overlay").click(position=middle(shown, 5)),
        lambda: shown.get_by_role("button", name="Leave").click(),
    ):
        shown.locator("#overlay").click(position=middle(shown, 5))
        assert shown.locator(".explorer-region").count() == 1
        leave()
        assert shown.locator(".explorer-region").count() == 0
        assert shown.locator(".explorer-support").count() == 0


def test_regions_can_be_asked_about_by_keys_alone(shown):
    shown.locator("#overlay").focus()
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowLeft", "ArrowUp", "Enter"):
        shown.keyboard.press(key)
    assert "Row 1, column 1" in shown.inner_text(".explorer-asked")
    assert chosen(shown) == [1]  # the arrow keys moved over the picture


def test_what_was_brushed_over_is_asked_to_be_erased(shown):
    shown.get_by_role("button", name="Erase parts").click()
    again = shown.get_by_role("button", name="Caption again without them")
    assert again.is_disabled()
    drag(shown, 0, 2)  # a pointer so fast that it skips the region between
    drag(shown, 8)
    drag(shown, 2)  # brings it back
    again.click()
    assert emitted(shown, "erase") == [{"version": 0, "regions": [0, 1, 8]}]
    assert shown.locator(".explorer-erased").count() == 3
    shown.get_by_role("button", name="Clear").click()
    assert again.is_disabled()
    shown.get_by_label("Brush").select_option("3 × 3 regions")
    drag(shown, 0)
    again.click()
    assert emitted(shown, "erase")[1] == {"version": 0, "regions": [0, 1, 3, 4]}


def test_regions_can_be_erased_by_keys_alone(shown):
    shown.get_by_role("button", name="Erase parts").click()
    shown.locator("#overlay").focus()
    for key in ("ArrowDown", " ", "ArrowDown", " ", "ArrowRight", " ", " "):
        shown.keyboard.press(key)
    shown.get_by_role("button", name="Caption again without them").click()
    assert emitted(shown, "erase") == [{"version": 0, "regions": [4, 7]}]


@pytest.fixture
def two_versions(shown, captioner, explained):
    """The explorer after the middle was erased; the fixture is the words and probabilities it was given."""
    hidden = np.zeros((3, 3), dtype=bool)
    hidden[1, 1] = True
    words = [word.text for word in explained.words]
    again = captioner.explain_caption(explained.photograph, "a red dog is on the street", hidden=hidden)
    after = [i / 20 for i in range(len(words))]
    comparison = {"version": 0, "probabilities": after}
    arguments = [explorer_data(again, hidden=hidden), {"label": "1 of 9 regions erased", "comparison": comparison}]
    picture_after(shown, lambda: shown.evaluate("([data, options]) => explorer.add(data, options)", arguments))
    return again, after


def test_a_comparison_marks_what_changed_and_says_what_the_words_became(shown, two_versions, explained):
    again, after = two_versions
    section = shown.locator(".explorer-comparison")
    assert section.locator("del").all_inner_texts() == ["man", "'s", "jumping", "beach"]
    assert section.locator("ins").all_inner_texts() == ["red", "street"]
    assert section.locator("p").all_inner_texts() == [f"before {explained.text}.", f"now {again.text}."]
    items = [text.replace("\u00a0", " ") for text in section.locator("li").all_inner_texts()]
    assert len(items) == len(explained.words)
    for text, word, probability in list(zip(items, explained.words, after))[1:]:
        assert text.startswith(word.text)
        assert text.endswith(f"→ {probability:.0%}".replace("%", " %"))


def test_a_version_with_another_word_is_compared_as_a_whole(shown, data):
    again = data | {"text": "a dog", "words": data["words"][:2], "log_probability": data["log_probability"] - np.log(2)}
    options = {"label": "“dog” chosen", "comparison": {"version": 0}}
    shown.evaluate("([data, options]) => explorer.add(data, options)", [again, options])
    section = shown.locator(".explorer-comparison")
    assert section.locator("del").count() == len(data["words"]) - 2
    assert "0.50 times as likely" in section.inner_text()
    assert section.locator("li").count() == 0


def test_a_word_less_likely_than_others_says_why_it_may_be(shown, data):
    data["words"][0] |= {"probability": 0.2, "alternatives": [["dog", 0.3]]}
    data["words"][1] |= {"probability": 0.5, "alternatives": [["dog", 0.3]]}
    shown.evaluate("data => explorer.show(data, {word: 0})", data)
    assert "chosen as a whole" in shown.inner_text("#word-detail")
    shown.locator("#next").click()
    assert "chosen as a whole" not in shown.inner_text("#word-detail")


def test_that_a_caption_might_have_ended_is_told_among_the_words(shown, data):
    data["words"][1] |= {"probability": 0.2, "alternatives": [["dog", 0.4], ["cat", 0.1]], "ending": 0.3}
    data["words"][2] |= {"ending": 0.004}
    shown.evaluate("data => explorer.show(data, {word: 1})", data)
    rows = shown.locator(".explorer-alternatives li")
    assert [row.split()[0] for row in rows.all_inner_texts()[1:]] == ["dog", "(the", "cat"]
    assert rows.get_by_role("button").count() == 2  # nothing continues after the end
    shown.locator("#next").click()
    assert "(the end" not in shown.inner_text(".explorer-alternatives")


def test_a_new_caption_and_its_test_are_announced(shown, two_versions, data):
    again, _ = two_versions
    said = shown.locator(".explorer-said")
    assert said.inner_text().startswith(f"Caption 2: {again.text}.")
    shown.evaluate("findings => explorer.test(1, findings)", found(data, 0.1))
    assert "tested" in said.inner_text()
    shown.evaluate("data => explorer.show(data)", data)
    assert said.inner_text().startswith(f"Caption: {data['text']}.")


def test_a_button_that_goes_away_hands_the_keys_to_the_photograph(shown):
    focused = "document.activeElement.id"
    shown.locator("#overlay").click(position=middle(shown, 5))
    shown.get_by_role("button", name="Leave").press("Enter")
    assert shown.evaluate(focused) == "overlay"
    shown.get_by_role("button", name="Erase parts").click()
    drag(shown, 0)
    shown.get_by_role("button", name="Clear").press("Enter")
    assert shown.evaluate(focused) == "overlay"


def test_marks_to_erase_are_shown_only_while_erasing(shown):
    shown.get_by_role("button", name="Erase parts").click()
    drag(shown, 0)
    shown.get_by_role("button", name="Erase parts").click()
    assert shown.locator(".explorer-erased").count() == 0
    shown.get_by_role("button", name="Erase parts").click()
    assert shown.locator(".explorer-erased").count() == 1


def test_no_file_is_asked_for_while_one_is_made(shown):
    shown.get_by_role("button", name="JSON").click()
    shown.evaluate("explorer.busy('Preparing the file…')")
    shown.get_by_role("button", name="report").click(force=True)
    assert shown.get_by_role("button", name="report").get_attribute("aria-disabled") == "true"
    shown.evaluate("explorer.busy(null)")
    shown.get_by_role("button", name="ZIP").click()
    assert [detail["kind"] for detail in emitted(shown, "export")] == ["json", "zip"]


def test_no_version_is_lost(shown, two_versions, explained):
    again, _ = two_versions
    versions = shown.locator(".explorer-versions button")
    assert versions.all_inner_texts() == ["first caption", "1 of 9 regions erased"]
    assert shown.inner_text("#caption") == f"{again.text}."
    second = picture_after(shown, shown.locator("#caption button").nth(2).click)
    picture_after(shown, versions.first.click)
    assert shown.inner_text("#caption") == f"{explained.text}."
    assert not shown.locator(".explorer-comparison").is_visible()
    assert picture_after(shown, versions.last.click) == second
    assert chosen(shown) == [2]
    shown.get_by_role("button", name="JSON").click()
    assert emitted(shown, "export") == [{"version": 1, "kind": "json", "colour_map": "viridis"}]


def test_an_erased_version_shows_the_photograph_as_it_was_captioned(shown, two_versions, explained):
    shown.locator(".explorer-settings summary").click()
    src = picture_after(shown, lambda: shown.get_by_label("Strength").fill("0"))
    hidden = np.zeros((3, 3), dtype=bool)
    hidden[1, 1] = True
    assert np.abs(pixels(src) - np.asarray(blur_regions(explained.photograph, hidden))).mean() < 3


def test_a_new_photograph_drops_the_versions(shown, two_versions, data):
    shown.evaluate("data => explorer.show(data)", data)
    assert not shown.locator(".explorer-versions").is_visible()
    shown.get_by_role("button", name="JSON").click()
    assert emitted(shown, "export")[0]["version"] == 0


def found(data: dict, hidden: float, random: float = 0.4) -> dict:
    occlusions = [Occlusion(whole=0.6, hidden=hidden, random=random) for _ in data["words"]]
    return findings(
        occlusions,
        [
            Signature("no region", (2,), 0.0, "One word misleads."),
            Signature("misaligned attention", (2,), -3.0, "Said where the map is tested."),
            Signature("identical maps", (2, 4), 90.0, "Two words share a map."),
        ],
    )


def test_tests_arrive_after_the_caption_and_judge_the_map(shown, data):
    detail = shown.locator("#word-detail")
    assert "Testing" in detail.inner_text()
    shown.evaluate("findings => explorer.test(0, findings)", found(data, 0.1))
    assert "The map holds" in detail.inner_text()
    assert "from 60 % to 10 %" in detail.inner_text().replace("\u00a0", " ")
    shown.evaluate("findings => explorer.test(0, findings)", found(data, 0.5))
    assert "The map does not hold here" in detail.inner_text()
    shown.evaluate("findings => explorer.test(0, findings)", found(data, 0.401))
    assert "It makes no difference here" in detail.inner_text()
    shown.evaluate("findings => explorer.test(0, findings)", found(data, 0.0002, random=0.0081))
    assert "to 0.02 %; with as many random regions blurred, to 0.81 %" in detail.inner_text().replace("\u00a0", " ")
    shown.evaluate("findings => explorer.test(0, findings)", found(data, 0.6, random=0.8))  # nothing is lost
    assert "The map does not hold here" in detail.inner_text()
    shown.evaluate("explorer.test(0, null)")
    assert "could not be tested" in detail.inner_text()


def test_signatures_stand_beside_their_words(shown, data):
    shown.evaluate("findings => explorer.test(0, findings)", found(data, 0.1))
    assert shown.inner_text(".explorer-signatures") == "Two words share a map."
    assert "One word misleads." not in shown.inner_text("#word-detail")
    shown.locator("#caption button").nth(2).click()
    assert "One word misleads." in shown.inner_text("#word-detail")
    assert "Said where" not in shown.inner_text("#root")


def test_tests_of_another_version_wait_for_it(shown, two_versions, data):
    shown.evaluate("findings => explorer.test(0, findings)", found(data, 0.1))
    assert "Testing" in shown.inner_text("#word-detail")
    shown.locator(".explorer-versions button").first.click()
    assert "The map holds" in shown.inner_text("#word-detail")


def test_what_is_unusual_or_goes_wrong_is_said(shown, data):
    assert not shown.locator("#unfamiliar").is_visible()
    shown.evaluate("data => explorer.show(data)", data | {"unfamiliar": True, "familiarity": 0.02})
    assert "2 % are this unusual" in shown.inner_text("#unfamiliar").replace("\u00a0", " ")
    shown.evaluate("explorer.busy('Captioning again…')")
    assert shown.get_by_text("Captioning again…").is_visible()
    shown.evaluate("explorer.busy(null); explorer.tell('Upload it again.')")
    assert not shown.locator(".explorer-status").is_visible()
    assert shown.get_by_role("alert").inner_text() == "Upload it again."
    shown.get_by_role("button", name="JSON").click()
    assert not shown.get_by_role("alert").is_visible()


def test_other_captions_say_how_likely_they_are(shown, data):
    likelier = {"text": "a dog", "log_probability": data["log_probability"] + np.log(2)}
    shown.evaluate("data => explorer.show(data)", data | {"others": [likelier]})
    assert re.search(r"a dog 2\.00 times as likely", shown.inner_text("#others"))


def test_markup_in_words_stays_text(shown, data):
    evil = "<img src=x onerror='window.harmed = true'>"
    text = json.dumps(data).replace('"beach"', json.dumps(evil))
    data = json.loads(text)
    data["words"][0] |= {"text": evil, "alternatives": [[evil, 0.5]]}
    data |= {"others": [{"text": evil, "log_probability": -1.0}], "text": evil}
    tested = findings([], [Signature("caption drift", (0, 1), 1.0, evil)])
    shown.evaluate("data => explorer.show(data, {word: 0})", data)
    comparison = {"version": 0, "probabilities": [0.5] * len(data["words"])}
    shown.evaluate(
        "([data, options]) => explorer.add(data, options)", [data, {"label": evil, "comparison": comparison}]
    )
    shown.evaluate("([findings, text]) => { explorer.test(1, findings); explorer.tell(text); }", [tested, evil])
    shown.locator("#overlay").click(position=middle(shown, 4))
    assert shown.locator("#root img").count() == 1
    assert shown.evaluate("window.harmed") is None
    assert evil in shown.inner_text("#caption")


def test_without_ids_and_actions_it_can_stand_twice_in_a_page(page, data):
    page.set_content(PAGE.format(style=style(), script=script()) + "<div id='left'></div><div id='right'></div>")
    page.evaluate(
        """data => ['left', 'right'].forEach(id => {
             const root = document.getElementById(id);
             new Explorer(root).show(data);
           })""",
        data,
    )
    assert page.locator("#caption").count() == 1
    left, right = page.locator("#left"), page.locator("#right")
    left.locator(".explorer-next").click()
    pressed = '.explorer-words button[aria-pressed="true"]'
    assert left.locator(pressed).inner_text() != right.locator(pressed).inner_text()
    for name in ("Erase parts", "JSON"):
        assert left.get_by_role("button", name=name).count() == 0
    assert left.locator(".explorer-alternatives button").count() == 0
    assert "Testing" not in left.inner_text()


def test_a_phone_needs_no_sideways_scrolling(shown, two_versions, data):
    shown.set_viewport_size({"width": 390, "height": 800})
    shown.get_by_role("button", name="Erase parts").click()
    shown.locator(".explorer-settings summary").click()
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    shown.get_by_role("button", name="Erase parts").click()
    shown.locator("#overlay").click()
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390
    small = "all => all.filter(one => one.checkVisibility() && one.getBoundingClientRect().height < 32).length"
    assert shown.locator("#root button, #root select, #root summary").evaluate_all(small) == 0

"""The report: one file that works in a browser without a server, a network, or even JavaScript."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from PIL import Image

from captioner.explanation import ExplainedCaption
from captioner.report import report
from captioner.signatures import Signature
from tests.browser import SECONDS

EVIL = "</script><!--<script><img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def explained(captioner) -> ExplainedCaption:
    return captioner.explain_caption(Image.new("RGB", (96, 64), "teal"), "a man 's dog is jumping")


@pytest.fixture
def opened(page, explained, tmp_path):
    """A function that opens a report from its file, and a list of what it asked of any network."""
    asked = []

    def refuse(route):
        asked.append(route.request.url)
        route.abort()

    def open_report(**options):
        file = tmp_path / "report.html"
        file.write_text(report(options.pop("explained", explained), **options), encoding="utf-8")
        page.route(lambda url: not url.startswith(("file:", "data:")), refuse)
        page.goto(file.as_uri())
        # By its selector: the report allows no script that a function to wait for would be.
        page.wait_for_selector("#overlay img[src^=data]")
        return page

    yield open_report
    assert asked == []


def script_element(html: str, name: str) -> str:
    return re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', html, re.DOTALL)[1]


def test_a_report_steps_through_the_caption_without_a_network(opened, explained):
    page = opened()
    assert page.title() == explained.text
    assert page.inner_text("#caption") == f"{explained.text}."
    before = page.evaluate("document.querySelector('#overlay img').src")
    page.locator("#caption button").last.click()
    page.wait_for_selector(f'#overlay img:not([src="{before}"])')
    assert "dog" in page.inner_text("#caption")
    assert page.get_by_role("button", name="Erase parts").count() == 0
    assert "Testing" not in page.inner_text("body")


def test_the_policy_of_a_report_forbids_every_network(opened):
    page = opened()
    reached = page.evaluate(
        """async () => {
             const image = new Image();
             const drawn = new Promise(done => { image.onload = () => done(true); image.onerror = () => done(false); });
             image.src = 'https://example.org/x.png';
             return [await fetch('https://example.org/').then(() => true, () => false), await drawn];
           }"""
    )
    assert reached == [False, False]


def test_what_testing_found_is_in_the_report(opened, explained):
    occlusions = [{"whole": 0.5, "hidden": 0.1, "random": 0.4}] * len(explained.words)
    page = opened(findings={"occlusions": occlusions, "signatures": [vars(Signature("no region", (0,), 0.0, "Odd."))]})
    page.locator("#caption button").first.click()
    assert "The map holds" in page.inner_text("#word-detail")
    assert "Odd." in page.inner_text("#word-detail")


def test_the_explanation_is_read_back_from_the_report(explained):
    again = ExplainedCaption.from_json(script_element(report(explained), "explanation"))
    assert again.to_json() == explained.to_json()


def test_without_javascript_the_caption_and_its_words_are_there(browser, explained, tmp_path):
    file = tmp_path / "report.html"
    file.write_text(report(explained), encoding="utf-8")
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.set_default_timeout(SECONDS)
    page.goto(file.as_uri())
    text = page.inner_text("main")
    assert explained.text in text
    assert page.locator("noscript img").is_visible()
    assert page.locator("noscript td:first-child").all_inner_texts() == [word.text for word in explained.words]
    context.close()


def test_words_and_names_are_text_wherever_they_stand(opened, explained):
    words = (replace(explained.words[0], text=EVIL), *explained.words[1:])
    page = opened(explained=replace(explained, words=words, model=EVIL))
    assert EVIL in page.inner_text("#caption")
    assert EVIL in page.inner_text("header")
    assert EVIL in page.title()
    assert page.locator("body img").count() == 1


def test_a_script_element_holds_no_end_of_itself(explained):
    evil = replace(explained, model=EVIL)
    html = report(evil)
    assert json.loads(script_element(html, "shown"))["data"]["model"] == EVIL
    assert ExplainedCaption.from_json(script_element(html, "explanation")).model == EVIL


def test_an_explanation_without_its_photograph_has_no_report(explained):
    with pytest.raises(ValueError, match="no photograph"):
        report(replace(explained, photograph=None))

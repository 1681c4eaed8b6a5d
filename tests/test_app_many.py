"""The tab "Many photos": its handlers as functions, then a person's way through it in a real browser."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from pathlib import Path
from zipfile import ZipFile

import gradio as gr
import pytest
from PIL import Image

from captioner.app import many as module
from captioner.app.explore import explore
from captioner.app.many import MOST, many
from captioner.batch import Archive
from tests.browser import served


class Tab:
    """The tab's event handlers, called as Gradio calls them; answers are keyed by element id."""

    def __init__(self, model):
        with gr.Blocks() as self.blocks:
            many(model)

    def event(self, target: str):
        (found,) = (
            function
            for function in self.blocks.fns.values()
            if any(self.blocks.blocks[block].elem_id == target for block, _ in function.targets)
        )
        return found

    def start(self, *paths: Path, names: dict[Path, str] | None = None):
        """What a run answers, step by step."""
        uploads = [{"path": str(path), "orig_name": (names or {}).get(path, path.name)} for path in paths]
        for answer in self.event("many-start").fn(uploads or None):
            yield {block.elem_id or "stopping": value for block, value in answer.items()}

    def finish(self, *paths: Path, **options) -> dict:
        """What is there after a run."""
        shown = {}
        for answer in self.start(*paths, **options):
            shown |= answer
        return shown

    def stop(self, stopping) -> None:
        self.event("many-stop").fn(stopping)


@pytest.fixture
def tab(captioner) -> Tab:
    return Tab(captioner)


@pytest.fixture
def files(tmp_path, photograph) -> list[Path]:
    """Two photographs, and between them a file that is none."""
    paths = [tmp_path / name for name in ("beach.png", "broken.png", "street.png")]
    photograph.save(paths[0])
    paths[1].write_bytes(b"no photograph")
    photograph.transpose(Image.Transpose.ROTATE_180).save(paths[2])
    return paths


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Gradio's folder of temporary files."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def zip_of(shown: dict) -> ZipFile:
    assert shown["many-download"]["interactive"]
    return ZipFile(shown["many-download"]["value"])


def test_the_table_grows_row_by_row(tab, files, captioner):
    tables = [answer["many-table"] for answer in tab.start(*files) if "many-table" in answer]
    assert [table.count('scope="row"') for table in tables] == [0, 1, 2, 3]
    for before, after in pairwise(tables):
        assert after.startswith(before)  # so that Gradio sends what is new alone
    for path in (files[0], files[2]):
        assert captioner.explain(path).text in tables[-1]
    assert "not a photograph" in tables[-1]


def test_when_all_is_done_one_click_has_all(tab, files):
    shown = tab.finish(*files)
    assert "2 of 3 photographs have a caption. 1 could not be captioned" in shown["many-progress"]
    assert {"reports/beach.html", "reports/street.html", "captions.csv"} < set(zip_of(shown).namelist())
    assert shown["many-message"] == ""
    assert shown["many-start"]["interactive"]
    assert not shown["many-stop"]["interactive"]


def test_nothing_can_be_downloaded_before_all_is_done(tab, files):
    first, *others = tab.start(*files)
    assert first["many-download"]["interactive"] is False
    assert first["many-download"]["value"] is None
    assert not first["many-start"]["interactive"]
    assert first["many-stop"]["interactive"]
    assert [("many-download" in answer) for answer in others] == [False, False, False, True]


def test_without_photographs_or_with_too_many_a_person_is_told(tab, files):
    (none,) = tab.start()
    (more,) = tab.start(*files[:1] * (MOST + 1))
    assert "Choose photographs first" in none["many-message"]
    assert str(MOST) in more["many-message"]
    assert str(MOST + 1) in more["many-message"]
    assert set(none) == set(more) == {"many-message"}
    assert "many-table" in next(tab.start(*files[:1] * MOST))


def test_what_is_done_when_it_is_stopped_can_be_downloaded(tab, files):
    run = tab.start(*files)
    stopping = next(run)["stopping"]
    shown = next(run)
    tab.stop(stopping)
    for answer in run:
        shown |= answer
    assert shown["many-progress"].count("Stopped. 1 of 3 photographs") == 1
    assert [name for name in zip_of(shown).namelist() if name.endswith(".html")] == ["reports/beach.html"]
    assert shown["many-start"]["interactive"]


def test_stopping_one_run_stops_no_other(tab, files):
    run, other = tab.start(*files), tab.start(*files)
    tab.stop(next(run)["stopping"])
    assert len(list(other)) == 5
    tab.stop(None)  # when nothing runs


def test_an_unexpected_failure_is_told_without_its_insides(tab, files, monkeypatch):
    monkeypatch.setattr(Archive, "add", lambda *_: 1 / 0)
    shown = tab.finish(*files)
    assert "Something went wrong" in shown["many-message"]
    assert "division" not in shown["many-message"]
    assert shown["many-download"]["interactive"] is False
    assert shown["many-start"]["interactive"]


def test_names_are_text(tab, files):
    name = "<img src=x onerror=alert(1)>&.png"
    steps = list(tab.start(*files, names={files[0]: name, files[1]: name}))
    for part in ("many-table", "many-progress"):
        html = "".join(step.get(part, "") for step in steps)
        assert "<img src=x" not in html
        assert "&lt;img src=x onerror=alert(1)&gt;&amp;.png" in html


def test_files_are_named_as_they_were_on_the_persons_computer(tab, files):
    table = zip_of(tab.finish(files[0], names={files[0]: "Strand (1).png"})).read("captions.csv").decode("utf-8-sig")
    assert next(csv.DictReader(io.StringIO(table)))["photograph"] == "Strand (1).png"


def test_zips_lie_in_gradios_cache_where_nobody_finds_them_and_go_with_it(tab, files, cache):
    one, other = (Path(tab.finish(files[0])["many-download"]["value"]) for _ in range(2))
    for file in (one, other):
        assert file.parent.parent == cache
        assert len(file.parent.name) >= 32
        assert any(str(file) in kept for kept in tab.blocks.temp_file_sets)
    assert one.parent.name != other.parent.name


def test_a_run_that_is_given_up_closes_its_zip(tab, files, cache):
    run = tab.start(*files)
    next(run)
    next(run)
    run.close()
    (file,) = cache.glob("*/captions.zip")
    assert ZipFile(file).namelist() == ["reports/beach.html"]


def test_a_batch_is_not_in_the_queue_of_single_photographs(captioner):
    with gr.Blocks() as blocks:
        explore(blocks, captioner)
        singles = {function.concurrency_id for function in blocks.fns.values()}
        many(captioner)
    batches = [function for function in blocks.fns.values() if function.types_generator]
    assert [function.concurrency_limit for function in batches] == [1]
    assert not {function.concurrency_id for function in batches} & singles


def test_no_part_is_offered_as_an_endpoint(tab):
    assert tab.blocks.fns
    assert all(function.api_visibility == "private" for function in tab.blocks.fns.values())


def test_a_photograph_unlike_those_of_training_has_a_note(tab, files, monkeypatch):
    note = "Unlike what the model learnt"
    assert note not in tab.finish(files[0])["many-table"]
    monkeypatch.setattr(module.Captioned, "unfamiliar", True)
    assert note in tab.finish(files[0])["many-table"]


def test_a_persons_way_by_keyboard_in_a_browser(captioner, page, files, tmp_path):
    files[2] = files[2].rename(tmp_path / "${document.title='gone'} {{1}}.png")
    with gr.Blocks(title="Many") as blocks:
        many(captioner)

    def tab_to(identity: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.id") == identity:
                return
        raise AssertionError(f"{identity} is not reached by Tab")

    with served(blocks) as url:
        page.goto(url)
        page.wait_for_selector("#many-start")
        assert page.locator("#many-download").is_disabled()
        tab_to("many-start")
        page.keyboard.press("Enter")
        page.wait_for_selector("#many-message [role=alert]")
        page.set_input_files("#many-photos input[type=file]", files)
        page.wait_for_selector("#many-photos a[href]")  # links to what has been uploaded
        tab_to("many-start")
        page.keyboard.press("Enter")
        page.wait_for_selector("#many-download:not([disabled])")
        rows = page.locator("#many-table tbody tr")
        assert rows.count() == 3
        captions = [rows.nth(index).locator("td").first.inner_text() for index in range(3)]
        assert captions[0] == captioner.explain(files[0]).text
        assert "not a photograph" in captions[1]
        assert captions[2] == captioner.explain(files[2]).text
        assert files[2].name in rows.nth(2).inner_text()
        assert page.title() == "Many"
        assert page.locator("#many-message [role=alert]").count() == 0
        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.locator("#many-start").focus()
        tab_to("many-download")
        with page.expect_download() as download:
            page.keyboard.press("Enter")
    names = ZipFile(download.value.path()).namelist()
    assert len([name for name in names if name.endswith(".html")]) == 2
    assert "captions.csv" in names

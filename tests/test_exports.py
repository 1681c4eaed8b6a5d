from __future__ import annotations

import csv
import gc
import io
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from captioner import exports
from captioner.explanation import ExplainedCaption
from captioner.exports import MEDIA_TYPES, export, file_stem, spreadsheet
from captioner.rendering import MAX_SIDE, blur_regions

PICTURES = ("png", "pdf", "gif")


@pytest.fixture(scope="module")
def explained(captioner) -> ExplainedCaption:
    pixels = np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8)
    explained = captioner.explain(pixels)
    return replace(explained, words=explained.words[:3])  # every word is a panel to draw


@pytest.mark.parametrize("kind", MEDIA_TYPES)
def test_every_kind_is_a_file_of_its_type_named_after_the_caption(explained, kind):
    file = export(explained, kind)
    beginnings = {"json": b"{", "report": b"<!doctype html", "png": b"\x89PNG", "pdf": b"%PDF", "gif": b"GIF89a"}
    beginnings["zip"] = b"PK"
    assert file.data.lower().startswith(beginnings[kind].lower())
    stem, _, suffix = file.name.rpartition(".")
    assert suffix == file.media_type.split("/")[1]
    assert stem == file_stem(explained.text)
    assert explained.words[0].text in stem


def test_the_zip_holds_a_file_of_every_other_kind(explained, monkeypatch):
    given = []
    monkeypatch.setattr(exports, "report", lambda *arguments, **options: given.append(options) or "report")
    found, hidden = {"occlusions": []}, np.eye(3, dtype=bool)
    together = ZipFile(io.BytesIO(export(explained, "zip", colour_map="magma", findings=found, hidden=hidden).data))
    assert {Path(name).suffix for name in together.namelist()} == {".json", ".html", ".png", ".pdf", ".gif"}
    assert {Path(name).stem for name in together.namelist()} == {file_stem(explained.text)}
    picture = next(name for name in together.namelist() if name.endswith("png"))
    assert together.read(picture) == export(explained, "png", colour_map="magma", hidden=hidden).data
    assert given == [{"findings": found, "hidden": hidden}]


def test_the_json_reads_back(explained):
    again = ExplainedCaption.from_json(export(explained, "json").data.decode())
    assert again.to_json() == explained.to_json()


def test_the_report_is_given_what_testing_found_and_what_was_hidden(explained, monkeypatch):
    given = []
    monkeypatch.setattr(exports, "report", lambda *arguments, **options: given.append((arguments, options)) or "é")
    found, hidden = {"occlusions": []}, np.eye(3, dtype=bool)
    assert export(explained, "report", findings=found, hidden=hidden).data == "é".encode()
    assert given == [((explained,), {"findings": found, "hidden": hidden})]


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_pictures_show_regions_blurred_that_were_hidden(explained, kind):
    hidden = np.eye(3, dtype=bool)
    shown = replace(explained, photograph=blur_regions(explained.photograph, hidden))
    assert export(explained, kind, hidden=hidden).data == export(shown, kind).data != export(explained, kind).data


def test_hiding_works_on_photographs_larger_than_are_shown(explained):
    large = replace(explained, photograph=explained.photograph.resize((MAX_SIDE * 2, MAX_SIDE)))
    shown = Image.open(io.BytesIO(export(large, "png", hidden=np.eye(3, dtype=bool)).data))
    assert shown.width > 0


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_the_colour_map_is_used(explained, kind):
    assert export(explained, kind, colour_map="magma").data != export(explained, kind).data


@pytest.mark.parametrize("kind", ["exe", "", None])
def test_an_unknown_kind_is_refused_with_the_choices(explained, kind):
    with pytest.raises(ValueError, match="json, report, png, pdf, gif, zip"):
        export(explained, kind)


@pytest.mark.parametrize("kind", PICTURES)
def test_pictures_need_a_known_colour_map_and_a_photograph(explained, kind):
    with pytest.raises(ValueError, match="colour map 'jet'"):
        export(explained, kind, colour_map="jet")
    with pytest.raises(ValueError, match="no photograph"):
        export(replace(explained, photograph=None), kind, hidden=np.eye(3, dtype=bool))
    assert export(replace(explained, photograph=None), "json").data


def test_a_caption_without_words_has_a_name_and_pictures_too(explained):
    silent = replace(explained, words=())
    assert export(silent, "json").name == "caption.json"
    for kind in PICTURES:
        assert export(silent, kind).data


@pytest.mark.parametrize(
    "text",
    [
        "../../etc/passwd",
        "C:\\photo",
        "..",
        ".hidden",
        "-rf",
        '<img src="x">',
        "a/b",
        "nul\0l",
        "line\r\nbreak",
        "写真 1",
        "ñ" * 900,
    ],
)
def test_the_beginning_of_a_file_name_is_safe(text):
    stem = file_stem(text)
    assert all(character.isalnum() or character in "-_" for character in stem)
    assert not stem.startswith("-")
    assert len(f"{stem}-100.html".encode()) < 256


def test_words_stay_readable_in_a_file_name():
    assert file_stem("a dog's ball (2)") == "a-dog-s-ball-2"
    assert file_stem("写真") == "写真"
    assert file_stem("?!") == ""


def test_no_drawing_is_left_in_memory(explained, monkeypatch):
    pictures = []
    figure = exports.figure

    def watched(*arguments, **options):
        drawn = figure(*arguments, **options)
        pictures.extend(weakref.ref(picture) for axes in drawn.axes for picture in axes.images)
        return drawn

    monkeypatch.setattr(exports, "figure", watched)
    gc.disable()
    try:
        export(explained, "png")
        left = [picture() for picture in pictures if picture()]
    finally:
        gc.enable()
    assert len(pictures) == 1 + len(explained.words)
    assert not left


def test_one_figure_is_drawn_at_a_time(explained, monkeypatch):
    both = threading.Barrier(2, timeout=0.3)
    figure, met = exports.figure, []

    def watched(*arguments, **options):
        with suppress(threading.BrokenBarrierError):
            met.append(both.wait())
        return figure(*arguments, **options)

    monkeypatch.setattr(exports, "figure", watched)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: export(explained, "png").data, range(2))
    assert not met
    assert one == other


def test_a_table_reads_back_as_utf_8():
    rows = [{"name": "écran, “b”.jpg", "share": -0.25, "none": None}, {"name": "line\nbreak", "share": 1, "none": None}]
    data = spreadsheet(["name", "share", "none"], rows)
    again = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert data.startswith(b"\xef\xbb\xbf")  # without it Excel takes it for Latin-1
    assert [row["name"] for row in again] == ["écran, “b”.jpg", "line\nbreak"]
    assert [row["share"] for row in again] == ["-0.25", "1"]
    assert again[0]["none"] == ""


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r\n=1", " =1", "＝1"])
def test_no_text_in_a_table_is_a_formula(text):
    data = spreadsheet(["name"], [{"name": text}]).decode("utf-8-sig")
    assert list(csv.reader(io.StringIO(data, newline="")))[1] == [f"'{text}"]

from __future__ import annotations

import csv
import gc
import io
import json
import math
import weakref
from dataclasses import replace
from zipfile import ZipFile

import pytest
from PIL import Image

from captioner import batch
from captioner.batch import Archive, Captioned, caption_all
from captioner.exports import file_stem
from captioner.rendering import MAX_SIDE
from captioner.report import report


@pytest.fixture
def files(tmp_path, photograph):
    """Two photographs, and between them a file that is none."""
    photograph.save(tmp_path / "beach.png")
    (tmp_path / "broken.png").write_bytes(b"no photograph")
    photograph.transpose(Image.Transpose.ROTATE_180).save(tmp_path / "street.png")
    return [tmp_path / "beach.png", tmp_path / "broken.png", tmp_path / "street.png"]


@pytest.fixture
def explained(captioner, photograph):
    return captioner.explain(photograph)


def packed(file, *captioned) -> ZipFile:
    with Archive(file) as archive:
        for one in captioned:
            archive.add(one)
    return ZipFile(file)


def rows(archive: ZipFile) -> tuple[list[dict], list[dict]]:
    """What the two lists in a ZIP say of its photographs: the CSV's and the JSON's."""
    text = archive.read("captions.csv").decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline=""))), json.loads(archive.read("captions.json"))


def test_one_bad_file_does_not_stop_the_rest(captioner, files):
    first, broken, last = caption_all(captioner, files)
    assert [first.name, broken.name, last.name] == ["beach.png", "broken.png", "street.png"]
    assert first.caption == captioner.explain(files[0]).text
    assert last.caption == captioner.explain(files[2]).text
    assert first.error is None
    assert "not a photograph" in broken.error
    assert broken.caption is broken.confidence is broken.familiarity is None
    assert not broken.unfamiliar


def test_an_unexpected_failure_is_told_without_its_insides(captioner, files, monkeypatch):
    explain = captioner.explain
    monkeypatch.setattr(
        captioner, "explain", lambda path, **options: 1 / 0 if path == files[0] else explain(path, **options)
    )
    first, _, last = caption_all(captioner, files)
    assert "Something went wrong" in first.error
    assert "division" not in first.error
    assert last.caption


def test_a_photograph_is_captioned_when_it_is_asked_for(captioner, files, monkeypatch):
    asked, explain = [], captioner.explain

    def watched(path, **options):
        asked.append((path, options))
        return explain(path, **options)

    monkeypatch.setattr(captioner, "explain", watched)
    captioned = caption_all(captioner, files, beam_size=2)
    assert not asked
    next(captioned)
    assert asked == [(files[0], {"beam_size": 2})]


def test_photographs_are_kept_at_the_size_they_are_shown_in(captioner, files, photograph):
    photograph.resize((MAX_SIDE * 2, 300)).save(files[0])
    (large,) = caption_all(captioner, files[:1])
    assert large.explained.photograph.width == MAX_SIDE


def test_confidence_is_the_geometric_mean_of_the_words_and_the_end(explained):
    captioned = Captioned("a", explained)
    words = [word.probability for word in explained.words]
    end = math.exp(explained.log_probability) / math.prod(words)
    assert 0 < end <= 1 + 1e-4
    assert captioned.confidence == pytest.approx(math.prod([*words, end]) ** (1 / (len(words) + 1)), rel=1e-4)


@pytest.mark.parametrize(("familiarity", "unfamiliar"), [(0.0, True), (0.04, True), (0.5, False), (None, False)])
def test_photographs_unlike_those_of_training_are_told(explained, familiarity, unfamiliar):
    captioned = Captioned("a", replace(explained, familiarity=familiarity))
    assert captioned.unfamiliar is unfamiliar
    assert captioned.familiarity == familiarity


def test_a_zip_has_a_report_for_every_caption_and_both_lists(captioner, files, tmp_path):
    captioned = list(caption_all(captioner, files))
    archive = packed(tmp_path / "a.zip", *captioned)
    names = {"reports/beach.html", "reports/street.html", "captions.csv", "captions.json"}
    assert set(archive.namelist()) == names
    assert archive.testzip() is None
    assert archive.read("reports/street.html").decode() == report(captioned[2].explained)
    for table, plain, one in zip(*rows(archive), captioned, strict=True):
        assert table["photograph"] == plain["photograph"] == one.name
        assert table["caption"] == (plain["caption"] or "") == (one.caption or "")
        assert table["error"] == (plain["error"] or "") == (one.error or "")
        assert (float(table["confidence"]) if table["confidence"] else None) == plain["confidence"] == one.confidence
        assert (plain["report"] in names) if one.explained else (plain["report"] is None)


def test_reports_of_photographs_with_one_name_stand_beside_each_other(explained, tmp_path):
    names = ["a.jpg", "a.jpg", "A.png", "a-2.jpg", "a"]
    archive = packed(tmp_path / "a.zip", *(Captioned(name, explained) for name in names))
    reports = [row["report"] for row in rows(archive)[1]]
    assert len({name.casefold() for name in reports}) == len(names)
    assert set(reports) < set(archive.namelist())
    assert len(archive.namelist()) == len(names) + 2


@pytest.mark.parametrize("name", ["../../up.jpg", "/etc/passwd", "C:\\x.jpg", "", ".jpg", "..", "a\0b.jpg", "é" * 500])
def test_no_name_leads_out_of_the_zip(explained, tmp_path, name):
    archive = packed(tmp_path / "a.zip", Captioned(name, explained))
    (inside,) = (entry for entry in archive.namelist() if entry.endswith(".html"))
    folder, _, file = inside.partition("/")
    assert folder == "reports"
    assert file == f"{file_stem(file.removesuffix('.html'))}.html" != ".html"
    assert rows(archive)[1][0]["photograph"] == name


def test_a_name_in_the_table_is_no_formula(explained, tmp_path):
    archive = packed(tmp_path / "a.zip", Captioned("=cmd|calc.jpg", explained))
    table, plain = rows(archive)
    assert table[0]["photograph"] == "'=cmd|calc.jpg"
    assert plain[0]["photograph"] == "=cmd|calc.jpg"


def test_a_zip_keeps_no_explanation_in_memory(explained, tmp_path):
    copy = replace(explained)
    kept = weakref.ref(copy)
    with Archive(tmp_path / "a.zip") as archive:
        archive.add(Captioned("a.jpg", copy))
        del copy
        gc.collect()
        assert kept() is None


def test_a_failure_while_writing_is_no_finished_zip(explained, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "report", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), Archive(tmp_path / "a.zip") as archive:
        archive.add(Captioned("a.jpg", explained))
    assert ZipFile(tmp_path / "a.zip").namelist() == []

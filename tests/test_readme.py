"""The README's numbers are those of the results; and how they come into it."""

import json

import pytest
from matplotlib.figure import Figure

from captioner import figures, readme
from captioner.readme import Measured, ReadmeError, rebuild

VALUES = {
    "captions": {"CIDEr": 54.726, "CIDEr ±": 0.91, "BLEU-4": 21.61},
    "interval": [75.55, -3.0],
    "phrases": 13123,
    "parameters": 2559209,
    "rows": [
        {"name": "without boxes", "CIDEr": 40.2},
        {"name": "rate 0.5", "CIDEr": 1.0},
        {"name": "rate 0.5", "CIDEr": 2.0},
    ],
}


@pytest.fixture
def results(tmp_path):
    (tmp_path / "some.json").write_text(json.dumps(VALUES))
    (tmp_path / "log.jsonl").write_text('{"loss": 5.5}\n{"loss": 4.5}\n')
    return tmp_path


def write(results, name, values):
    (results / name).write_text(json.dumps(values))


# This README


def test_the_readme_says_what_the_results_say(capsys):
    assert readme.main(["--check"]) == 0, capsys.readouterr()


# Numbers


@pytest.mark.parametrize(
    ("old", "mark", "new"),
    [
        ("0", "some.json captions.CIDEr .1f", "54.7"),
        ("-3.75", "some.json captions.BLEU-4 .0f", "22"),
        ("1.0 ± 0.2", "some.json captions.CIDEr ±", "54.7 ± 0.9"),
        ("1.0 ± 0.2", "some.json captions.BLEU-4 ±", "21.6"),
        ("[1, 2]", "some.json interval interval", "[75.5, -3.0]"),
        ("1,000", "some.json phrases ,d", "13,123"),
        ("7", "some.json rows count", "3"),
        ("2.5 M", "some.json parameters millions", "2.6 M"),
        ("7", "some.json rows.without boxes.CIDEr .1f", "40.2"),
        ("7", "some.json rows.2.CIDEr .1f", "2.0"),
        ("7", "log.jsonl -1.loss .1f", "4.5"),
    ],
)
def test_a_number_is_the_value_that_its_mark_names(results, old, mark, new):
    text, differences = rebuild(f"It is {old}<!-- {mark} -->, or 8.", results)
    assert text == f"It is {new}<!-- {mark} -->, or 8."
    (difference,) = differences
    assert all(part in difference for part in (old, new, mark.split()[0]))
    assert rebuild(text, results) == (text, [])


def test_two_numbers_in_a_line_have_a_mark_each(results):
    text = "1<!-- some.json captions.CIDEr .1f --> and 2<!-- some.json captions.BLEU-4 .1f -->"
    assert rebuild(text, results)[0].startswith("54.7<!--")
    assert "and 21.6<!--" in rebuild(text, results)[0]


@pytest.mark.parametrize(
    ("mark", "named"),
    [
        ("none.json captions.CIDEr .1f", ["none.json", "captions.CIDEr"]),
        ("some.json captions.SPICE .1f", ["some.json", "captions.SPICE"]),
        ("some.json captions.CIDEr.deep .1f", ["some.json", "captions.CIDEr.deep"]),
        ("some.json rows.rate.CIDEr .1f", ["some.json", "rows.rate"]),
        ("some.json rows.9.CIDEr .1f", ["some.json", "rows.9"]),
        ("some.json captions .1f", ["some.json", "captions", ".1f"]),
        ("some.json captions.CIDEr interval", ["some.json", "captions.CIDEr", "interval"]),
    ],
)
def test_what_is_not_in_the_results_is_named(results, mark, named):
    with pytest.raises(ReadmeError) as error:
        rebuild(f"7<!-- {mark} -->", results)
    assert all(part in str(error.value) for part in named)


def test_a_name_that_two_rows_have_is_no_answer(results):
    with pytest.raises(ReadmeError, match=r"some\.json has no rows\.rate 0\.5"):
        Measured(results / "some.json").value("rows", "rate 0.5", "CIDEr")


def test_damaged_results_are_named(results):
    (results / "some.json").write_text("{")
    with pytest.raises(ReadmeError, match=r"some\.json"):
        rebuild("7<!-- some.json captions.CIDEr .1f -->", results)


@pytest.mark.parametrize(
    "text",
    [
        "seven<!-- some.json captions.CIDEr .1f -->",
        "7 <!-- some.json captions.CIDEr .1f -->",
        "7<!-- some.json captions.CIDEr -->",
        "7<!-- some.json bad --> and 7<!-- some.json captions.CIDEr .1f -->",
        "<!-- table: levers -->\n| a |\n",
        "<!-- table: levers -->\n| a |\n<!-- table: levers -->\n| b |\n<!-- /table -->\n",
    ],
)
def test_a_mark_that_would_be_passed_over_is_an_error(results, text):
    with pytest.raises(ReadmeError, match="is no mark"):
        rebuild(text, results)


# Tables


LEVERS = {
    "rows": [
        {"name": "rate 0.5", "recipe": "small", "seeds": 3, "CIDEr": 40.0, "CIDEr ±": 0.5, "BLEU-4": 17.0}
        | {"METEOR": 18.0, "pointing": 73.0, "correctness": 65.0, "minutes": 12.4},
        {"name": "rate 0.5", "recipe": "full", "seeds": 1, "CIDEr": 55.0, "BLEU-4": 21.0}
        | {"pointing": 76.0, "minutes": 31.0, "minutes of": "one H200"},
    ]
}


@pytest.mark.parametrize("old", ["", "| a table |\n|---|\n| of before |\n"])
def test_a_table_is_made_again_between_its_marks(results, old):
    write(results, "levers.json", LEVERS)
    text, differences = rebuild(f"before\n\n<!-- table: levers -->\n{old}<!-- /table -->\n\nafter", results)
    assert differences == ["table levers"]
    assert text.startswith("before\n\n<!-- table: levers -->\n| change | recipe |")
    assert text.endswith(" |\n<!-- /table -->\n\nafter")
    assert rebuild(text, results) == (text, [])


def test_a_table_that_does_not_exist_is_named(results):
    with pytest.raises(ReadmeError, match=r"'lever'.*levers"):
        rebuild("<!-- table: lever -->\n<!-- /table -->", results)


def test_a_table_of_results_that_are_missing_is_an_error(results):
    with pytest.raises(ReadmeError, match=r"throughput\.json"):
        rebuild("<!-- table: throughput -->\n<!-- /table -->", results)


def test_scores_that_were_not_measured_are_blank(results, monkeypatch):
    monkeypatch.setattr(readme, "MODELS", {"val.json": "bundled model"})
    scores = {"BLEU-1": 62.0, "METEOR": 20.0, "CIDEr": 54.7, "vocabulary": 408, "length": 9.63}
    write(results, "val.json", {"generation": {"beam_size": 3}, "captions": scores})
    assert readme.captions(results).splitlines()[2] == (
        "| bundled model | 3 | 62.0 |  |  |  | 20.0 |  |  | 54.7 | 408 |  | 9.6 | `val.json` |"
    )


def test_levers_of_the_same_name_keep_their_rows(results):
    write(results, "levers.json", LEVERS)
    assert readme.levers(results).splitlines()[2:] == [
        "| rate 0.5 | small | 3 | 40.0 ± 0.5 | 17.0 | 18.0 | 73.0 | 65.0 | 12 |",
        "| rate 0.5 | full | 1 | 55.0 | 21.0 |  | 76.0 |  | 31 (one H200) |",
    ]


def test_calibration_stands_before_and_after_the_temperature(results):
    familiarity = {"auroc": {"noise": 99.97, "text": 98.0}, "flagged": {"val": 1.0, "noise": 100.0, "text": 90.0}}
    measured = {"temperature": 1.234, "before": {"ece": 9.5, "nll": 2.5}, "after": {"ece": 1.25, "nll": 2.4}}
    write(results, "calibration.json", measured | {"familiarity": familiarity})
    assert readme.calibration(results).splitlines()[2:] == [
        "| before | 1.00 | 9.5 | 2.50 |",
        "| after | 1.23 | 1.2 | 2.40 |",
    ]
    assert readme.familiarity(results).splitlines()[2:] == [
        "| photographs of val |  | 1.0 |",
        "| noise | 100.0 | 100.0 |",
        "| pages of text | 98.0 | 90.0 |",
    ]


def test_throughput_has_a_row_for_every_decoder(results):
    line = {"name": "CNN", "parameters": 2559209, "words_per_second": 10234.5, "words_per_second_ratio": 1.5}
    write(results, "throughput.json", {"decoders": [line | {"caption_ms": 12.34, "caption_ms_ratio": 0.754}]})
    assert readme.throughput(results).splitlines()[2:] == ["| CNN | 2.6 M | 10,234 | 1.50 | 12.3 | 0.75 |"]


def test_captioners_are_compared_against_all_references_and_against_the_others(results):
    said = {"METEOR": 17.0, "CIDEr": 39.04, "CIDEr ±": 0.86, "vocabulary": 121.7, "length": 10.98, "novel": 87.5}
    ours = {"name": "CNN", "seeds": 3, "parameters": 2559209, "captions": said}
    ours |= {"others": {"METEOR": 16.0, "CIDEr": 37.0, "CIDEr ±": 0.5}, "pointing": 73.4, "pointing of attention": 71.1}
    ours |= {"correctness": 65.2, "correctness of attention": 60.1}
    ours |= {"words_per_second": 4321.5, "words_per_second_ratio": 1.0, "caption_ms": 23.45, "caption_ms_ratio": 1.0}
    person = {"METEOR": 25.0, "CIDEr": 81.2, "vocabulary": 2000, "length": 11.0, "novel": 99.0}
    rows = [ours, {"name": "a person", "captions": {}, "others": person}]
    report = {"scores": ["METEOR", "CIDEr"], "references": {"captions": 5, "others": 4}, "rows": rows}
    write(results, "comparison.json", report)
    heading, _, *lines = readme.comparison(results).splitlines()
    assert "| METEOR, 5 references | CIDEr-D, 5 references | METEOR, 4 references | CIDEr-D, 4 references |" in heading
    assert "| words learnt a second | ratio to the first row | ms a caption | ratio to the first row |" in heading
    assert lines == [
        "| CNN | 3 | 17.0 | 39.0 ± 0.9 | 16.0 | 37.0 ± 0.5 | 122 | 87.5 | 11.0 | 73.4 | 65.2 | 71.1 | 60.1 | 2.6 M "
        "| 4,322 | 1.00 | 23.4 | 1.00 |",
        "| a person |  |  |  | 25.0 | 81.2 | 2000 | 99.0 | 11.0 |  |  |  |  |  |  |  |  |  |",
    ]
    assert {line.count("|") for line in lines} == {heading.count("|")}


@pytest.mark.parametrize("name", ["captions", "coco", "maps", "phrases", "orders", "sanity", "ablation", "layers"])
def test_every_row_of_a_table_has_all_its_columns(name):
    heading, rule, *rows = readme.TABLES[name](readme.RESULTS).splitlines()
    assert rows
    assert {line.count("|") for line in (rule, *rows)} == {heading.count("|")}


# The command line


@pytest.fixture
def own_readme(results, monkeypatch):
    file = results / "README.md"
    file.write_text("§ 1<!-- some.json captions.CIDEr .1f -->\n", encoding="utf-8")
    monkeypatch.setattr(readme, "README", file)
    monkeypatch.setattr(readme, "RESULTS", results)
    return file


def test_checking_changes_nothing_and_says_what_differs(own_readme, capsys):
    before = own_readme.read_bytes()
    assert readme.main(["--check"]) == 1
    assert capsys.readouterr().out == "some.json captions.CIDEr: 1 should be 54.7\n"
    assert own_readme.read_bytes() == before


def test_writing_makes_the_readme_agree(own_readme, capsys):
    assert readme.main([]) == 0
    assert own_readme.read_text(encoding="utf-8") == "§ 54.7<!-- some.json captions.CIDEr .1f -->\n"
    assert "should be 54.7" in capsys.readouterr().out
    assert readme.main(["--check"]) == 0
    assert "README.md is up to date" in capsys.readouterr().out


def test_figures_are_checked_and_drawn_as_tables_are(own_readme, monkeypatch, capsys):
    monkeypatch.setattr(figures, "FIGURES", {"some.png": lambda report: Figure()})
    own_readme.write_text("54.7<!-- some.json captions.CIDEr .1f --> ![A figure](assets/results/some.png)")
    assert readme.main(["--check"]) == 1
    assert capsys.readouterr().out == "figure some.png\n"
    assert readme.main([]) == 0
    assert readme.main(["--check"]) == 0
    own_readme.write_text("![A figure](assets/results/other.png)")
    assert readme.main(["--check"]) == 2
    assert "no figure 'other.png'" in capsys.readouterr().err


def test_a_mistake_in_a_mark_is_told_in_a_line(own_readme, capsys):
    own_readme.write_text("1<!-- some.json captions.SPICE .1f -->")
    assert readme.main([]) == 2
    assert capsys.readouterr().err == "captioner.readme: some.json has no captions.SPICE.\n"

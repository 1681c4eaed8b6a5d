"""The README's tables, numbers and figures, made from the JSON files of results: ``python -m captioner.readme``.

Marks that no reader sees say in README.md what is from where. A table stands between ``<!-- table: NAME -->`` and
``<!-- /table -->``, NAME being one of ``TABLES``. A number in a sentence has its mark right behind it::

    54.7<!-- val.json captions.CIDEr .1f -->

names a file of results, the keys to the value in it, with dots between them, and a format: one of Python's, or one of
``FORMATS``, or ``±`` for a mean with its standard deviation over seeds, where there is one. An item of a list is found
by its ``name``, or by its number, of which -1 is the last; a ``.jsonl`` file is a list of its lines. The figures are
those that the README shows from ``assets/results``, see ``captioner/figures.py``.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
README, RESULTS = ROOT / "README.md", ROOT / "assets" / "results"

# The rows of the table of captions: files of results on val, and what is scored there.
MODELS = {
    "val.json": "bundled model: mean of seventh and eighth run and of what they went on from, calibrated",
    "val-unknown-counted.json": "the same, as it was searched before (see below)",
    "val-sharper-run.json": "eighth run, sharper, from a mean of means",
    "val-first-mean.json": "mean of second and third run, bundled before",
    "val-crops-run.json": "fourth run, cropped views too",
    "val-third-run.json": "third run, as the second through dropout",
    "val-second-run.json": "second run, sharper self-critical training",
    "val-first-run.json": "first run, calibrated: what the second to the sixth went on from",
    "val-before-self-critical.json": "first run before its self-critical epoch",
}

# What several tables show of captions and of decoders: keys in the results, how each is shown, and the titles.
_VARIETY = {"vocabulary": ".0f", "novel": ".1f", "length": ".1f"}
_VARIETY_TITLES = "different words | novel, % | words a caption"
_SPEED = {"words_per_second": ",.0f", "words_per_second_ratio": ".2f", "caption_ms": ".1f", "caption_ms_ratio": ".2f"}
_SPEED_TITLES = "words learnt a second | ratio to the first row | ms a caption | ratio to the first row"


class ReadmeError(ValueError):
    """A mark, a file of results or a value in it that is missing or of no use; the message names it."""


FORMATS: dict[str, Callable[[Any], str]] = {
    "interval": lambda ends: f"[{ends[0]:.1f}, {ends[1]:.1f}]",
    "count": lambda items: f"{len(items)}",
    "millions": lambda number: f"{number / 1e6:.1f} M",
}


@dataclass(frozen=True)
class Measured:
    """A file of results. What is not in it is a ``ReadmeError`` that names file and keys."""

    file: Path

    def value(self, *keys: str) -> Any:
        """What is found under these keys, one after the other."""
        try:
            found = self._read()
        except (OSError, ValueError) as error:
            raise ReadmeError(f"{self.file}, where {'.'.join(keys)} should be, cannot be read: {error}") from error
        for number, key in enumerate(keys, start=1):
            try:
                found = _item(found, key) if isinstance(found, list) else found[key]
            except (LookupError, TypeError, ValueError) as error:
                raise ReadmeError(f"{self.file.name} has no {'.'.join(keys[:number])}.") from error
        return found

    def shown(self, *keys: str, form: str = ".1f") -> str:
        """A value as the README shows it."""
        if form == "±":
            *path, last = keys
            spread = self.shown_if_any(*path, f"{last} ±")
            return self.shown(*keys) + (spread and f" ± {spread}")
        found = self.value(*keys)
        try:
            return FORMATS[form](found) if form in FORMATS else format(found, form)
        except (LookupError, TypeError, ValueError) as error:
            raise ReadmeError(f"{self.file.name} {'.'.join(keys)} cannot be shown as {form}: {found!r}.") from error

    def shown_if_any(self, *keys: str, form: str = ".1f") -> str:
        """As ``shown``, but blank where only the last key is missing."""
        return self.shown(*keys, form=form) if keys[-1] in self.value(*keys[:-1]) else ""

    def shown_with_interval(self, metric: str, *keys: str) -> str:
        """A mean and its bootstrap interval."""
        return f"{self.shown(metric, *keys)} {self.shown(metric, 'intervals', *keys, form='interval')}"

    def numbers(self, *keys: str) -> list[str]:
        """The numbers of the items of a list, by which they are found."""
        return [f"{number}" for number in range(len(self.value(*keys)))]

    def _read(self) -> Any:
        text = self.file.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()] if self.file.suffix == ".jsonl" else json.loads(text)


def _item(items: list[Any], key: str) -> Any:
    named = [item for item in items if isinstance(item, dict) and item.get("name") == key]
    return named[0] if len(named) == 1 else items[int(key)]


def _table(columns: str, rows: Iterable[Sequence[str]]) -> str:
    """Markdown of a table; ``columns``: their titles, with | between them."""
    lines = [f"| {columns} |", "|---" * (columns.count("|") + 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def captions(results: Path) -> str:
    """Scores of captions, a row for each of ``MODELS``."""
    scores = ("BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "METEOR", "SPICE", "ROUGE-L", "CIDEr")

    def row(file: str, name: str) -> list[str]:
        measured = Measured(results / file)
        beam = measured.shown("generation", "beam_size", form="d")
        cells = [measured.shown_if_any("captions", score) for score in scores]
        cells += [measured.shown_if_any("captions", key, form=form) for key, form in _VARIETY.items()]
        return [name, beam, *cells, f"`{file}`"]

    titles = "model | beam | BLEU-1 | BLEU-2 | BLEU-3 | BLEU-4 | METEOR | SPICE | ROUGE-L | CIDEr-D"
    return _table(f"{titles} | {_VARIETY_TITLES} | JSON", (row(*model) for model in MODELS.items()))


def maps(results: Path) -> str:
    """Grounding of every kind of map, the decoder's layers from the top."""
    measured = Measured(results / "val.json")
    layers = [key for key in measured.value("grounding", "entropy") if key.startswith("layer_")]
    names = {"region_word": "region-word map (shown)", "attention": "attention of the head (alpha)"}
    names |= {layer: layer.replace("_", " ") for layer in reversed(layers)}
    names |= {layers[-1]: f"decoder layer {len(layers)}"}
    names |= {"grad_cam": "Grad-CAM", "input_gradient": "input gradient", "shuffled": "map of another word"}
    names |= {"centre": "always the centre", "uniform": "uniform"}

    def row(key: str, name: str) -> list[str]:
        sure = (measured.shown_with_interval("grounding", score, key) for score in ("pointing", "correctness"))
        wide = (measured.shown_if_any("grounding", score, key) for score in ("entropy", "overlap"))
        return [name, *sure, *wide, measured.shown("grounding", "phrases_by_map", key, form=",d")]

    titles = "map | pointing, % | correctness, % | entropy, % | overlap, % | phrases"
    return _table(titles, (row(*kind) for kind in names.items()))


def phrases(results: Path) -> str:
    """Grounding by what phrases name, and by the size of their boxes."""
    measured = Measured(results / "val.json")
    types = {kind: kind for kind in ("people", "animals", "scene", "vehicles", "instruments", "clothing")}
    types |= {"bodyparts": "body parts", "other": "other"}
    sizes = {"small": "box under 5 % of the photograph", "medium": "5 to 25 %", "large": "over 25 %"}
    pointing = ("region_word", "attention", "centre")

    def row(by: str, group: str, name: str) -> list[str]:
        path = ("grounding", by, group)
        number = measured.shown(*path, "phrases", form="d")
        points = (measured.shown(*path, "pointing", key) for key in pointing)
        return [name, number, *points, measured.shown(*path, "correctness", "region_word")]

    rows = [row("by_type", *group) for group in types.items()] + [row("by_size", *group) for group in sizes.items()]
    return _table("phrases | number | pointing | of alpha | of the centre | correctness", rows)


def orders(results: Path) -> str:
    """Deletion and insertion by every order of regions, and the interval of the shown map's difference."""
    measured = Measured(results / "val-faithfulness.json")
    names = {"": "region-word map (shown)", "_attention": "alpha", "_grad_cam": "Grad-CAM"}
    names |= {"_centre": "from the centre outwards", "_random": "random order"}

    def cells(score: str, order: str) -> list[str]:
        area = measured.shown_with_interval("faithfulness", score + order)
        difference = ("faithfulness", "intervals", f"{score} - {score}{order}")
        return [area, measured.shown(*difference, form="interval") if order else ""]

    titles = "order | deletion (low is good) | shown map less this | insertion (high is good) | shown map less this"
    rows = ([name, *cells("deletion", order), *cells("insertion", order)] for order, name in names.items())
    return _table(titles, rows)


def sanity(results: Path) -> str:
    """Rank correlation of maps with those of a model with random weights."""
    measured = Measured(results / "val-faithfulness.json")
    names = {"head": "region-word head", "decoder": "whole decoder but its embeddings", "all": "whole decoder"}
    names |= {"encoder": "encoder alone", "words": "(two words of one caption, nothing randomised)"}

    def row(part: str, name: str) -> list[str]:
        return [name, *(measured.shown("faithfulness", "sanity", part, kind) for kind in ("region_word", "attention"))]

    return _table("randomised | region-word | alpha", (row(*part) for part in names.items()))


def ablation(results: Path) -> str:
    """Small models that differ in one thing, a row each."""
    measured = Measured(results / "ablation.json")

    def row(number: str) -> list[str]:
        path = ("rows", number)
        scores = ("CIDEr", "BLEU-4", "pointing", "pointing of attention", "correctness", "overlap")
        deletion = (measured.shown(*path, order, form="±") for order in ("deletion", "deletion_random"))
        return [
            measured.shown(*path, "name", form=""),
            measured.shown(*path, "changes", "seeds", form="count"),
            *(measured.shown_if_any(*path, score, form="±") for score in scores),
            " / ".join(deletion),
            measured.shown(*path, "parameters", form="millions"),
            measured.shown(*path, "step time", form=".2f"),
        ]

    titles = "CIDEr-D | BLEU-4 | pointing | of alpha | correctness | overlap | deletion / random"
    return _table(f"model | seeds | {titles} | decoder | step time", map(row, measured.numbers("rows")))


def layers(results: Path) -> str:
    """Pointing and entropy of the decoder's layers by the form of attention; without a hierarchy only the top looks."""
    measured = Measured(results / "ablation.json")
    names = {"whole model": "pyramid (whole model)", "gated attention": "gated", "no hierarchy": "none"}

    def cells(model: str) -> list[str]:
        path = ("rows", model, "layers")
        return [
            f"{measured.shown(*path, layer, 'pointing')} / {measured.shown(*path, layer, 'entropy')}"
            for layer in measured.value(*path)
        ]

    rows = {name: cells(model) for model, name in names.items()}
    most = max(map(len, rows.values()))
    titles = " | ".join(["form", *(f"layer {number}" for number in range(1, most + 1))])
    return _table(titles, ([name, *[""] * (most - len(row)), *row] for name, row in rows.items()))


def levers(results: Path) -> str:
    """What each change to a recipe brings, and how long training takes with it."""
    measured = Measured(results / "levers.json")

    def row(number: str) -> list[str]:
        path = ("rows", number)
        place = measured.shown_if_any(*path, "minutes of", form="")
        return [
            *(measured.shown(*path, key, form="") for key in ("name", "recipe", "seeds")),
            *(measured.shown(*path, score, form="±") for score in ("CIDEr", "BLEU-4")),
            measured.shown_if_any(*path, "METEOR", form="±"),
            measured.shown(*path, "pointing", form="±"),
            measured.shown_if_any(*path, "correctness", form="±"),
            measured.shown(*path, "minutes", form=".0f") + (place and f" ({place})"),
        ]

    titles = "CIDEr-D | BLEU-4 | METEOR | pointing | correctness"
    return _table(f"change | recipe | seeds | {titles} | training time (minutes)", map(row, measured.numbers("rows")))


def calibration(results: Path) -> str:
    """How far the model's probabilities mean what they say, before and after its temperature was set."""
    measured = Measured(results / "calibration.json")
    temperatures = {"before": "1.00", "after": measured.shown("temperature", form=".2f")}
    rows = (
        [when, temperature, measured.shown(when, "ece"), measured.shown(when, "nll", form=".2f")]
        for when, temperature in temperatures.items()
    )
    return _table("calibration | temperature | expected calibration error, % | nats a word", rows)


def familiarity(results: Path) -> str:
    """How well each kind of picture is told from the usual photographs, and how often a person is warned of one."""
    measured = Measured(results / "calibration.json")
    names = {"val": "photographs of val", "coco": "photographs of COCO", "noise": "noise", "text": "pages of text"}
    kinds = [kind for kind in names if kind in measured.value("familiarity", "flagged")]
    rows = (
        [
            names[kind],
            measured.shown_if_any("familiarity", "auroc", kind),
            measured.shown("familiarity", "flagged", kind),
        ]
        for kind in kinds
    )
    return _table("pictures | AUROC, % | flagged, %", rows)


def throughput(results: Path) -> str:
    """How fast the decoders learn and caption, with ratios to the first."""
    measured = Measured(results / "throughput.json")
    forms = {"name": "", "parameters": "millions"} | _SPEED
    rows = (
        [measured.shown("decoders", number, key, form=form) for key, form in forms.items()]
        for number in measured.numbers("decoders")
    )
    return _table(f"decoder | parameters | {_SPEED_TITLES}", rows)


def comparison(results: Path) -> str:
    """Decoders, other captioners, floors and a person; what was not measured is blank."""
    measured = Measured(results / "comparison.json")
    scores = [(judged, score) for judged in ("captions", "others") for score in measured.value("scores")]
    numbers = {judged: measured.shown("references", judged, form=".0f") for judged, _ in scores}
    titles = [f"{score.replace('CIDEr', 'CIDEr-D')}, {numbers[judged]} references" for judged, score in scores]
    maps = ("pointing", "correctness", "pointing of attention", "correctness of attention")
    forms = dict.fromkeys(maps, "±") | {"parameters": "millions"} | _SPEED

    def row(number: str) -> list[str]:
        path = ("rows", number)
        # A person is judged by the others alone.
        described = "captions" if measured.value(*path, "captions") else "others"
        return [
            measured.shown(*path, "name", form=""),
            measured.shown_if_any(*path, "seeds", form="d"),
            *(measured.shown_if_any(*path, *score, form="±") for score in scores),
            *(measured.shown_if_any(*path, described, key, form=form) for key, form in _VARIETY.items()),
            *(measured.shown_if_any(*path, key, form=form) for key, form in forms.items()),
        ]

    titles = " | ".join(["captions by", "seeds", *titles, _VARIETY_TITLES, *maps, "decoder", _SPEED_TITLES])
    return _table(titles, map(row, measured.numbers("rows")))


def coco(results: Path) -> str:
    """Captions, hallucination and grounding on photographs of another kind than those that were learnt from."""
    measured = Measured(results / "coco-sample.json")
    scores = [measured.shown_if_any("captions", score) for score in ("BLEU-4", "METEOR", "ROUGE-L", "CIDEr")]
    sure = [measured.shown_with_interval("hallucination", score) for score in ("CHAIR-s", "CHAIR-i")]
    sure += [measured.shown_with_interval("grounding", "pointing", key) for key in ("region_word", "centre")]
    titles = "photographs | BLEU-4 | METEOR | ROUGE-L | CIDEr-D | CHAIR-s, % | CHAIR-i, % | pointing, %"
    return _table(f"{titles} | always the centre, %", [[measured.shown("photographs", form="d"), *scores, *sure]])


_ALL = (captions, coco, maps, phrases, orders, sanity, ablation, layers)
_ALL += (levers, comparison, calibration, familiarity, throughput)
TABLES: dict[str, Callable[[Path], str]] = {table.__name__: table for table in _ALL}

_TABLE = re.compile(r"<!-- table: (?P<name>\w+) -->\n(?P<old>(?:(?!<!--).)*)<!-- /table -->", re.DOTALL)
_VALUE = r"\[[^\[\]]*\]|-?\d[\d,]*(?:\.\d+)?(?: ± \d+\.\d+| M)?"
_NUMBER = re.compile(rf"(?P<old>{_VALUE})(?P<mark><!-- (?P<file>\S+\.jsonl?) (?P<path>[^<>]+) (?P<form>\S+) -->)")
_FIGURE = re.compile(r"\(assets/results/([^()\s]+\.png)\)")
_COMMENT = re.compile("<!--.*?-->", re.DOTALL)


def rebuild(text: str, results: Path) -> tuple[str, list[str]]:
    """The README's ``text`` with the tables and numbers of the folder ``results``, and what differed, a line each.

    Raises ``ReadmeError`` for a comment that is no mark, and for what a mark names that does not exist.
    """
    differences = []

    def table(mark: re.Match) -> str:
        name = mark["name"]
        if name not in TABLES:
            raise ReadmeError(f"There is no table {name!r}; there are {', '.join(TABLES)}.")
        new = TABLES[name](results) + "\n"
        if new != mark["old"]:
            differences.append(f"table {name}")
        return f"<!-- table: {name} -->\n{new}<!-- /table -->"

    def number(mark: re.Match) -> str:
        new = Measured(results / mark["file"]).shown(*mark["path"].split("."), form=mark["form"])
        if new != mark["old"]:
            differences.append(f"{mark['file']} {mark['path']}: {mark['old']} should be {new}")
        return new + mark["mark"]

    unknown = _COMMENT.findall(_NUMBER.sub("", _TABLE.sub("", text)))
    if unknown:
        raise ReadmeError(f"{unknown[0]} is no mark that belongs to a number or a table: see captioner/readme.py.")
    return _NUMBER.sub(number, _TABLE.sub(table, text)), differences


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m captioner.readme",
        description="Make the README's tables, numbers and figures from the files under assets/results.",
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where anything differs")
    arguments = parser.parse_args(argv)
    from captioner import figures  # what draws them needs the training's packages, which a model card does without

    try:
        text, differences = rebuild(README.read_text(encoding="utf-8"), RESULTS)
        stale = [name for name in _FIGURE.findall(text) if figures.is_stale(name, RESULTS)]
    except (OSError, ValueError) as error:
        print(f"captioner.readme: {error}", file=sys.stderr)
        return 2
    for difference in [*differences, *(f"figure {name}" for name in stale)]:
        print(difference)
    if not (differences or stale):
        print("README.md is up to date: its tables, numbers and figures are those of assets/results.")
    elif arguments.check:
        return 1
    else:
        README.write_text(text, encoding="utf-8")
        for name in stale:
            figures.draw(name, RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main())

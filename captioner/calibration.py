"""Calibration: a temperature by which probabilities mean what they say, and which photographs a model is used to.

``python -m captioner.calibration MODEL_FOLDER --data FOLDER`` finds both and writes them into the model folder. The
temperature is that of Guo et al. 2017, "On Calibration of Modern Neural Networks".
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from tqdm import tqdm

from captioner.data import CaptionedPhotograph, DataError, of_split
from captioner.datasets import read_data
from captioner.decoder import Decoder
from captioner.familiarity import UNFAMILIAR, Familiarity, auroc, mean_features
from captioner.hub import ModelError, SavedModel, load_model, save_model
from captioner.json_files import output_file, write_json
from captioner.likelihood import log_probabilities
from captioner.model import CaptionModel
from captioner.non_photographs import noise, text_pages
from captioner.photographs import PhotographError, PhotographSource, open_photograph
from captioner.provenance import provenance
from captioner.readability import readable
from captioner.reading import read
from captioner.teaching import padded
from captioner.vocabulary import PAD, UNKNOWN

BINS = 15
SEED = 0
LEARNT = 2000  # training photographs that say what is usual
STRANGE = 64  # pictures of each kind that familiarity is tried on
_BATCH = 16

# Words of reference captions, (n,), with the logits (n, V) a model gives in their places; a pair a photograph.
Words = Sequence[tuple[torch.Tensor, torch.Tensor]]


@torch.no_grad()
def reference_words(
    decoder: Decoder, features: torch.Tensor, captions: Sequence[Sequence[int]]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The known words (n,) of a photograph's captions (ids), ends too, and their logits (n, V), given those before.

    ``features``: (R, C). Logits are in float16: those of 1,000 photographs of Flickr8k take 300 MB.
    """
    words = padded(captions, max(map(len, captions))).to(features.device)  # (captions, T)
    counted = (words != PAD) & (words != UNKNOWN)
    logits = read(decoder, words, decoder.look(features[None])).logits
    return words[counted].cpu(), logits[counted].half().cpu()


def fit_temperature(read_words: Words) -> float:
    """The temperature at which the probability of the likeliest word foretells best whether a person wrote that word.

    Best by the cross-entropy of that yes or no, and not of the words themselves: a model that learnt with label
    smoothing gives every rare word a little, and the words are likeliest where that is mended at the top's expense.
    """
    logarithm = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([logarithm], line_search_fn="strong_wolfe")
    count = sum(len(words) for words, _ in read_words)

    def loss() -> float:
        optimizer.zero_grad()
        total = 0.0
        for words, logits in read_words:
            highest, likeliest = log_probabilities(logits, logarithm.exp()).exp().max(-1)
            right = (likeliest == words).float()
            part = F.binary_cross_entropy(highest, right, reduction="sum") / count
            part.backward()
            total += part.item()
        return total

    optimizer.step(loss)
    return logarithm.exp().item()


def reliability(read_words: Words, temperature: float) -> dict[str, Any]:
    """How well the confidence in the likeliest word agrees with how often it is the reference word.

    ``ece``: expected calibration error, percent; ``nll``: nats a word; ``bins``: of equal width from 0 to 1, each with
    its number of ``words`` and their mean ``confidence`` and ``accuracy``, 0..1 (None where there are no words).
    """
    confidences, rights, surprises = [], [], []
    for words, logits in read_words:
        logs = log_probabilities(logits, temperature)
        highest, likeliest = logs.max(-1)
        confidences.append(highest.exp())
        rights.append(likeliest == words)
        surprises.append(-logs.gather(1, words[:, None]).squeeze(1))
    confidence, right = torch.cat(confidences).double().numpy(), torch.cat(rights).numpy()
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    bins, gap = [], 0.0
    for place in range(BINS):
        inside = places == place
        count = int(inside.sum())
        sure, correct = (float(values[inside].mean()) if count else None for values in (confidence, right))
        gap += count * abs(sure - correct) if count else 0
        bins.append({"words": count, "confidence": sure, "accuracy": correct})
    return {"ece": 100 * gap / len(right), "nll": torch.cat(surprises).mean().item(), "bins": bins}


@torch.no_grad()
def encoded(model: CaptionModel, pictures: Sequence[PhotographSource], label: str) -> Iterator[torch.Tensor]:
    """The features (R, C) of every picture, in order."""
    device = model.decoder.position.device
    with tqdm(total=len(pictures), desc=f"encoding {label}", unit="photo") as bar:
        for start in range(0, len(pictures), _BATCH):
            chunk = [model.config.preprocessing(open_photograph(one)) for one in pictures[start : start + _BATCH]]
            yield from model.encode(torch.stack(chunk).to(device))
            bar.update(len(chunk))


def calibrate(
    saved: SavedModel,
    training: Sequence[CaptionedPhotograph],
    validation: Sequence[CaptionedPhotograph],
    strange: Mapping[str, Sequence[PhotographSource]],
) -> tuple[SavedModel, dict[str, Any]]:
    """Set a model's temperature, by the captions of validation, and its familiarity.

    Returns the model and what was measured: the reliability of its probabilities before and after, how well
    familiarity tells ``strange`` pictures, by their kind, from the photographs of validation, and how many pictures of
    each kind a person is warned of, in percent.
    """
    model, vocabulary = saved.model, saved.vocabulary
    temperature = model.decoder.head.temperature.fill_(1)
    read_words, seen = [], []
    for features, record in zip(encoded(model, [record.path for record in validation], "val"), validation):
        captions = [vocabulary.encode(tokens) for tokens in record.tokens]
        read_words.append(reference_words(model.decoder, features, captions))
        seen.append(mean_features(features))
    temperature.fill_(fit_temperature(read_words))

    def means(pictures: Sequence[PhotographSource], label: str) -> torch.Tensor:
        return torch.stack([mean_features(features) for features in encoded(model, pictures, label)])

    usual = torch.stack(seen)
    familiarity = Familiarity.fit(means([record.path for record in training], "train"), usual)

    def flagged(distances: torch.Tensor) -> float:
        return 100 * float((familiarity.shares(distances) < UNFAMILIAR).mean())

    near = familiarity.distances(usual)
    distances = {kind: familiarity.distances(means(pictures, kind)) for kind, pictures in strange.items()}
    report = {
        "temperature": temperature.item(),
        "before": reliability(read_words, 1.0),
        "after": reliability(read_words, temperature.item()),
        "familiarity": {
            "auroc": {kind: auroc(near, far) for kind, far in distances.items()},
            "flagged": {kind: flagged(far) for kind, far in ({"val": near} | distances).items()},
        },
    }
    return replace(saved, familiarity=familiarity), report


def figure(report: Mapping[str, Any]) -> Figure:
    """Reliability before and after, side by side: accuracy against confidence, and the number of words below."""
    drawn = Figure(figsize=(8, 5), layout="constrained")
    curves, counts = drawn.subplots(2, 2, sharex=True, sharey="row", height_ratios=(3, 1))
    centres = (np.arange(BINS) + 0.5) / BINS
    titles = {"before": "Before", "after": f"After, at temperature {report['temperature']:.2f}"}
    for column, (when, title) in enumerate(titles.items()):
        measured = report[when]
        filled = [own for own in measured["bins"] if own["words"]]
        curves[column].plot((0, 1), (0, 1), color="0.6", linestyle=":", label="means what it says")
        curves[column].plot(
            [own["confidence"] for own in filled],
            [own["accuracy"] for own in filled],
            color="#21918c",
            marker="o",
            label="the model",
        )
        curves[column].set_title(f"{title}\nECE {measured['ece']:.1f} %, {measured['nll']:.2f} nats a word")
        counts[column].bar(centres, [own["words"] for own in measured["bins"]], width=0.9 / BINS, color="#3b528b")
        counts[column].set_xlabel("confidence in the likeliest word")
    curves[0].set_ylabel("how often it is the reference word")
    curves[0].legend(frameon=False)
    counts[0].set_ylabel("words")
    return drawn


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m captioner.calibration",
        description="Calibrate a model's probabilities on val, and teach it which photographs are usual.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL_FOLDER", help="folder of the model, which is changed")
    parser.add_argument("--data", type=Path, required=True, help="folder with dataset*.json and images/")
    parser.add_argument("--coco", type=Path, help="folder with photographs of COCO, to try familiarity on")
    parser.add_argument("--json", type=output_file, metavar="FILE", help="file to write the measurements to")
    parser.add_argument("--figure", type=output_file, metavar="FILE", help="file to draw reliability to, .png or .pdf")
    parser.add_argument("--limit", type=int, metavar="N", help="N photographs of each split alone, for a quick look")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.limit is not None and arguments.limit < 1:
        parser.error("--limit must be at least 1.")
    started = time.monotonic()
    try:
        saved = load_model(arguments.model)
        saved.model.to("cuda" if torch.cuda.is_available() else "cpu")
        records = read_data(arguments.data)
        validation = readable(of_split(records, "val")[: arguments.limit])
        training = of_split(records, "train")
        chosen = np.random.default_rng(SEED).permutation(len(training))[: arguments.limit or LEARNT]
        sentences = [caption for record in validation for caption in record.raw]
        strange: dict[str, Sequence[PhotographSource]] = {
            "noise": noise(STRANGE, seed=SEED),
            "text": text_pages(sentences, STRANGE, seed=SEED),
        }
        if arguments.coco:
            strange["coco"] = [record.path for record in readable(read_data(arguments.coco)[:STRANGE])]
        usual = readable([training[index] for index in chosen])
        calibrated, measured = calibrate(saved, usual, validation, strange)
        save_model(arguments.model, calibrated)
    except (DataError, ModelError, PhotographError, OSError, ValueError) as error:
        print(f"captioner.calibration: {error}", file=sys.stderr)
        return 2
    settings = {"data": arguments.data.resolve().name, "split": "val", "limit": arguments.limit, "seed": SEED}
    settings |= {"learnt": LEARNT, "strange": {kind: len(pictures) for kind, pictures in strange.items()}}
    run = provenance(["-m", "captioner.calibration", *argv], settings, arguments.model)  # the model as it is now
    seconds = round(time.monotonic() - started, 1)
    report = {"run": run, "split": "val", "seed": SEED, "settings": settings} | measured | {"seconds": seconds}
    print(json.dumps(report, indent=1))
    if arguments.json:
        write_json(arguments.json, report)
    if arguments.figure:
        figure(report).savefig(arguments.figure, dpi=150)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What a study found: which maps reviewers prefer, and from which they guess the word."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from statistics import median

from matplotlib.figure import Figure

from captioner.study import Rating
from captioner.study_tasks import CHANCE, GUESS, PAIR, SOURCES

_Z = 1.959964  # of a 95 % interval
LABELS = {
    "region_word": "Region-word",
    "attention": "Attention",
    "grad_cam": "Grad-CAM",
    "shuffled": "Shuffled",
}


@dataclass(frozen=True)
class Share:
    """A share of some answers, 0..1, with its 95 % interval."""

    share: float
    low: float
    high: float
    answers: int


@dataclass(frozen=True)
class Results:
    """What all answers together say. Where a source has no answers it is left out."""

    reviewers: int
    pairs: int  # answers of this kind
    guesses: int
    seconds: float  # median of all answers; 0 where there are none
    wins: dict[str, Share]  # by source, over all its comparisons
    against: dict[tuple[str, str], Share]  # of the first source against the second
    guessed: dict[str, Share]  # by source: how often the word was guessed from its map


def analyse(ratings: Sequence[Rating]) -> Results:
    """Win rates and guesses right, each with a Wilson interval.

    A win counts 1; where both maps or neither explain the word, both sources count a half. "Cannot tell" is a guess
    that is not right. Wilson's interval holds for few answers and for shares near 0 and 1. It takes answers as
    independent, so it is too narrow where few reviewers give many of them; but to resample reviewers says nothing
    while they are few.
    """
    pairs = [rating for rating in ratings if rating.kind == PAIR]
    guesses = [rating for rating in ratings if rating.kind == GUESS]
    against = {
        (one, other): [_points(rating, one) for rating in pairs if set(rating.sources) == {one, other}]
        for one, other in permutations(SOURCES, 2)
    }
    wins = {source: [_points(rating, source) for rating in pairs if source in rating.sources] for source in SOURCES}
    right = {
        source: [float(rating.outcome == "right") for rating in guesses if rating.sources == (source,)]
        for source in SOURCES
    }
    return Results(
        reviewers=len({rating.reviewer for rating in ratings}),
        pairs=len(pairs),
        guesses=len(guesses),
        seconds=median([rating.seconds for rating in ratings]) if ratings else 0.0,
        wins=_shares(wins),
        against=_shares(against),
        guessed=_shares(right),
    )


def wilson(successes: float, answers: int) -> tuple[float, float]:
    """The 95 % interval (low, high) of a share by Wilson (1927); half successes may be counted.

    Raises ``ValueError`` where there are no answers or more successes than answers.
    """
    if not 0 <= successes <= answers or answers == 0:
        raise ValueError(f"{successes} successes of {answers} answers are no share.")
    share, square = successes / answers, _Z**2
    centre = (share + square / (2 * answers)) / (1 + square / answers)
    half = _Z / (1 + square / answers) * math.sqrt(share * (1 - share) / answers + square / (4 * answers**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def figure(results: Results) -> Figure:
    """Win rates and guesses right of every source with their intervals, beside what chance would give."""
    panels = (
        ("Preferred over the other maps", results.wins, 0.5, "no preference"),
        ("Word guessed from the map", results.guessed, CHANCE, "chance"),
    )
    drawn = Figure(figsize=(4.4, 4.4), layout="constrained")
    for number, (title, shares, chance, meaning) in enumerate(panels, start=1):
        axes = drawn.add_subplot(len(panels), 1, number)
        axes.axvline(100 * chance, color="#64748b", linewidth=1, linestyle="--")
        axes.text(100 * chance, -0.62, f" {meaning}", color="#475569", fontsize=8)
        for row, source in enumerate(SOURCES):
            if source in shares:
                found = shares[source]
                axes.plot([100 * found.low, 100 * found.high], [row, row], color="#0f766e", linewidth=2)
                axes.plot(100 * found.share, row, "o", color="#0f766e", markersize=6)
        axes.set(xlim=(0, 100), ylim=(len(SOURCES) - 0.5, -0.9), xlabel="% of answers")
        axes.set_yticks(range(len(SOURCES)), [LABELS[source] for source in SOURCES])
        axes.set_title(title, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
    return drawn


def _points(rating: Rating, source: str) -> float:
    if rating.outcome in rating.sources:
        return float(rating.outcome == source)
    return 0.5


def _shares(points: dict) -> dict:
    """The share of every name that has answers."""
    return {
        name: Share(sum(values) / len(values), *wilson(sum(values), len(values)), len(values))
        for name, values in points.items()
        if values
    }

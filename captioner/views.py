"""What the app says about a caption, as HTML; everything that is not ours is escaped."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from captioner.explanation import ExplainedCaption, ExplainedWord
from captioner.familiarity import UNFAMILIAR


def words(shown: ExplainedCaption, selected: int) -> list[dict[str, Any]]:
    """The caption's words for the app's template, which escapes them."""
    return [
        {
            "text": word.text,
            "joined": i == 0 or word.text.startswith("'"),
            "selected": str(i == selected).lower(),
            "sure": f"{word.probability:.2f}",
            "title": f"{_percent(word.probability)} sure",
        }
        for i, word in enumerate(shown.words)
    ]


def detail(word: ExplainedWord, index: int, count: int) -> str:
    """One word in plain words and numbers, as HTML."""
    alternatives = "".join(_bar(text, probability) for text, probability in word.alternatives)
    parts = (
        ("How common the word is (bias)", word.bias),
        ("The sentence so far (language)", word.language_logit),
        ("The regions of the photograph (the map)", float(word.region_logits.sum())),
    )
    rows = "".join(f"<tr><th>{name}</th><td>{_signed(value)}</td></tr>" for name, value in parts)
    flat = "" if word.region_logits.max() > 0 else "<p>No region speaks for this word, so nothing is marked.</p>"
    return f"""
<p class="scale"><span>adds nothing</span><i></i><span>adds most</span></p>{flat}
<h2>“{escape(word.text)}” <small>word {index + 1} of {count}</small></h2>
<div class="columns"><section>
<h3>How sure</h3><ul>{_bar(word.text, word.probability, chosen=True)}</ul>
<h3>What it might have said instead</h3><ul>{alternatives}</ul>
</section><section>
<h3>How its score adds up</h3>
<table>{rows}<tr class="total"><th>Score (logit)</th><td>{_signed(word.logit)}</td></tr></table>
<h3>Does it need the photograph?</h3><p>{_reliance(word)}</p>
</section></div>
<p class="note">The map shows only what the regions add to the score directly. Part of the language score comes from the
photograph too and is not in the map; image reliance measures both together.</p>"""


def _reliance(word: ExplainedWord) -> str:
    """Image reliance as a sentence: what the word's probability would be without the photograph."""
    reliance, seen = word.image_reliance, word.probability
    unseen = seen * (1 - reliance) if reliance >= 0 else min(1.0, seen / max(1 + reliance, 1e-9))
    change = "instead of" if _percent(seen) != _percent(unseen) else "just as the"
    return (
        f"With a plain colour in place of the photograph, “{escape(word.text)}” would have "
        f"{_percent(unseen)}, {change} {_percent(seen)}: image reliance {reliance:.0%}."
    )


def others(shown: ExplainedCaption) -> str:
    """The other captions of the beam, as HTML, with how likely each is beside the one shown."""
    if not shown.alternatives:
        return ""
    rows = "".join(
        f"<li>{escape(other.text)} <small>{_as_likely(other.log_probability - shown.log_probability)}</small></li>"
        for other in shown.alternatives
    )
    return f"<h3>Other captions it considered</h3><ol>{rows}</ol>"


def unfamiliar(shown: ExplainedCaption) -> str:
    """A notice where the photograph is unlike what the model knows, as HTML; empty elsewhere."""
    if shown.familiarity is None or shown.familiarity >= UNFAMILIAR:
        return ""
    return (
        '<p role="status">This photograph is unlike those the model learnt from, so its words may be wrong. '
        f"Of the photographs it was tested on, {_percent(shown.familiarity)} are this unusual.</p>"
    )


def _bar(text: str, probability: float, *, chosen: bool = False) -> str:
    return (
        f'<li class="bar{" chosen" if chosen else ""}" style="--part: {probability:.4f}">'
        f"<span>{escape(text)}</span><span>{_percent(probability)}</span></li>"
    )


def error(text: str) -> str:
    """An error in one or two sentences, beside the thing that failed."""
    return f'<p role="alert">{escape(text)}</p>'


def _percent(probability: float) -> str:
    return f"{probability:.0%}" if probability >= 0.01 else "under 1%"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _as_likely(log_ratio: float) -> str:
    ratio = math.exp(log_ratio)
    return f"{ratio:.2f} times as likely" if ratio >= 0.01 else "less than 0.01 times as likely"

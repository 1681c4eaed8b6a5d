"""The browser app: a photograph in, a caption whose every word can be clicked out."""

from __future__ import annotations

import argparse
import logging
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

import captioner
from captioner import Captioner, ExplainedCaption, ExplainedWord, ModelError, PhotographError, PrefixError
from captioner.photographs import MAX_BYTES
from captioner.rendering import fit, overlay

ASSETS = Path(__file__).resolve().parents[1] / "assets"
EXAMPLES = sorted((ASSETS / "examples").glob("*.jpg"))
FORGET_AFTER = 3600  # seconds a session's photograph and caption are kept
SESSIONS = 200  # each keeps one photograph, some 2 MB
FUNCTION_WORDS = frozenset("a an the in on at of and with to is are by from near next while his her its their".split())

INTRODUCTION = """
<h1>A caption that shows where it came from</h1>
<p>Give it a photograph, then click any word to see the regions it came from and how sure the model was.</p>
"""
WORDS_TEMPLATE = """
{{#if value}}
<p class="words">{{#each value.words}}{{#unless this.joined}} {{/unless}}<button
type="button" data-index="{{@index}}" aria-pressed="{{this.selected}}" title="{{this.title}}"
style="--sure: {{this.sure}}">{{this.text}}</button>{{/each}}</p>
<p class="hint">Click a word. The stronger its underline, the surer the model was.</p>
{{else}}
<p class="hint">The caption appears here. Upload a photograph or click an example.</p>
{{/if}}
"""
# The word is marked at once; the answer of the server follows.
WORDS_SCRIPT = """
element.addEventListener('click', event => {
  const chosen = event.target.closest('button[data-index]');
  if (!chosen) return;
  for (const word of element.querySelectorAll('button')) word.setAttribute('aria-pressed', word === chosen);
  trigger('select', {index: Number(chosen.dataset.index)});
});
"""


def build(model: Captioner) -> gr.Blocks:
    """The app for a loaded model; ``launch`` serves it."""
    with gr.Blocks(title="Explainable captions", analytics_enabled=False, delete_cache=(600, FORGET_AFTER)) as app:
        explained = gr.State(None, time_to_live=FORGET_AFTER)
        selected = gr.State(0)
        gr.HTML(INTRODUCTION, elem_id="introduction")
        if model.notice:
            gr.HTML(f'<p role="status">{escape(model.notice)}</p>', elem_id="notice")
        with gr.Row(equal_height=False, elem_id="sides"):
            with gr.Column(scale=2, min_width=300, elem_classes="side"):
                photo = gr.Image(
                    label="Photograph",
                    format="png",
                    sources=["upload", "webcam", "clipboard"],
                    buttons=[],
                    height=300,
                    interactive=True,
                    elem_id="photo",
                )
                message = gr.HTML(elem_id="message")
                examples = gr.Examples(
                    [[str(path)] for path in EXAMPLES], photo, elem_id="examples", api_visibility="private"
                )
                prefix = gr.Textbox(
                    label="Begin the caption with",
                    placeholder="for example: two dogs",
                    max_length=200,
                    submit_btn="Caption",
                    elem_id="prefix",
                )
                others = gr.HTML(elem_id="others")
            with gr.Column(scale=3, min_width=320, elem_classes="side"):
                caption = gr.HTML(
                    html_template=WORDS_TEMPLATE, js_on_load=WORDS_SCRIPT, apply_default_css=False, elem_id="caption"
                )
                picture = gr.Image(
                    label="Where the word came from",
                    format="png",
                    buttons=["download", "fullscreen"],
                    interactive=False,
                    elem_id="overlay",
                )
                with gr.Row(elem_id="steps"):
                    previous = gr.Button("← Previous", interactive=False, elem_id="previous", min_width=120, size="md")
                    following = gr.Button("Next →", interactive=False, elem_id="next", min_width=120, size="md")
                detail = gr.HTML(elem_id="word-detail")

        def select(shown: ExplainedCaption | None, index: int) -> dict[Any, Any]:
            """What follows from choosing a word; the model is not asked."""
            if shown is None:
                return {}
            index = min(max(index, 0), len(shown.words) - 1)
            word = shown.words[index]
            return {
                selected: index,
                caption: {"words": _words(shown, index)},
                picture: gr.update(
                    value=_picture(shown.photograph, word),
                    label=f"Where “{word.text}” came from",
                    alt_text=f"The photograph with the regions that “{word.text}” came from marked",
                ),
                detail: _detail(word, index, len(shown.words)),
                previous: gr.update(interactive=index > 0),
                following: gr.update(interactive=index < len(shown.words) - 1),
            }

        def on_photograph(
            upload: dict[str, Any] | None, first_words: str, shown: ExplainedCaption | None
        ) -> dict[Any, Any]:
            """Caption a photograph; whatever goes wrong, the last good caption stays."""
            if upload is None:
                return {message: _error("Choose a photograph first.") if first_words else ""}
            try:
                new = model.explain(upload["path"], prefix=first_words)
                # A session keeps no more of the photograph than is ever shown of it.
                new = replace(new, photograph=fit(new.photograph))
            except PrefixError as error:
                return {message: _error(str(error))}
            except PhotographError as error:
                return {message: _error(str(error)), photo: shown and shown.photograph}
            except Exception:
                logging.getLogger(__name__).exception("captioning failed")
                return {message: _error("Something went wrong with this photograph. Try again, or try another one.")}
            if not new.words:
                return {message: _error("The model found no words for this photograph. Try another one.")}
            return {explained: new, message: "", others: _others(new), **select(new, _first_content_word(new))}

        def on_word(shown: ExplainedCaption | None, event: gr.EventData) -> dict[Any, Any]:
            return select(shown, int(event.index))

        word_views = [selected, caption, picture, detail, previous, following]
        captioning = {
            "fn": on_photograph,
            "inputs": [photo, prefix, explained],
            "outputs": [explained, photo, message, others, *word_views],
            "show_progress_on": caption,
            "preprocess": False,  # gr.Image would decode the file, and fail without a word on one that is no photograph
        }
        private = {"api_visibility": "private"}
        # A further photograph waits for the one before it; of several, the last counts.
        photo.input(**captioning, trigger_mode="always_last", api_name="caption")
        examples.load_input_event.then(**captioning, **private)
        prefix.submit(**captioning, trigger_mode="always_last", **private)

        browsing = {"outputs": word_views, "show_progress": "hidden", "trigger_mode": "always_last", **private}
        browsing |= {"concurrency_limit": 8}  # quick, and never behind another person's photograph
        caption.select(on_word, [explained], **browsing)
        previous.click(lambda shown, index: select(shown, index - 1), [explained, selected], **browsing)
        following.click(lambda shown, index: select(shown, index + 1), [explained, selected], **browsing)
    return app


def launch(app: gr.Blocks, **options: Any) -> None:
    """Serve the app with its looks and limits; ``options`` go to ``gr.Blocks.launch``."""
    app.queue(max_size=32, default_concurrency_limit=1)
    app.launch(
        theme=gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"]),
        css_paths=ASSETS / "style.css",
        footer_links=[],
        ssr_mode=False,
        max_file_size=MAX_BYTES,
        state_session_capacity=SESSIONS,
        **options,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of ``app.py``; returns the exit code, 2 where the model or the port cannot be had."""
    parser = argparse.ArgumentParser(prog="app.py", description="Caption photographs in the browser, word by word.")
    parser.add_argument("--model", help="Hub repo id or local folder (default: CAPTIONER_MODEL, or the bundled model)")
    public = "SPACE_ID" in os.environ  # a Space is reached from outside its container
    parser.add_argument(
        "--host", default="0.0.0.0" if public else "127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        launch(build(captioner.load(arguments.model)), server_name=arguments.host, server_port=arguments.port)
    except (ModelError, OSError) as error:  # OSError: the port is taken
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def _first_content_word(shown: ExplainedCaption) -> int:
    return next((i for i, word in enumerate(shown.words) if word.text not in FUNCTION_WORDS), 0)


def _picture(photograph: Image.Image, word: ExplainedWord) -> Image.Image:
    # Where no region speaks for the word its map is uniform by convention, which is nothing to see.
    return overlay(photograph, np.maximum(word.region_logits, 0))


def _words(shown: ExplainedCaption, selected: int) -> list[dict[str, Any]]:
    """The caption's words for ``WORDS_TEMPLATE``, which escapes them."""
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


def _detail(word: ExplainedWord, index: int, count: int) -> str:
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


def _others(shown: ExplainedCaption) -> str:
    """The other captions of the beam, as HTML, with how likely each is beside the one shown."""
    if not shown.alternatives:
        return ""
    rows = "".join(
        f"<li>{escape(other.text)} <small>{_as_likely(other.log_probability - shown.log_probability)}</small></li>"
        for other in shown.alternatives
    )
    return f"<h3>Other captions it considered</h3><ol>{rows}</ol>"


def _bar(text: str, probability: float, *, chosen: bool = False) -> str:
    return (
        f'<li class="bar{" chosen" if chosen else ""}" style="--part: {probability:.4f}">'
        f"<span>{escape(text)}</span><span>{_percent(probability)}</span></li>"
    )


def _error(text: str) -> str:
    return f'<p role="alert">{escape(text)}</p>'


def _percent(probability: float) -> str:
    return f"{probability:.0%}" if probability >= 0.01 else "under 1%"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _as_likely(log_ratio: float) -> str:
    ratio = math.exp(log_ratio)
    return f"{ratio:.2f} times as likely" if ratio >= 0.01 else "less than 0.01 times as likely"

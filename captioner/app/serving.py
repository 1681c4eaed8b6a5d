"""The browser app: a photograph in, a caption whose every word can be clicked out."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

import captioner
from captioner import Captioner, ExplainedCaption, ModelError, PhotographError, PrefixError, views
from captioner.photographs import MAX_BYTES
from captioner.rendering import fit, overlay

ASSETS = Path(__file__).resolve().parents[2] / "assets"
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
{{/if}}
"""
HINT = "<p>Click the caption's words. The stronger a word's underline, the surer the model was.</p>"
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
                gr.HTML(HINT, elem_id="hint")
                unfamiliar = gr.HTML(elem_id="unfamiliar")
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
                caption: {"words": views.words(shown, index)},
                picture: gr.update(
                    value=overlay(shown.photograph, word.region_logits),
                    label=f"Where “{word.text}” came from",
                    alt_text=f"The photograph with the regions that “{word.text}” came from marked",
                ),
                detail: views.detail(word, index, len(shown.words)),
                previous: gr.update(interactive=index > 0),
                following: gr.update(interactive=index < len(shown.words) - 1),
            }

        def on_photograph(
            upload: dict[str, Any] | None, first_words: str, shown: ExplainedCaption | None
        ) -> dict[Any, Any]:
            """Caption a photograph; whatever goes wrong, the last good caption stays."""
            if upload is None:
                return {message: views.error("Choose a photograph first.") if first_words else ""}
            try:
                new = model.explain(upload["path"], prefix=first_words)
                # A session keeps no more of the photograph than is ever shown of it.
                new = replace(new, photograph=fit(new.photograph))
            except PrefixError as error:
                return {message: views.error(str(error))}
            except PhotographError as error:
                return {message: views.error(str(error)), photo: shown and shown.photograph}
            except Exception:
                logging.getLogger(__name__).exception("captioning failed")
                return {
                    message: views.error("Something went wrong with this photograph. Try again, or try another one.")
                }
            said = {explained: new, message: "", unfamiliar: views.unfamiliar(new), others: views.others(new)}
            return said | select(new, _first_content_word(new))

        def on_word(shown: ExplainedCaption | None, event: gr.EventData) -> dict[Any, Any]:
            return select(shown, int(event.index))

        word_views = [selected, caption, picture, detail, previous, following]
        captioning = {
            "fn": on_photograph,
            "inputs": [photo, prefix, explained],
            "outputs": [explained, photo, message, unfamiliar, others, *word_views],
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

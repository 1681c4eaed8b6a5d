"""The tab "Compare": one photograph captioned twice, by two models or with two settings, side by side."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from difflib import SequenceMatcher
from html import escape
from typing import Any

import gradio as gr
from PIL import Image

from captioner.app.component import explorer, shown
from captioner.app.endpoints import MAX_BEAM_SIZE, MAX_CHARACTERS, RequestError, check_settings
from captioner.app.explore import FORGET_AFTER
from captioner.app.messages import FAILED, alert
from captioner.explanation import ExplainedCaption
from captioner.explorer import explorer_data
from captioner.photographs import PhotographError, open_photograph
from captioner.predictor import Captioner, PrefixError
from captioner.rendering import fit
from captioner.vocabulary import sentence

_PRIVATE = {"api_visibility": "private"}


def compare(models: Mapping[str, Captioner]) -> None:
    """Lay out the tab for loaded models, by the names that a person chooses from; the first two are chosen at first.

    One model alone is compared with itself: its likeliest caption by beam search, and word for word (beam size 1).
    """
    names = list(models)
    photo = gr.Image(
        label="Photograph",
        format="png",
        sources=["upload", "webcam", "clipboard"],
        buttons=[],
        height=240,
        interactive=True,
        elem_id="compare-photo",
    )
    with gr.Row(equal_height=False):
        left = _settings("left", "A", names, names[0], beam_size=3)
        right = _settings("right", "B", names, names[min(1, len(names) - 1)], beam_size=3 if len(names) > 1 else 1)
    start = gr.Button("Compare", variant="primary", elem_id="compare-start")
    message = gr.HTML(elem_id="compare-message")
    kept = gr.State(None, time_to_live=FORGET_AFTER)  # the photograph that the captions are of
    summary = gr.HTML(elem_id="compare-summary")
    with gr.Row(equal_height=False):
        views = [_view("left", "A"), _view("right", "B")]

    def on_start(upload: dict[str, Any] | None, before: Image.Image | None, *settings: Any) -> dict[Any, Any]:
        """Caption the photograph twice; whatever goes wrong, the last two captions stay."""
        if upload is None:
            return {message: alert("Choose a photograph first.")}
        try:
            photograph = open_photograph(upload["path"])
            a, b = (_explain(models, photograph, *each) for each in (settings[:3], settings[3:]))
            text = difference(a, b, _log_probability(models[settings[0]], photograph, b))
        except PhotographError as error:
            return {message: alert(str(error)), photo: before}
        except (PrefixError, RequestError) as error:
            return {message: alert(str(error))}
        except Exception:
            logging.getLogger(__name__).exception("comparing failed")
            return {message: alert(FAILED)}
        captions = {view: shown("", explorer_data(each)) for view, each in zip(views, (a, b))}
        compared = f"<p>{escape(_compared(*settings, several=len(models) > 1))}</p><p>{escape(text)}</p>"
        return {message: "", summary: compared, kept: fit(photograph)} | captions

    def on_photo(upload: dict[str, Any] | None, *others: Any) -> dict[Any, Any]:
        return on_start(upload, *others) if upload else {message: ""}

    comparing = {
        "inputs": [photo, kept, *left, *right],
        "outputs": [photo, kept, message, summary, *views],
        "show_progress_on": views,
        "preprocess": False,  # gr.Image would decode the file, and fail without a word on one that is no photograph
        "trigger_mode": "always_last",
        "concurrency_id": "model",
        "concurrency_limit": 1,
    } | _PRIVATE
    start.click(on_start, **comparing)
    photo.input(on_photo, **comparing)


def difference(a: ExplainedCaption, b: ExplainedCaption, b_by_a: float | None) -> str:
    """What two captions of one photograph differ in, and how likely they are, in sentences that call them A and B.

    ``b_by_a`` is the log-probability that the model of A gives to caption B, None where it does not know its words.
    """
    words, others = ([word.text for word in caption.words] for caption in (a, b))
    likely = f"Log-probability: A {_number(a.log_probability)}, B {_number(b.log_probability)}."
    if words == others:
        return f"The same caption. {likely}"
    changes = "; ".join(_changes(words, others))
    found = f"{changes[0].upper()}{changes[1:]}. {likely}"
    return found if b_by_a is None else f"{found} {_preference(a.log_probability - b_by_a)}"


def _compared(*settings: Any, several: bool) -> str:
    """What two captions were made with: of A and then of B the model, the beam size and the first words."""
    sides = []
    for letter, (name, beam_size, first_words) in zip("AB", (settings[:3], settings[3:])):
        model = f"{name}, " if several else ""
        begun = f", begun with “{first_words}”" if first_words else ""
        sides.append(f"{letter}: {model}beam size {beam_size}{begun}")
    return f"{'. '.join(sides)}."


def _changes(words: list[str], others: list[str]) -> Iterator[str]:
    for kind, i, j, k, m in SequenceMatcher(None, words, others, autojunk=False).get_opcodes():
        said, instead = f"“{sentence(words[i:j])}”", f"“{sentence(others[k:m])}”"
        if kind == "replace":
            yield f"A says {said} where B says {instead}"
        elif kind == "delete":
            yield f"only A says {said}"
        elif kind == "insert":
            yield f"only B says {instead}"


def _preference(log_ratio: float) -> str:
    """Which caption the model of A finds likelier; ``log_ratio`` is above zero where it is A."""
    likelier, times = "A" if log_ratio > 0 else "B", math.exp(min(abs(log_ratio), 10))
    much = f"{times:.2g} times" if times < 100 else "more than 100 times"
    return f"The model of A finds caption {likelier} {much} likelier."


def _number(value: float) -> str:
    return f"{value:.2f}".replace("-", "−")


def _settings(
    side: str, letter: str, names: list[str], name: str, *, beam_size: int
) -> tuple[gr.Dropdown, gr.Slider, gr.Textbox]:
    with gr.Column(min_width=300):
        return (
            gr.Dropdown(
                names,
                value=name,
                label=f"Model of {letter}",
                visible=len(names) > 1,
                elem_id=f"compare-{side}-model",
            ),
            gr.Slider(
                1,
                MAX_BEAM_SIZE,
                value=beam_size,
                step=1,
                label=f"Beam size of {letter}",
                info="How many captions the search follows at once.",
                elem_id=f"compare-{side}-beam",
            ),
            gr.Textbox(
                value="",
                label=f"Begin caption {letter} with",
                placeholder="for example: two dogs",
                max_length=MAX_CHARACTERS,
                elem_id=f"compare-{side}-words",
            ),
        )


def _view(side: str, letter: str) -> gr.HTML:
    with gr.Column(min_width=300):
        gr.Markdown(f"### Caption {letter}")
        return explorer(f"compare-{side}")


def _explain(
    models: Mapping[str, Captioner], photograph: Image.Image, name: Any, beam_size: Any, first_words: Any
) -> ExplainedCaption:
    check_settings(beam_size, first_words)
    if name not in models:
        raise RequestError("Choose one of the models.")
    return models[name].explain(photograph, beam_size=beam_size, prefix=first_words)


def _log_probability(model: Captioner, photograph: Image.Image, caption: ExplainedCaption) -> float | None:
    """What a model makes of another's caption; None where it does not know its words."""
    try:
        return model.explain_caption(photograph, [word.text for word in caption.words]).log_probability
    except PrefixError:
        return None

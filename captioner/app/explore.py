"""The first tab: a photograph in, a caption whose every word can be stepped through, questioned and changed."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from captioner.app.component import downloaded, explorer, failed, found, shown, waiting
from captioner.app.messages import FAILED, alert
from captioner.explorer import ASSETS, explorer_data, findings
from captioner.exports import export
from captioner.photographs import PhotographError
from captioner.predictor import Captioner, PrefixError
from captioner.session import Session, SessionError

EXAMPLES = sorted((ASSETS / "examples").glob("*.jpg"))
FORGET_AFTER = 3600  # seconds a session's photograph and captions are kept
_PRIVATE = {"api_visibility": "private"}
# gr.Examples shows pictures without names; Gradio may build them anew at any time.
_NAME_EXAMPLES = f"""() => {{
  const names = {json.dumps([path.stem for path in EXAMPLES])};
  const name = () => document.querySelectorAll('#examples button').forEach((button, i) => {{
    if (names[i] && !button.ariaLabel) button.ariaLabel = `Example: ${{names[i]}}`;
  }});
  new MutationObserver(name).observe(document.body, {{childList: true, subtree: true}});
  name();
}}"""
# The model says one caption at a time, whoever asks; of several asked for by one person, the last counts.
_MODEL = {"concurrency_id": "model", "concurrency_limit": 1, "trigger_mode": "always_last"} | _PRIVATE


def explore(app: gr.Blocks, model: Captioner) -> None:
    """Lay out the tab for a loaded model. ``app`` tells which example its address names."""
    session = gr.State(None, time_to_live=FORGET_AFTER)
    linked = gr.State(None)  # the example that the page's address names
    wish = gr.State({})  # under "now": the photograph and first words asked for last
    with gr.Row(equal_height=False, elem_id="sides"):
        with gr.Column(scale=1, min_width=280, elem_classes="side"):
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
            examples = gr.Examples([[str(path)] for path in EXAMPLES], photo, elem_id="examples", **_PRIVATE)
            prefix = gr.Textbox(
                label="Begin the caption with",
                placeholder="for example: two dogs",
                max_length=200,
                submit_btn="Caption",
                elem_id="prefix",
            )
        with gr.Column(scale=3, min_width=320, elem_classes="side"):
            view = explorer("explorer", ids=True, actions=["choose", "erase", "export"])

    def on_wish(upload: dict[str, Any] | None, first_words: str, wish: dict[str, Any]) -> dict[Any, Any]:
        """Note what is to be captioned: a person who asks again before the answer is there wants the last."""
        wish["now"] = _asked_for(upload, first_words)
        return {message: "", view: waiting("Captioning…")} if upload else {message: ""}

    def on_submit(upload: dict[str, Any] | None, first_words: str, wish: dict[str, Any]) -> dict[Any, Any]:
        return on_wish(upload, first_words, wish) if upload else {message: alert("Choose a photograph first.")}

    def on_photograph(
        upload: dict[str, Any] | None, first_words: str, before: Session | None, wish: dict[str, Any]
    ) -> dict[Any, Any]:
        """Caption a photograph; whatever goes wrong, the last good caption stays."""
        asked_for = _asked_for(upload, first_words)
        if wish["now"] != asked_for:
            return gr.skip()
        if upload is None:  # whoever takes the photograph away waits for nothing
            return {view: failed("")}
        try:
            new = Session.begin(model, upload["path"], prefix=first_words)
        except PrefixError as error:
            return {message: alert(str(error)), view: failed("")}
        except PhotographError as error:
            kept = before and before.versions[0].explained.photograph
            return {message: alert(str(error)), photo: kept, view: failed("")}
        except Exception:
            logging.getLogger(__name__).exception("captioning failed")
            return {message: alert(FAILED), view: failed("")}
        if wish["now"] != asked_for:
            return gr.skip()
        return {session: new, message: "", view: _show(new, 0)}

    def on_choose(current: Session | None, event: gr.EventData) -> dict[str, Any]:
        def choose() -> dict[str, Any]:
            number = current.choose(event.version, event.position, event.word)
            return _show(current, number, {"version": event.version})

        return _asked(current, event, choose)

    def on_erase(current: Session | None, event: gr.EventData) -> dict[str, Any]:
        def erase() -> dict[str, Any]:
            number, probabilities = current.erase(event.version, event.regions)
            return _show(current, number, {"version": event.version, "probabilities": probabilities})

        return _asked(current, event, erase)

    def on_export(current: Session | None, event: gr.EventData) -> dict[str, Any]:
        def save() -> dict[str, Any]:
            version = current.test(event.version)
            file = export(
                version.explained,
                event.kind,
                colour_map=event.colour_map,
                findings=findings(*version.tested),
                hidden=version.hidden,
            )
            return downloaded(file)

        return _asked(current, event, save)

    def on_shown(current: Session | None) -> dict[str, Any]:
        """Test what has not been tested yet, after it is shown; the person looks at it meanwhile."""
        untested = [number for number, version in enumerate(current.versions if current else ()) if not version.tested]
        if not untested:
            return gr.skip()
        try:
            return found(current.name, {number: findings(*current.test(number).tested) for number in untested})
        except Exception:
            logging.getLogger(__name__).exception("testing failed")
            return found(current.name, dict.fromkeys(untested))

    def on_load(request: gr.Request) -> str | None:
        return next((str(path) for path in EXAMPLES if path.stem == request.query_params.get("example")), None)

    app.load(None, js=_NAME_EXAMPLES)
    # By way of the state, which most addresses leave as it is: else what a quick person uploads while the page opens
    # would be captioned a second time.
    app.load(on_load, None, [linked], show_progress="hidden", **_PRIVATE)
    # Not preprocessed: gr.Image would decode the file, and fail without a word on one that is no photograph.
    wishing = {"inputs": [photo, prefix, wish], "outputs": [message, view], "show_progress": "hidden", "queue": False}
    wishing |= {"preprocess": False} | _PRIVATE
    captioning = {
        "fn": on_photograph,
        "inputs": [photo, prefix, session, wish],
        "outputs": [session, photo, message, view],
        "show_progress_on": view,
        "preprocess": False,
    } | _MODEL
    asking = {"inputs": [session], "outputs": [view], "show_progress": "hidden"}
    wishes = [
        photo.input(on_wish, **wishing),
        examples.load_input_event.then(on_wish, **wishing),
        prefix.submit(on_submit, **wishing),
        linked.change(lambda example: example, [linked], [photo], show_progress="hidden", **_PRIVATE).then(
            on_wish, **wishing
        ),
    ]
    changes = [
        *(made.then(**captioning) for made in wishes),
        view.choose(on_choose, **asking, **_MODEL),
        view.erase(on_erase, **asking, **_MODEL),
    ]
    for change in changes:
        change.then(on_shown, **asking, concurrency_id="tests", concurrency_limit=1, **_PRIVATE)
    view.export(on_export, **asking, concurrency_id="tests", concurrency_limit=1, **_PRIVATE)


def _asked_for(upload: dict[str, Any] | None, first_words: str) -> tuple[str | None, str]:
    return upload and upload["path"], first_words


def _show(session: Session, number: int, comparison: dict[str, Any] | None = None) -> dict[str, Any]:
    """A version of a session, for the explorer."""
    version = session.versions[number]
    return shown(
        session.name,
        explorer_data(version.explained, hidden=version.hidden),
        number=number,
        label=version.label,
        comparison=comparison,
    )


def _asked(session: Session | None, event: gr.EventData, answer: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What was asked of a session, or why it cannot be had; ``event`` names the photograph it was asked of."""
    try:
        if session is None or event.photograph != session.name:
            raise SessionError("This photograph is no longer here. Upload it again.")
        return answer()
    except (SessionError, PrefixError) as error:
        return failed(str(error))
    except Exception:
        logging.getLogger(__name__).exception("answering failed")
        return failed(FAILED)

"""The tab "Many photos": photographs captioned one after the other, and their reports to take away in one ZIP."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path
from secrets import token_hex
from typing import Any

import gradio as gr
from PIL import Image, ImageOps

from captioner.app.messages import FAILED, alert
from captioner.batch import Archive, Captioned, caption_all
from captioner.predictor import Captioner
from captioner.rendering import picture_url

MOST = 100  # photographs at a time
THUMBNAIL = 96  # pixels, longest side
_PRIVATE = {"api_visibility": "private"}
# End tags are left to the browser, which knows where they belong: of a text that only grows, Gradio sends what is new.
_TABLE = """<table><caption>Confidence is the geometric mean of the probabilities of a caption's words.</caption>
<thead><tr><th scope="col">Photograph</th><th scope="col">Caption</th><th scope="col">Confidence</th></tr></thead>
<tbody>"""
_STYLE = """
table { width: 100%; margin: 0; border-collapse: collapse; table-layout: fixed; }
caption { padding: 0 0 0.4rem; text-align: left; font-size: 0.85rem; color: var(--quiet); }
th, td { padding: 0.5rem 0.6rem 0.5rem 0; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
tbody tr { border-top: 1px solid var(--border-color-primary); }
th { font-weight: 400; font-size: 0.85rem; }
thead th { font-weight: 600; }
thead th:first-child { width: 12rem; }
:is(th, td):last-child { width: 5.5rem; padding-right: 0; text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; margin: 0 0 0.3rem; border-radius: var(--radius-sm); }
small { display: block; color: var(--quiet); }
.failed { color: var(--error-text-color); }
@media (max-width: 720px) { thead th:first-child { width: 6.6rem; } }
"""
_PROGRESS_STYLE = """
p { margin: 0 0 0.3rem; }
progress { width: 100%; height: 0.6rem; appearance: none; border: 0; background: var(--border-color-primary); }
progress::-webkit-progress-bar { background: var(--border-color-primary); }
progress::-webkit-progress-value { background: var(--color-accent); }
progress::-moz-progress-bar { background: var(--color-accent); }
"""


def many(model: Captioner) -> None:
    """Lay out the tab for a loaded model."""
    stopping = gr.State(None)  # a threading.Event while photographs are captioned
    photos = gr.File(
        label=f"Photographs, up to {MOST}",
        file_count="multiple",
        file_types=["image"],
        height=220,
        elem_id="many-photos",
    )
    with gr.Row():
        start = gr.Button("Caption them all", variant="primary", elem_id="many-start")
        stop = gr.Button("Stop", interactive=False, elem_id="many-stop")
    message = gr.HTML(elem_id="many-message")
    progress = gr.HTML(css_template=_PROGRESS_STYLE, apply_default_css=False, elem_id="many-progress")
    download = gr.DownloadButton(
        "Download reports and captions (ZIP)", variant="primary", interactive=False, elem_id="many-download"
    )
    table = gr.HTML(css_template=_STYLE, apply_default_css=False, elem_id="many-table")

    def on_start(uploads: list[dict[str, Any]] | None) -> Iterator[dict[Any, Any]]:
        """Caption photographs row by row; what is done when it is stopped can be downloaded too."""
        if not uploads:
            yield {message: alert("Choose photographs first.")}
            return
        if len(uploads) > MOST:
            yield {message: alert(f"These are {len(uploads)} photographs. Choose at most {MOST} at a time.")}
            return
        stopped = threading.Event()
        rows = _TABLE
        yield {
            stopping: stopped,
            message: "",
            progress: _progress(0, uploads),
            table: rows,
            download: gr.update(value=None, interactive=False),
            start: gr.update(interactive=False),
            stop: gr.update(interactive=True),
        }
        ended = {start: gr.update(interactive=True), stop: gr.update(interactive=False)}
        done = []
        try:
            file = _new_file(download)
            with Archive(file) as archive:
                for captioned in caption_all(model, [upload["path"] for upload in uploads]):
                    captioned = replace(captioned, name=uploads[len(done)]["orig_name"] or captioned.name)
                    archive.add(captioned)
                    done.append(captioned.error is None)
                    rows += _row(captioned)
                    yield {progress: _progress(len(done), uploads), table: rows}
                    if stopped.is_set():
                        break
            ready = gr.update(value=str(file), interactive=True)
            yield ended | {progress: _finished(done, len(uploads)), download: ready}
        except Exception:
            logging.getLogger(__name__).exception("captioning many photographs failed")
            yield ended | {message: alert(FAILED), progress: ""}

    def on_stop(stopped: threading.Event | None) -> dict[Any, Any]:
        if stopped:
            stopped.set()
        return {stop: gr.update(interactive=False)}

    # Beside the single photographs of others, not among them: these wait for no whole batch.
    start.click(
        on_start,
        [photos],
        [stopping, message, progress, table, download, start, stop],
        preprocess=False,  # gr.File leaves an empty file behind for every one it is given
        show_progress="minimal",
        show_progress_on=progress,
        concurrency_id="many",
        concurrency_limit=1,
        **_PRIVATE,
    )
    stop.click(on_stop, [stopping], [stop], queue=False, show_progress="hidden", **_PRIVATE)


def _new_file(download: gr.DownloadButton) -> Path:
    """Where a ZIP is written: in Gradio's cache, to be served and deleted with it, under a name nobody can guess."""
    folder = Path(download.GRADIO_CACHE, token_hex(16))
    folder.mkdir(parents=True)
    file = folder / "captions.zip"
    download.temp_files.add(str(file))
    return file


def _progress(done: int, uploads: list[dict[str, Any]]) -> str:
    name = escape(uploads[min(done, len(uploads) - 1)]["orig_name"] or "")
    return (
        f'<p id="many-now">Photograph {min(done + 1, len(uploads))} of {len(uploads)}: {name}</p>'
        f'<progress max="{len(uploads)}" value="{done}" aria-labelledby="many-now"></progress>'
    )


def _finished(done: list[bool], asked: int) -> str:
    """What came of the photographs, in a sentence; ``done`` says of each whether it has a caption."""
    failed = len(done) - sum(done)
    text = f"{sum(done)} of {asked} photographs have a caption."
    if failed:
        text += f" {failed} could not be captioned; the table says why."
    if len(done) < asked:
        text = f"Stopped. {text}"
    return f'<p role="status">{text}</p>'


def _row(captioned: Captioned) -> str:
    """A photograph in the table, as HTML."""
    name = escape(captioned.name)
    if captioned.error is not None:
        return f'<tr><th scope="row">{name}</th><td class="failed">{escape(captioned.error)}</td><td>–</td></tr>'
    note = "<small>Unlike what the model learnt: its words may be wrong.</small>" if captioned.unfamiliar else ""
    return (
        f'<tr><th scope="row"><img alt="" src="{_thumbnail(captioned.explained.photograph)}">{name}</th>'
        f"<td>{escape(captioned.caption)}{note}</td><td>{captioned.confidence:.0%}</td></tr>"
    )


def _thumbnail(photograph: Image.Image) -> str:
    """A small copy of a photograph within its own address, some 3 kB."""
    return picture_url(ImageOps.contain(photograph, (THUMBNAIL, THUMBNAIL)), quality=75)

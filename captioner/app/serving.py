"""The app as a whole: its tabs, its looks, its limits, and the command line that serves it."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr

import captioner
from captioner import Captioner, ModelError, PhotographError
from captioner.app.compare import compare
from captioner.app.endpoints import endpoints
from captioner.app.explore import EXAMPLES, FORGET_AFTER, explore
from captioner.app.gpu import on_gpu
from captioner.app.many import many
from captioner.app.study import study_page
from captioner.app.uploads import UploadsOnly
from captioner.explorer import ASSETS, script
from captioner.photographs import MAX_BYTES, photographs_in
from captioner.study import Study

SESSIONS = 200  # each keeps one photograph, some 2 MB

INTRODUCTION = """
<h1>A caption that shows where it came from</h1>
<p>Give it a photograph, then click any word to see the regions it came from and how sure the model was.</p>
"""


def build(model: Captioner, *, others: Sequence[Captioner] = (), study: Study | None = None) -> gr.Blocks:
    """The app for a loaded model; ``launch`` serves it.

    ``others`` are models to compare it with; ``study`` is what reviewers are asked, None for no such tab.
    """
    with UploadsOnly(title="Explainable captions", analytics_enabled=False, delete_cache=(600, FORGET_AFTER)) as app:
        gr.HTML(INTRODUCTION, elem_id="introduction")
        if model.notice:
            gr.HTML(f'<p role="status">{escape(model.notice)}</p>', elem_id="notice")
        with gr.Tabs():
            with gr.Tab("Explore"):
                explore(app, model)
            with gr.Tab("Many photos"):
                many(model)
            with gr.Tab("Compare"):
                compare({each.name: each for each in (model, *others)})
            if study:
                with gr.Tab("Study"):
                    study_page(model, study)
        endpoints(model)
    return app


def launch(app: gr.Blocks, **options: Any) -> None:
    """Serve the app with its looks and limits; ``options`` go to ``gr.Blocks.launch``."""
    app.queue(max_size=32, default_concurrency_limit=1)
    app.launch(
        theme=_theme(),
        css_paths=[ASSETS / "explorer.css", ASSETS / "style.css"],
        head=f"<script>{script()}</script>",
        footer_links=["api"],
        ssr_mode=False,
        max_file_size=MAX_BYTES,
        state_session_capacity=SESSIONS,
        mcp_server=find_spec("mcp") is not None,  # the endpoints as tools, where gradio[mcp] is installed
        **options,
    )


def _theme() -> gr.themes.Base:
    theme = gr.themes.Default(primary_hue="teal", neutral_hue="slate", font=["system-ui", "sans-serif"])
    # White on the usual teal has too little contrast.
    return theme.set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of ``app.py``; returns the exit code, 2 where a model or the port cannot be had."""
    parser = argparse.ArgumentParser(prog="app.py", description="Caption photographs in the browser, word by word.")
    parser.add_argument("--model", help="Hub repo id or local folder (default: CAPTIONER_MODEL, or the bundled model)")
    parser.add_argument(
        "--compare", action="append", default=[], metavar="MODEL", help="a further model to compare with; may repeat"
    )
    parser.add_argument(
        "--study", type=Path, metavar="FOLDER", help="photographs for the study (default: the example photographs)"
    )
    parser.add_argument(
        "--study-file",
        type=Path,
        default=Path("study.sqlite"),
        metavar="FILE",
        help="where reviewers' answers are kept, made when the first one starts (default: %(default)s)",
    )
    public = "SPACE_ID" in os.environ  # a Space is reached from outside its container
    parser.add_argument(
        "--host", default="0.0.0.0" if public else "127.0.0.1", help="address to listen on (default: %(default)s)"
    )
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default: %(default)s)")
    arguments = parser.parse_args(argv)
    try:
        model, *others = (on_gpu(captioner.load(name)) for name in (arguments.model, *arguments.compare))
        study = Study(arguments.study_file, photographs_in(arguments.study) if arguments.study else EXAMPLES)
        launch(build(model, others=others, study=study), server_name=arguments.host, server_port=arguments.port)
    except (ModelError, PhotographError, OSError) as error:  # OSError: the port is taken
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0

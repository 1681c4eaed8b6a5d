"""A real browser for tests: what they share of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from captioner import app

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage"
).split()
SECONDS = 30_000  # milliseconds; a busy machine is slow, and that is no failure


@contextmanager
def served(blocks: gr.Blocks) -> Iterator[str]:
    """The address of an app while it is served, as ``app.launch`` serves it."""
    app.launch(blocks, server_name="127.0.0.1", server_port=None, prevent_thread_lock=True, quiet=True)
    try:
        yield blocks.local_url
    finally:
        blocks.close(verbose=False)

"""A real browser for tests: what they share of it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from captioner import app

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
CHROMIUM_FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage"
).split()
SECONDS = 30_000  # milliseconds; a busy machine is slow, and that is no failure


def barriers(page: Any, *parts: str) -> list[tuple[str, list[str]]]:
    """What keeps people out of parts of a page, by their selectors: axe-core's serious and critical findings."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python").Axe()
    faded = "all => all.some(one => getComputedStyle(one).opacity < 1)"  # as Gradio shows what it waits for
    while page.locator(".html-container").evaluate_all(faded):
        page.wait_for_timeout(50)
    found = axe.run(page, context={"include": [[part] for part in parts]}).response["violations"]
    grave = [each for each in found if each["impact"] in ("serious", "critical")]
    return [(each["id"], [node["failureSummary"] for node in each["nodes"]]) for each in grave]


@contextmanager
def served(blocks: gr.Blocks) -> Iterator[str]:
    """The address of an app while it is served, as ``app.launch`` serves it."""
    app.launch(blocks, server_name="127.0.0.1", server_port=None, prevent_thread_lock=True, quiet=True)
    try:
        yield blocks.local_url
    finally:
        blocks.close(verbose=False)


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int, process: subprocess.Popen) -> None:
    """Wait until a process listens on a port. Raises ``RuntimeError`` where it ends before."""
    while process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise RuntimeError(f"The app ended with status {process.returncode}.")


@contextmanager
def started(model: str, folder: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """The address of ``app.py`` with a model, while it runs as a process of its own with ``folder`` as its place."""
    port = free_port()
    command = [sys.executable, str(ROOT / "app.py"), "--model", model, "--port", str(port)]
    process = subprocess.Popen(command, cwd=folder, env=environment)
    try:
        wait_for(port, process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()

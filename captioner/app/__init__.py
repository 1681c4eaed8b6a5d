"""The browser app. Only this package imports gradio."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

from captioner.app.serving import build, launch, main

__all__ = ["build", "launch", "main"]

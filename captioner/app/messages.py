"""What the app says when something fails: short, beside the thing that failed."""

from __future__ import annotations

from html import escape

FAILED = "Something went wrong. Try again, or try another photograph."


def alert(text: str) -> str:
    """An error in one or two sentences, as HTML."""
    return f'<p role="alert">{escape(text)}</p>'

"""Requests to the Hub that come to an end: its client waits for an answer without limit, and asks a failing Hub often.

Downloads have bounds of their own, see ``captioner.fetching``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from huggingface_hub import get_session, set_client_factory

SILENCE = 8.0  # seconds in which nothing comes or goes
_AGAIN = 5.0  # seconds in which what failed is asked for again
_one_at_a_time = threading.Lock()  # the client is the whole process's


@contextmanager
def within_bounds(silence: float = SILENCE) -> Iterator[None]:
    """Let requests that ``huggingface_hub`` makes meanwhile fail after so many seconds without a sign of life.

    An upload may take as long as it wants while it goes on. Of several threads one at a time is let in. Besides what
    the client raises, a request may raise ``TimeoutError``, where the Hub has failed for a while. Transfers by Xet,
    which have a client of their own, are not bounded.
    """
    with _one_at_a_time:
        usual = get_session()  # of httpx, or of its successor: whichever this version of huggingface_hub is built on

        def client(hooks: dict[str, list[Callable]], timeout: Any) -> Callable:
            return lambda: type(usual)(event_hooks=hooks, follow_redirects=True, timeout=timeout)

        attempts, hooks, timeout = _Attempts(), usual.event_hooks, usual.timeout
        watched = {"request": [*hooks["request"], attempts.asked], "response": [*hooks["response"], attempts.answered]}
        set_client_factory(client(watched, silence))
        try:
            yield
        finally:
            set_client_factory(client(hooks, timeout))


class _Attempts(threading.local):
    """Since when the requests of a thread have failed, one after the other, which the client makes again and again."""

    since: float | None = None
    status: int | None = None

    def asked(self, _: Any) -> None:
        if self.since is None:
            self.since = time.monotonic()  # until there is an answer
        elif time.monotonic() - self.since > _AGAIN:
            raise TimeoutError(f"It answers with status {self.status}." if self.status else "It does not answer.")

    def answered(self, response: Any) -> None:
        if response.status_code < 500:
            self.since = self.status = None
        else:
            self.status = response.status_code

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from huggingface_hub import get_session
from huggingface_hub.errors import HTTPError
from huggingface_hub.utils import http_backoff

from captioner import waiting
from captioner.waiting import within_bounds


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def asked() -> list[int]:
    """What a failing server answered."""
    return []


@pytest.fixture
def failing(asked: list[int]) -> Iterator[str]:
    """The address of a server that answers everything with status 503, and notes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    asked.append(503)
                    connection.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def test_a_request_without_an_answer_ends(silent: str):
    with within_bounds(0.2), pytest.raises(HTTPError, match="timed out"):
        get_session().get(silent)


def test_what_got_no_answer_is_not_asked_again_for_long(silent: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting, "_AGAIN", 0.3)
    with within_bounds(0.2), pytest.raises(TimeoutError, match="It does not answer"):
        http_backoff("GET", silent, base_wait_time=0.2)


def test_what_fails_is_asked_again_but_not_for_long(failing: str, asked: list, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting, "_AGAIN", 0.3)
    with within_bounds(), pytest.raises(TimeoutError, match="status 503"):
        http_backoff("GET", failing, base_wait_time=0.2)
    assert len(asked) > 1


def test_requests_after_one_that_failed_have_their_own_time(silent: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(waiting, "_AGAIN", 0.1)
    for _ in range(2):
        with within_bounds(0.2), pytest.raises(HTTPError, match="timed out"):
            get_session().get(silent)
        time.sleep(0.2)


def test_afterwards_the_client_waits_as_before():
    before = get_session()
    with within_bounds(0.2):
        pass
    after = get_session()
    assert (after.timeout, after.event_hooks, after.follow_redirects) == (
        before.timeout,
        before.event_hooks,
        before.follow_redirects,
    )

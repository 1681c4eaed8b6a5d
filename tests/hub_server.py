"""A Hugging Face Hub of one model on this machine, speaking what ``huggingface_hub`` asks for."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

COMMIT = "c0ffee" + "0" * 34


class HubServer:
    """Serves the files of ``folder`` as the model ``repo``; every other model is missing.

    ``refusal`` is a status and an ``X-Error-Code`` with which every request is refused;
    ``requests`` lists what was asked, as "GET /path".
    """

    def __init__(self, folder: Path, repo: str = "user/model", *, refusal: tuple[int, str] | None = None):
        self.folder, self.repo, self.refusal = folder, repo, refusal
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.0"  # one request a connection: a stopped server answers nothing more

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        self.hub.requests.append(f"{self.command} {path}")
        api, files = f"/api/models/{self.hub.repo}", f"/{self.hub.repo}/resolve/"
        if self.hub.refusal:
            status, code = self.hub.refusal
            self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "refused by the test"})
        elif path in (api, f"{api}/revision/main", f"{api}/revision/{COMMIT}"):
            siblings = [{"rfilename": file.name} for file in self._files()]
            self._send_json({"id": self.hub.repo, "sha": COMMIT, "siblings": siblings})
        elif path in (f"{api}/tree/main", f"{api}/tree/{COMMIT}"):
            self._send_json([self._entry(file) for file in self._files()])
        elif path.startswith(files) and (file := self.hub.folder / path.rpartition("/")[2]).is_file():
            content = file.read_bytes()
            self._send(200, content, {"ETag": f'"{_blob(content)}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def _files(self) -> list[Path]:
        return sorted(file for file in self.hub.folder.iterdir() if file.is_file())

    def _entry(self, file: Path) -> dict:
        return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": _blob(file.read_bytes())}

    def _send_json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_) -> None:
        pass


def _blob(content: bytes) -> str:
    """The id git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

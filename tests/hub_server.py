"""A Hugging Face Hub on this machine, speaking what ``huggingface_hub`` asks of the true one, with faults to order.

``huggingface_hub`` reads where the Hub is when it is imported, so whoever is to use the stand-in runs in a process of
its own::

    with HubServer() as hub:
        hub.publish("user/model", folder)
        subprocess.run([sys.executable, "app.py", "--model", "user/model"], env=hub.environment(home))
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

OWNER, TOKEN = "user", "hf_of_the_owner"
LARGE = (".safetensors", ".jpg", ".png")  # kept apart from git and served by another host, as LFS files are
FAULTS = {
    "fails": "every request is answered by status 500",
    "is a login page": "every request is answered by a page of HTML",
    "is silent": "no request is answered",
    "is slow": "every answer takes 0.4 seconds",
    "stalls": "a large file comes, or is taken, by half, and then nothing",
    "drips": "a large file comes, or is taken, byte by byte",
    "breaks off": "the connection is closed in the middle of a large file, and again when it is asked for once more",
    "truncates": "a large file is said to be, and is, half as long as it was",
    "damages": "one byte of a large file is another",
    "is not found": "every request is answered by status 404",
    "is gated": "files are for those with access only; what there is, everybody may know",
    "refuses the token": "every request is answered by status 401",
}


@dataclass
class Repository:
    """A model or a Space with all its commits."""

    kind: str = "model"
    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Mapping[str, bytes], branch: str = "main") -> str:
        """Make ``files`` all that a branch holds; returns the commit's id."""
        oid = hashlib.sha1(b"%d" % len(self.commits) + repr(sorted(files.items())).encode()).hexdigest()
        self.commits[oid] = dict(files)
        self.refs[branch] = oid
        return oid

    @property
    def files(self) -> dict[str, bytes]:
        """The files of ``main``."""
        return self.commits[self.refs["main"]]


class HubServer:
    """The stand-in; started and stopped by ``with``.

    ``repositories``: by their names, Spaces as ``spaces/user/name``; ``fault``: one of ``FAULTS``, None for none;
    ``faults``: those of single repositories, by their names; ``requests``: what was asked, as "GET /path".
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.fault: str | None = None
        self.faults: dict[str, str] = {}
        self.requests: list[str] = []
        self.large: dict[str, bytes] = {}
        self.closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.storage = f"http://localhost:{self._server.server_port}/large"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path, *, token: str = "") -> dict[str, str]:
        """The environment of a process that uses this Hub, logged in with ``token``, with its cache in ``home``."""
        return clean_environment(home) | {"HF_ENDPOINT": self.endpoint, "HF_TOKEN": token}

    def publish(self, name: str, folder: Path, *, private: bool = False) -> str:
        """Commit the files of a folder to ``main`` of a repository, made where it is missing; the commit's id."""
        repository = self.repositories.setdefault(name, Repository(private=private))
        files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
        return repository.commit({name: path.read_bytes() for name, path in files.items()})


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.0"  # one request a connection: a stopped server answers nothing more

    def do_HEAD(self) -> None:
        self._answer()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD

    @property
    def fault(self) -> str | None:
        asked = unquote(self.path)
        return next((fault for name, fault in self.hub.faults.items() if f"/{name}" in asked), self.hub.fault)

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        length = int(self.headers.get("Content-Length", 0))
        if self.command == "PUT" and self.fault in ("stalls", "drips", "breaks off"):
            self._take_badly(length // 2)
            return
        self.body = self.rfile.read(length)
        if self.fault == "fails":
            self._refuse(500, "", "Internal error")
        elif self.fault == "is not found":
            self._refuse(404, "", "Not found")
        elif self.fault == "refuses the token":
            self._refuse(401, "", "Invalid credentials in Authorization header")
        elif self.fault == "is a login page":
            self._send(200, b"<html>Welcome to our network.</html>", {"Content-Type": "text/html"})
        else:
            if self.fault == "is slow":
                self.hub.closed.wait(0.4)
            elif self.fault == "is silent":
                self.hub.closed.wait()
            self._route(path)

    def _route(self, path: str) -> None:
        first, *rest = path.strip("/").split("/")
        if first == "large":
            self._large(rest[0])
        elif path == "/api/whoami-v2":
            self._whoami()
        elif path == "/api/validate-yaml":
            self._validate()
        elif path == "/api/repos/create":
            self._as_owner(self._create)
        elif first == "api":
            name, rest = "/".join(rest[1:3]), rest[3:]
            self._api(f"spaces/{name}" if path.startswith("/api/spaces/") else name, rest)
        elif path.endswith(".git/info/lfs/objects/batch"):
            self._as_owner(self._batch)
        elif "/resolve/" in path:
            name, _, rest = path.strip("/").partition("/resolve/")
            self._resolve(name, *rest.split("/", 1))
        else:
            self._refuse(404, "", "Sorry, we can't find the page")

    # Who asks

    @property
    def _is_owner(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _as_owner(self, act: Callable[[], None]) -> None:
        if self._is_owner:
            act()
        else:
            self._refuse(401, "", "Invalid username or password.")

    def _whoami(self) -> None:
        self._as_owner(lambda: self._send_json({"type": "user", "name": OWNER, "orgs": [], "auth": {}}))

    # What there is

    def _find(self, name: str) -> Repository | None:
        found = self.hub.repositories.get(name)
        if found and (self._is_owner or not found.private):
            return found
        self._refuse(404 if self._is_owner else 401, "RepoNotFound", "Repository not found")
        return None

    def _commit_of(self, repository: Repository, revision: str) -> str | None:
        oid = repository.refs.get(revision, revision)
        if oid in repository.commits:
            return oid
        self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return None

    def _api(self, name: str, rest: list[str]) -> None:
        if not (repository := self._find(name)):
            return
        what, revision = (*rest, "main")[:2] if rest else ("revision", "main")
        if what == "variables":
            self._as_owner(lambda: self._variables(repository))
        elif what == "preupload":
            self._as_owner(lambda: self._preupload(repository))
        elif what == "branch":
            self._as_owner(lambda: self._branch(repository, revision))
        elif oid := self._commit_of(repository, revision):
            files = repository.commits[oid]
            if what == "commit":
                self._as_owner(lambda: self._commit(name, repository, revision))
            elif what == "tree":
                self._send_json([self._entry(path, content) for path, content in files.items()])
            else:
                siblings = [self._sibling(path, content) for path, content in files.items()]
                gated = "manual" if self.fault == "is gated" else False
                identity = {"id": name.removeprefix("spaces/"), "private": repository.private, "gated": gated}
                self._send_json(identity | {"sha": oid, "siblings": siblings})

    def _entry(self, path: str, content: bytes) -> dict:
        entry = {"type": "file", "path": path, "size": len(content), "oid": _blob(content)}
        large = {"oid": _sha256(content), "size": len(content), "pointerSize": 134}
        return entry | ({"lfs": large} if path.endswith(LARGE) else {})

    def _sibling(self, path: str, content: bytes) -> dict:
        sibling = {"rfilename": path, "size": len(content), "blobId": _blob(content)}
        large = {"sha256": _sha256(content), "size": len(content), "pointerSize": 134}
        return sibling | ({"lfs": large} if path.endswith(LARGE) else {})

    def _resolve(self, name: str, revision: str, path: str) -> None:
        if not (repository := self._find(name)) or not (oid := self._commit_of(repository, revision)):
            return
        if self.fault == "is gated":
            self._refuse(403, "GatedRepo", f"Access to model {name} is restricted")
            return
        content = repository.commits[oid].get(path)
        if content is None:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": oid})
        elif path.endswith(LARGE):
            digest = _sha256(content)
            self.hub.large[digest] = content
            linked = {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(content))}
            self._send(
                302, b"", {"X-Repo-Commit": oid, "Location": f"{self.hub.storage}/{digest}?of=/{name}", **linked}
            )
        else:
            self._send(200, content, {"X-Repo-Commit": oid, "ETag": f'"{_blob(content)}"'})

    # Large files

    def _large(self, digest: str) -> None:
        if self.command == "PUT":
            fault, half = self.fault, len(self.body) // 2
            taken = {"damages": self.body[:-1] + b"?", "truncates": self.body[:half]}.get(fault, self.body)
            intact = _sha256(taken) == digest
            self.hub.large |= {digest: self.body} if intact else {}
            self._send(200 if intact else 400, b"", {})
            return
        content, fault, half = self.hub.large[digest], self.fault, len(self.hub.large[digest]) // 2
        if fault == "damages":
            content = content[:half] + bytes([content[half] ^ 1]) + content[half + 1 :]
        elif fault == "truncates":
            content = content[:half]
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {"Content-Range": f"bytes {first}-{len(content) - 1}/{len(content)}"} if first else {}
        self._start(206 if first else 200, {"Content-Length": str(len(content) - first), **headers})
        if self.command == "HEAD":
            return
        if fault == "stalls":
            self._write(content[first:half])
            self.hub.closed.wait()
        elif fault == "drips":
            while not self.hub.closed.wait(0.05) and self._write(content[first : first + 1]):
                first += 1
        elif fault == "breaks off":
            self._write(content[first:half])
        else:
            self._write(content[first:])

    def _take_badly(self, half: int) -> None:
        if self.fault == "drips":
            while not self.hub.closed.wait(0.05) and self.rfile.read(1):
                pass
        else:
            self.rfile.read(half)
            if self.fault == "stalls":
                self.hub.closed.wait()

    def _batch(self) -> None:
        def action(wanted: dict) -> dict:
            upload = {"upload": {"href": f"{self.hub.storage}/{wanted['oid']}"}}
            return wanted | ({} if wanted["oid"] in self.hub.large else {"actions": upload})

        objects = [action(wanted) for wanted in json.loads(self.body)["objects"]]
        self._send_json({"transfer": "basic", "objects": objects})

    # What changes

    def _create(self) -> None:
        asked = json.loads(self.body)
        kind, owner = asked.get("type", "model"), asked.get("organization") or OWNER
        name = f"{owner}/{asked['name']}"
        stored = f"spaces/{name}" if kind == "space" else name
        url = f"{self.hub.endpoint}/{stored}"
        if stored in self.hub.repositories:
            self._send_json({"url": url, "error": "You already created this repo"}, status=409)
        elif owner != OWNER:
            self._refuse(403, "", f"You don't have the rights to create a repo under the namespace {owner}")
        else:
            private = asked.get("visibility") == "private" or asked.get("private") is True
            made = self.hub.repositories[stored] = Repository(kind, private=private)
            made.commit({".gitattributes": b"*.safetensors filter=lfs\n"})
            self._send_json({"url": url})

    def _validate(self) -> None:
        try:
            yaml.safe_load(json.loads(self.body)["content"].split("---")[1])
        except (yaml.YAMLError, IndexError) as error:
            self._send_json({"errors": [{"message": str(error)}], "warnings": []}, status=400)
        else:
            self._send_json({"errors": [], "warnings": []})

    def _preupload(self, repository: Repository) -> None:
        def mode(path: str) -> dict:
            there = repository.files.get(path)
            known = None if there is None else _sha256(there) if path.endswith(LARGE) else _blob(there)
            large = "lfs" if path.endswith(LARGE) else "regular"
            return {"path": path, "uploadMode": large, "shouldIgnore": False, "oid": known}

        self._send_json({"files": [mode(file["path"]) for file in json.loads(self.body)["files"]]})

    def _branch(self, repository: Repository, name: str) -> None:
        repository.refs[name] = repository.refs["main"]
        self._send_json({})

    def _commit(self, name: str, repository: Repository, branch: str) -> None:
        files = dict(repository.commits[repository.refs[branch]])
        for line in self.body.splitlines():
            change = json.loads(line)
            kind, value = change["key"], change["value"]
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif kind == "deletedFile":
                del files[value["path"]]
        oid = repository.commit(files, branch)
        self._send_json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{oid}"})

    def _variables(self, repository: Repository) -> None:
        asked = json.loads(self.body or "{}")
        if self.command == "POST":
            repository.variables[asked["key"]] = asked["value"]
        elif self.command == "DELETE":
            del repository.variables[asked["key"]]
        self._send_json({key: {"key": key, "value": value} for key, value in repository.variables.items()})

    # How it is said

    def _refuse(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        said = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        self._send(status, json.dumps({"error": message}).encode(), said | dict(headers or {}))

    def _send_json(self, value: object, *, status: int = 200) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._start(status, {"Content-Length": str(len(body)), **headers})
        if self.command != "HEAD":
            self._write(body)

    def _start(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _write(self, content: bytes) -> bool:
        """Whether somebody still listens."""
        try:
            self.wfile.write(content)
        except OSError:
            return False
        return True

    def log_message(self, *_) -> None:
        pass


def _blob(content: bytes) -> str:
    """The id git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def clean_environment(home: Path) -> dict[str, str]:
    """This process's environment without what concerns the Hub or the model, with the Hub's files in ``home``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING", "CAPTIONER_"))}
    # Large files by git's protocol: the Hub's own, Xet, is not one that a small server could speak.
    return kept | {"HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_XET": "1"}


def run_alone(script: str, home: Path, **environment: str) -> dict:
    """What a script prints as JSON, run in a process of its own with an empty Hub cache."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).resolve().parents[1],
        env=clean_environment(home) | environment,
        capture_output=True,
        text=True,
        timeout=600,  # a busy machine is slow, and that is no failure
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"stderr": done.stderr}

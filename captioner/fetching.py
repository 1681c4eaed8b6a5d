"""Files of a model fetched from the Hub: within bounds of time, and checked against what the Hub says they are."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, ModelInfo, constants, hf_hub_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import tqdm
from huggingface_hub.utils.sha import git_hash, sha_fileobj

ANSWER_SECONDS = 5.0  # how long the Hub may take to say what it has
PATIENCE = 7.0  # seconds in which a megabyte, or all that is left, has to arrive; an answer is given up well before
REMEMBERED = 30.0  # seconds for which a Hub that kept one model waiting is not asked for another
_MEGABYTE = 1_000_000
NO_HUB = (LookupError, TypeError, ValueError)  # of answers that no Hub gives: the login page of a network, say

# The client's own 10 MB would leave a slow connection without a sign of life for a minute.
constants.DOWNLOAD_CHUNK_SIZE = 1 << 16


class NotOnHub(Exception):
    """The Hub has no such model for this person; the message says what to do."""


class HubFailure(Exception):
    """The Hub, or the way to it, does not work; the message is the reason, in half a sentence."""


class HubSilence(HubFailure):
    """The Hub keeps one waiting."""


class HubNotAsked(HubFailure):
    """The person wants the Hub left alone."""


_silent_since = float("-inf")  # when the Hub last kept a model waiting


def fetch(
    repo: str,
    revision: str | None,
    files: Sequence[str],
    *,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
    local_files_only: bool = False,
) -> Path:
    """Fetch files of a model, all of one commit, and return the folder in the Hub's cache that holds them.

    ``revision`` is a branch, a tag or a commit, None for the latest. What is in the cache already is not fetched
    again, unless it is damaged or ``force_download`` is set; with ``local_files_only`` nothing is asked of the Hub.
    Progress is shown on stderr. Private models need the person's token: ``token``, or what ``huggingface_hub`` finds
    in ``HF_TOKEN`` or where ``hf auth login`` left it.

    Raises ``NotOnHub`` and ``HubFailure``; the latter when ``PATIENCE`` is over, too, and for ``REMEMBERED`` seconds
    after that at once.
    """
    global _silent_since
    if local_files_only:
        raise HubNotAsked("local_files_only is set")
    if time.monotonic() - _silent_since < REMEMBERED:
        raise HubFailure("it kept another model waiting a moment ago")
    options = {"token": token, "cache_dir": cache_dir}
    try:
        with _told(repo, revision):
            return _watched(repo, lambda bar: _download(repo, revision, files, bar, force_download, options))
    except HubSilence:
        _silent_since = time.monotonic()
        raise


def look(repo: str, revision: str | None, files: Sequence[str], *, token: str | bool | None = None) -> ModelInfo:
    """What the Hub says of a model that has these files. Raises ``NotOnHub`` and ``HubFailure``."""
    with _told(repo, revision):
        return _look(repo, revision, files, token)


def fetched_earlier(
    repo: str, revision: str | None, files: Sequence[str], *, cache_dir: str | Path | None = None
) -> Path | None:
    """The folder with the latest whole and undamaged copy of a revision that is on this machine, None without one."""
    found = [try_to_load_from_cache(repo, file, cache_dir=cache_dir, revision=revision) for file in files]
    if not all(isinstance(file, str) for file in found):
        return None
    paths = [Path(file) for file in found]
    # The cache names a file's content by its hash, where the system has symbolic links.
    intact = all(_is_intact(path, path.readlink().name) for path in paths if path.is_symlink())
    return paths[0].parent if intact else None


@contextmanager
def _told(repo: str, revision: str | None) -> Iterator[None]:
    """Errors that the client raises meanwhile as ``NotOnHub`` and ``HubFailure``."""
    try:
        yield
    except GatedRepoError as error:
        raise NotOnHub(f"{repo} is gated: ask for access on the Hub, then log in with `hf auth login`.") from error
    except RepositoryNotFoundError as error:
        raise NotOnHub(
            f"There is no model {repo} on the Hub, or it is private: check the name, or log in with `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise NotOnHub(f"{repo} has no revision {revision}: use a branch, a tag or a whole commit.") from error
    except (OSError, HTTPError, *NO_HUB) as error:  # HTTPError: of whichever client huggingface_hub is built on
        if isinstance(error, HfHubHTTPError) and error.response.status_code in (401, 403):
            raise NotOnHub(
                f"The Hub refuses access to {repo}: check the token in HF_TOKEN, or log in again with `hf auth login`."
            ) from error
        kind = HubNotAsked if isinstance(error, OfflineModeIsEnabled) else HubFailure
        raise kind(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__:  # says no more than that there is no copy
        error = error.__cause__
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set"
    if isinstance(error, HfHubHTTPError):
        return f"it answers with status {error.response.status_code}"
    if isinstance(error, NO_HUB):
        return "something else answers in its place"
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _look(repo: str, revision: str | None, files: Sequence[str], token: str | bool | None) -> ModelInfo:
    asked = time.monotonic()
    try:
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=ANSWER_SECONDS, token=token)
    except HTTPError as error:
        if isinstance(error, HfHubHTTPError) or time.monotonic() - asked < ANSWER_SECONDS:
            raise
        raise HubSilence(f"it gave no answer in {ANSWER_SECONDS:g} seconds") from error
    names = [file.rfilename for file in info.siblings or ()]
    missing = [file for file in files if file not in names]
    if missing:
        raise NotOnHub(f"{repo} holds no {missing[0]}: it is no model of this program.")
    return info


def _download(
    repo: str,
    revision: str | None,
    files: Sequence[str],
    bar: type[tqdm],
    force: bool,
    options: Mapping[str, Any],
) -> Path:
    info = _look(repo, revision, files, options["token"])
    hashes = {file.rfilename: file.lfs.sha256 if file.lfs else file.blob_id for file in info.siblings}
    get = partial(hf_hub_download, repo, revision=info.sha, tqdm_class=bar, **options)
    for file in files:
        path = Path(get(file, force_download=force))
        if not _is_intact(path, hashes[file]):
            print(f"{path} is damaged and is fetched again.", file=sys.stderr)
            path = Path(get(file, force_download=True))
            if not _is_intact(path, hashes[file]):
                raise HubFailure(f"{file} arrives damaged")
    # By its name, and only now that all is there: so the cache remembers which copy to use when the Hub is away.
    hf_hub_download(repo, files[-1], revision=revision, **options)
    return path.parent


def _watched(repo: str, download: Callable[[type[tqdm]], Path]) -> Path:
    """What ``download`` returns, which shows its progress in bars of the class it is given.

    It runs beside, in a thread that is left alone when too little arrives: nothing can interrupt a stalled read.
    """

    class Bar(tqdm):
        """The Hub's own, which also counts, and shows itself in the log of a server."""

        arrived = 0
        given_up = False

        def __init__(self, *args, **options):
            if options.get("disable") is None:
                options |= {"disable": False, "mininterval": 0.5 if sys.stderr.isatty() else 5}
            super().__init__(*args, **options | {"desc": repo})

        def update(self, n: float | None = 1) -> bool | None:
            if Bar.given_up:
                raise HubFailure("too late")
            Bar.arrived += max(0, n or 0)
            return super().update(n)

    outcome: Future[Path] = Future()

    def run() -> None:
        try:
            outcome.set_result(download(Bar))
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    start, before = time.monotonic(), 0
    while not wait([outcome], timeout=0.1).done:
        if Bar.arrived - before >= _MEGABYTE:
            start, before = time.monotonic(), Bar.arrived
        elif time.monotonic() - start > PATIENCE:
            Bar.given_up = True
            raise HubSilence(f"less than a megabyte came in {PATIENCE:g} seconds")
    return outcome.result()


def _is_intact(file: Path, digest: str | None) -> bool:
    """Whether a file has the hash by which the Hub knows it: git's, or SHA-256 for a large one; None: not known."""
    if digest is None:
        return True
    if len(digest) == 64:
        with file.open("rb") as content:
            return sha_fileobj(content).hex() == digest
    return git_hash(file.read_bytes()) == digest

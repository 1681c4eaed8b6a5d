"""WebDataset shards: tar files of photographs with captions, read as a stream, for data larger than a disk.

A split is a folder of tar files, ``train/00000.tar`` and so on. In them a photograph has its captions beside it:
``dog.jpg`` with ``dog.txt``, one a line, or with ``dog.json``, ``{"caption": ...}`` or ``{"captions": [...]}``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from captioner.data import CaptionedPhotograph, DataError, LeftOut, described, usable
from captioner.photographs import PhotographError, open_photograph

SHARDS = "*.tar"
_PHOTOGRAPHS = ("jpg", "jpeg", "png", "webp")
_EXPECTED = "tar files with photographs (dog.jpg) and their captions (dog.txt or dog.json) beside them"
_SHUFFLED = 1000  # photographs, as compressed files, among which the next one is drawn


def shards_of(folder: Path, *splits: str) -> list[Path]:
    """The shards of splits; none where the data has another layout. Raises ``DataError`` for a split without any."""
    if not any(folder.glob(f"*/{SHARDS}")):
        return []
    found = {split: sorted((folder / split).glob(SHARDS)) for split in splits}
    for split, shards in found.items():
        if not shards:
            raise DataError(f"{folder / split} holds no shards; a split is a folder of tar files.")
    return [shard for shards in found.values() for shard in shards]


def read_captions(shards: Sequence[Path]) -> list[CaptionedPhotograph]:
    """The photographs in shards, all of which are read once; their paths are names, ``train/00000.tar/dog.jpg``.

    What cannot be used is left out. Raises ``DataError`` where that is everything.
    """
    left_out = LeftOut(shards[0].parent)
    records = (record for record, _ in _contents(shards, left_out))
    return usable(records, left_out, _EXPECTED, present=lambda path: True)


@contextmanager
def on_disk(folder: Path, split: str, *, limit: int | None = None) -> Iterator[Path]:
    """The folder itself, or where it holds shards a temporary one with the photographs of ``split`` as files."""
    shards = shards_of(folder, split)
    if not shards:
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        unpack(shards, Path(scratch), limit=limit)
        yield Path(scratch)


def unpack(shards: Sequence[Path], folder: Path, *, limit: int | None = None) -> None:
    """Write the photographs of a split, all or the first, to ``folder``: files under ``images``, and a table.

    What cannot be used is left out, with a warning.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    left_out = LeftOut(shards[0].parent)
    with (folder / f"{shards[0].parent.name}.tsv").open("w", encoding="utf-8") as table:
        for record, photograph in islice(_contents(shards, left_out, decodes=True), limit):
            name = f"{record.path.parent.stem}-{record.path.name}"
            (folder / "images" / name).write_bytes(photograph)
            table.writelines(f"{' '.join(caption.split())}\t{name}\n" for caption in record.raw)
    left_out.tell()


def stream(shards: Sequence[Path], prepare: Callable[[dict[str, Any]], Any], seed: Sequence[int]) -> Any:
    """The samples of shards in a random order, prepared: an ``IterableDataset``.

    Every process of a distributed run, and in it every worker of a data loader, has shards of its own. Broken files
    are passed over.
    """
    random = np.random.default_rng(seed)
    order = [str(shards[index]) for index in random.permutation(len(shards))]
    wds = _library()
    samples = wds.WebDataset(
        order,
        handler=wds.ignore_and_continue,
        shardshuffle=False,  # they are
        nodesplitter=wds.split_by_node,
        empty_check=False,
    )
    return samples.shuffle(_SHUFFLED, initial=_SHUFFLED, seed=int(random.integers(2**31))).map(prepare)


def photograph_in(sample: dict[str, Any]) -> tuple[Path, bytes]:
    """A sample's name and the bytes of its photograph, of which there are none where it has no photograph."""
    shard = Path(sample["__url__"])
    suffix = next((suffix for suffix in _PHOTOGRAPHS if suffix in sample), "")
    # Folders within a tar file become part of the name, as a name there may lead anywhere.
    name = f"{sample['__key__'].replace('/', '-')}.{suffix}"
    return Path(shard.parent.name, shard.name, name), sample.get(suffix, b"")


def _contents(
    shards: Sequence[Path], left_out: LeftOut, *, decodes: bool = False
) -> Iterator[tuple[CaptionedPhotograph, bytes]]:
    """Photographs with their captions, in order; ``decodes``: only those that can be opened."""
    wds = _library()
    for shard in shards:
        errors: list[Exception] = []

        def noted(error: Exception, errors: list[Exception] = errors) -> bool:
            errors.append(error)
            return True

        files = wds.WebDataset(
            [str(shard)], handler=noted, shardshuffle=False, nodesplitter=None, workersplitter=None, empty_check=False
        )
        for sample in files:
            name, photograph = photograph_in(sample)
            if not photograph:
                left_out.add("captions without a photograph", str(name))
                continue
            try:
                captions = _captions(sample)
                if decodes:
                    open_photograph(photograph)
            except PhotographError:
                left_out.add("unreadable photographs", str(name))
            except (ValueError, KeyError, TypeError):
                left_out.add("broken captions", str(name))
            else:
                yield described(name, shard.parent.name, captions, left_out), photograph
        if errors:
            left_out.add("shards that are broken in part", shard.name)


def _captions(sample: dict[str, Any]) -> list[str]:
    if "txt" in sample:
        return sample["txt"].decode("utf-8").splitlines()
    if "json" not in sample:
        return []
    content = json.loads(sample["json"])
    return list(content["captions"]) if "captions" in content else [content["caption"]]


def _library() -> Any:
    try:
        import webdataset
    except ImportError as error:
        raise DataError("Shards need the package webdataset: pip install -r requirements-dev.txt.") from error
    return webdataset

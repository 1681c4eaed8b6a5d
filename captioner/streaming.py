"""Captioned photographs from shards as what is learnt from: encoded when they are needed, since no disk holds features.

What is kept in memory are the captions.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from captioner import distributed
from captioner.augmentation import View
from captioner.data import CaptionedPhotograph, DataError, LeftOut
from captioner.examples import Batch, Examples
from captioner.model import CaptionModel
from captioner.photographs import PhotographError, Preprocessing, open_photograph
from captioner.shards import photograph_in, stream
from captioner.teaching import padded
from captioner.training_config import TrainingConfig
from captioner.vocabulary import Vocabulary

_WORKERS = 2  # processes that decode, for each that trains


@dataclass(frozen=True)
class _Prepare:
    """A sample of a shard as its name, the view it is shown in and its pixels (3, S, S); None if unreadable."""

    views: Sequence[View]
    preprocessing: Preprocessing
    seed: tuple[int, int]

    def __call__(self, sample: dict[str, Any]) -> tuple[Path, View, torch.Tensor | None]:
        name, content = photograph_in(sample)
        view = self.views[np.random.default_rng([*self.seed, zlib.crc32(str(name).encode())]).integers(len(self.views))]
        try:
            pixels = self.preprocessing(view.show(open_photograph(content), str(name)))
        except PhotographError:
            return name, view, None
        return name, view, pixels.flip(-1) if view.mirrored else pixels


class StreamedExamples(Examples):
    """The examples in shards, in batches that depend on seed, epoch and the number of processes alone.

    An epoch has as many steps as every process can fill from its own shards, so it shows no photograph twice, and a
    few not at all; only in the place of unreadable ones others come again. Raises ``ValueError`` for fewer shards than
    processes.
    """

    def __init__(
        self,
        shards: Sequence[Path],
        records: list[CaptionedPhotograph],
        vocabulary: Vocabulary,
        config: TrainingConfig,
        model: CaptionModel,
    ):
        super().__init__(records, vocabulary, [], config)
        self.shards, self.model = shards, model
        self._rows = {record.path: row for row, record in enumerate(records)}
        held = Counter(record.path.parent for record in records)
        each, least = len(shards) // distributed.world(), config.batch // distributed.world()
        if not (each and least):
            raise ValueError(f"{distributed.world()} processes need as many shards, and as many photographs a batch.")
        counts = sorted(held[Path(shard.parent.name, shard.name)] for shard in shards)
        self._steps = max(1, sum(counts[:each]) // -(-config.batch // distributed.world()))

    @property
    def steps(self) -> int:
        return self._steps

    def epoch(self, number: int, *, skip: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, from batch ``skip`` on; this process's part of each."""
        own = distributed.part(self.config.batch)
        batches = self._batches(number, own.stop - own.start)
        for chosen in islice(batches, skip, self.steps):
            yield self._batch(number, *zip(*chosen))
        batches.close()

    def _batch(self, number: int, rows: Sequence[int], shown: Sequence[View], pixels: Sequence[torch.Tensor]) -> Batch:
        device = self.model.decoder.position.device
        with torch.no_grad():
            features = self.model.encoder.lower(torch.stack(pixels).to(device))
        words = []
        for row, view in zip(rows, shown):
            random = np.random.default_rng([self.config.seed, number, row])
            chosen = self._choose(len(self.captions[row]), random)
            words += [self._caption(row, index, view.mirrored) for index in chosen]
        words = padded(words, self.config.longest)
        words = F.pad(words, (0, self.config.longest + 1 - words.shape[1]))  # as long in all processes
        return Batch(features, words, None, np.array(rows), np.array([view.mirrored for view in shown]))

    def _batches(self, number: int, size: int) -> Iterator[list[tuple[int, View, torch.Tensor]]]:
        """Full batches without end; a warning tells of what was unreadable."""
        preprocessing, seed = self.model.config.preprocessing, (self.config.seed, number)
        samples = stream(self.shards, _Prepare(self.views, preprocessing, seed), seed)
        left_out = LeftOut(self.shards[0].parent)
        batch: list[tuple[int, View, torch.Tensor]] = []
        try:
            while True:
                seen: set[Path] = set()
                for name, view, pixels in DataLoader(samples, batch_size=None, num_workers=_WORKERS):
                    if name in seen or name not in self._rows:
                        continue
                    if pixels is None:
                        left_out.add("unreadable photographs", str(name))
                        continue
                    seen.add(name)
                    batch.append((self._rows[name], view, pixels))
                    if len(batch) == size:
                        yield batch
                        batch = []
                if not seen:
                    raise DataError(f"None of the photographs in this process's shards can be read. {left_out}")
        finally:
            left_out.tell()

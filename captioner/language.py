"""Pre-training of the decoder on text alone, with the image side absent: there are more sentences than photographs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from captioner.data import DataError
from captioner.decoder import CnnDecoder
from captioner.precision import mixed_precision
from captioner.schedule import warmed_cosine
from captioner.teaching import caption_loss, padded
from captioner.vocabulary import START, tokenize

_BATCH = 256  # sentences


def read_sentences(text: Path) -> list[list[str]]:
    """The words of every line of a text file. Raises ``DataError`` where there are none."""
    sentences = [words for line in text.read_text(encoding="utf-8").splitlines() if (words := tokenize(line))]
    if not sentences:
        raise DataError(f"{text} holds no sentences; it should have one a line.")
    return sentences


def batches(sentences: Sequence[Sequence[int]], random: np.random.Generator) -> Iterator[list[Sequence[int]]]:
    """All sentences once, in random batches of like length, so that little is padded."""
    order = random.permutation(len(sentences))
    order = order[np.argsort([len(sentences[index]) for index in order], kind="stable")]
    for start in random.permutation(np.arange(0, len(order), _BATCH)):
        yield [sentences[index] for index in order[start : start + _BATCH]]


def pretrain(
    decoder: CnnDecoder,
    sentences: Sequence[Sequence[int]],
    *,
    epochs: int,
    rate: float,
    smoothing: float,
    longest: int,
    seed: int,
    cpu_bfloat16: bool = False,
) -> float:
    """Teach a decoder sentences (ids), word by word; returns the mean cross-entropy of the last epoch.

    ``rate`` is the peak of the learning rate, ``longest`` how many words of a sentence are learnt from,
    ``cpu_bfloat16`` whether a CPU too multiplies in bfloat16.
    """
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=rate, betas=(0.9, 0.98), fused=True)
    steps = epochs * math.ceil(len(sentences) / _BATCH)
    device = decoder.position.device
    decoder.train()
    losses: list[float] = []
    with tqdm(total=steps, unit="step", desc="language") as bar:
        for _ in range(epochs):
            losses = []
            for batch in batches(sentences, random):
                words = padded(batch, longest).to(device)
                inputs = torch.cat([torch.full_like(words[:, :1], START), words[:, :-1]], 1)
                with mixed_precision(device, on_cpu=cpu_bfloat16):
                    logits = decoder.of_text(inputs)
                loss = caption_loss(logits.float(), words, smoothing)
                for group in optimizer.param_groups:
                    group["lr"] = rate * warmed_cosine(bar.n, steps, warm=steps // 20)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
                optimizer.step()
                losses.append(loss.item())
                bar.update()
                bar.set_postfix(loss=f"{np.mean(losses[-100:]):.3f}", refresh=False)
    decoder.eval()
    return float(np.mean(losses))

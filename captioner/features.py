"""What the encoder's frozen stages make of photographs, kept on disk: computed once, however many epochs follow."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from safetensors.torch import save
from tqdm import tqdm

from captioner.augmentation import View
from captioner.encoder import Encoder
from captioner.photographs import Preprocessing, open_photograph

WHOLE = View()
# Features are written in chunks, and the count of finished rows after each: a killed run continues from there.
_CHUNK = 32


def cached_features(
    paths: Sequence[Path],
    encoder: Encoder,
    preprocessing: Preprocessing,
    folder: Path,
    *,
    view: View = WHOLE,
    label: str = "features",
    bfloat16: bool = False,
) -> np.ndarray:
    """``Encoder.lower`` of a view of the photographs: (N, H, W, C) in float16, a read-only memory map.

    With ``bfloat16`` the encoder multiplies in it: twice as fast on CPUs that can, and rounded to three digits.
    The file name is a digest of everything the features depend on, so a stale cache is never read. Of several runs
    that need the same features one makes them, and the others wait.
    """
    folder.mkdir(parents=True, exist_ok=True)
    label += view.label
    file = folder / f"{label}-{_digest(paths, encoder, preprocessing, view, bfloat16)}.npy"
    if not file.exists():
        lock = file.with_suffix(".lock")
        with FileLock(lock):
            if not file.exists():
                _write(file, paths, encoder, preprocessing, view, label, bfloat16)
        with suppress(OSError):  # where another run waits for it, on Windows
            lock.unlink()
    return np.load(file, mmap_mode="r")


def _write(file, paths, encoder, preprocessing, view, label, bfloat16) -> None:
    device, side = next(encoder.parameters()).device, preprocessing.image_size

    @torch.inference_mode()
    def encode(images: torch.Tensor) -> np.ndarray:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            maps = encoder.lower(images.to(device, memory_format=torch.channels_last))
        return maps.permute(0, 2, 3, 1).half().cpu().numpy()

    encoder.eval()
    shape = (len(paths), *encode(torch.zeros(1, 3, side, side)).shape[1:])
    partial, progress = file.with_suffix(".partial"), file.with_suffix(".progress")
    done = int(progress.read_text() or 0) if progress.exists() and partial.exists() else 0
    rows = np.lib.format.open_memmap(partial, mode="r+" if done else "w+", dtype=np.float16, shape=shape)
    with tqdm(total=len(paths), initial=done, desc=f"encoding {label}", unit="photo") as bar:
        for start in range(done, len(paths), _CHUNK):
            chunk = paths[start : start + _CHUNK]
            images = torch.stack([preprocessing(view.show(open_photograph(path), path.name)) for path in chunk])
            if view.mirrored:
                images = images.flip(-1)
            rows[start : start + len(chunk)] = encode(images)
            rows.flush()
            progress.write_text(str(start + len(chunk)))
            bar.update(len(chunk))
    os.replace(partial, file)
    progress.unlink(missing_ok=True)


def _digest(paths, encoder, preprocessing, view, bfloat16) -> str:
    # Averaging weights turns -0.0 into 0.0: adding 0 makes them alike, for they give the same features.
    weights = save({name: tensor.contiguous() + 0 for name, tensor in frozen_stages(encoder).items()})
    files = [(path.name, path.stat().st_size, *(view.drawn(path.name) or ())) for path in paths]
    settings = [encoder.config.name, encoder.config.stride_in, asdict(preprocessing), view.mirrored]
    settings += [encoder.config.levels] if encoder.frozen else []
    settings += ["bfloat16"] if bfloat16 else []
    described = json.dumps([*settings, files])
    return hashlib.sha256(weights + described.encode()).hexdigest()[:16]


def frozen_stages(encoder: Encoder) -> dict[str, torch.Tensor]:
    """The tensors that ``Encoder.lower`` depends on, on the CPU, by name."""
    tensors = encoder.body.state_dict()
    return {name: tensor.cpu() for name, tensor in tensors.items() if encoder.frozen or not name.startswith("layer4.")}


def batch_of(rows: np.ndarray, device: torch.device) -> torch.Tensor:
    """Cached rows (B, H, W, C) as what ``Encoder.upper`` takes: (B, C, H, W) in float32."""
    return torch.tensor(rows).to(device).permute(0, 3, 1, 2).float()

"""A data set made in a moment: squares of some colour, left or right, each with two true captions and their boxes."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from captioner.encoder import Encoder, EncoderConfig

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230)}


def make_data(folder: Path, *, train: int = 12, val: int = 4) -> Path:
    """Photographs, a Karpathy JSON and an ``entities.json`` in ``folder``."""
    (folder / "images").mkdir(parents=True)
    random = np.random.default_rng(0)
    images, entities = [], {}
    for number in range(train + val):
        colour, side = list(COLOURS)[number % 3], ("left", "right")[number // 3 % 2]
        pixels = random.integers(0, 60, (64, 64, 3), dtype=np.uint8)
        first, last = (6, 30) if side == "left" else (34, 58)
        pixels[20:44, first:last] = COLOURS[colour]
        Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        captions = [f"A {colour} square on the {side} .", f"The {side} square is {colour} ."]
        images.append(
            {
                "filename": f"{number}.png",
                "split": "train" if number < train else "val",
                "sentences": [{"raw": c, "tokens": c.lower().split()[:-1]} for c in captions],
            }
        )
        entities[f"{number}.png"] = {
            "boxes": {"1": [[first / 64, 20 / 64, last / 64, 44 / 64]]},
            "sentences": [
                {"words": captions[0].split(), "phrases": [{"chain": "1", "types": ["other"], "first": 0, "last": 2}]},
                {"words": captions[1].split(), "phrases": [{"chain": "1", "types": ["other"], "first": 0, "last": 2}]},
            ],
        }
    (folder / "entities.json").write_text(json.dumps(entities))
    (folder / "dataset_tiny.json").write_text(json.dumps({"dataset": "tiny", "images": images}))
    return folder


def make_shards(folder: Path, data: Path, *, shards: int = 4) -> Path:
    """The data set that ``make_data`` left in ``data`` as WebDataset shards: several of ``train``, one of ``val``."""
    images = json.loads((data / "dataset_tiny.json").read_text())["images"]
    for split, count in (("train", shards), ("val", 1)):
        own = [image for image in images if image["split"] == split]
        for shard in range(count):
            photographs = {}
            for image in own[shard::count]:
                key = Path(image["filename"]).stem
                photographs[f"{key}.png"] = (data / "images" / image["filename"]).read_bytes()
                photographs[f"{key}.txt"] = "\n".join(sentence["raw"] for sentence in image["sentences"]).encode()
            write_shard(folder / split / f"{shard:05d}.tar", photographs)
    return folder


def write_shard(file: Path, contents: dict[str, bytes]) -> Path:
    """A tar file of files."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return file


def make_encoder_weights(file: Path, name: str = "resnet18") -> Path:
    """Random weights of a ResNet under torchvision's names."""
    torch.manual_seed(0)
    weights = Encoder(EncoderConfig(name)).body.state_dict()
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, file)
    return file

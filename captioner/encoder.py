"""The encoder: a torchvision ResNet without pooling and classifier, photograph to region grid."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file
from torch import nn


@dataclass(frozen=True)
class EncoderConfig:
    """Which ResNet, and in which of its two published arrangements."""

    name: str = field(default="resnet50", metadata={"help": "any torchvision ResNet"})
    # The weights fit just one of the two, and no shape tells which.
    stride_in: Literal["conv1", "conv2"] = field(
        default="conv1",
        metadata={"help": "convolution with a bottleneck's stride: conv1 (He et al. 2015) or conv2 (torchvision's)"},
    )
    levels: Literal[1, 2] = field(
        default=2,
        metadata={"help": "stages that make the regions: 1, the last; 2, the one before it too, a finer grid"},
    )


class Encoder(nn.Module):
    """Images (B, 3, S, S) to features (B, C, H, W), H = W = S / 32, rounded up; S / 16 with two levels.

    With two levels a region is described by both of the last stages, the last one brought to the grid of the one
    before it (hypercolumns, Hariharan et al. 2015): where things are from the one, what they are from the other.
    ``forward`` is ``lower``, the frozen stages, whose outcome needs to be computed but once, and then ``upper``, which
    can be fine-tuned; after ``freeze`` nothing can.

    Parameter names are torchvision's, so that its ImageNet weights fit. Batch-norm statistics
    stay frozen in training too: batches here are small and the statistics of ImageNet are good.

    Raises ``ValueError`` for a name that is no torchvision ResNet, or another number of levels.
    """

    def __init__(self, config: EncoderConfig):
        super().__init__()
        names = [name for name in torchvision.models.list_models(torchvision.models) if "resne" in name]
        if config.name not in names:
            raise ValueError(f"No encoder {config.name!r}; choose one of {', '.join(names)}.")
        if config.stride_in not in ("conv1", "conv2"):
            raise ValueError(f"stride_in is 'conv1' or 'conv2', not {config.stride_in!r}.")
        if config.levels not in (1, 2):
            raise ValueError(f"An encoder has 1 or 2 levels, not {config.levels}.")
        self.config, self.frozen = config, False
        resnet = torchvision.models.get_model(config.name, weights=None)
        # Of the four stages each has twice the channels of the one below.
        self.lower_channels = resnet.fc.in_features // 2
        self.channels = resnet.fc.in_features + (self.lower_channels if config.levels == 2 else 0)
        self.body = nn.Sequential(
            OrderedDict((name, part) for name, part in resnet.named_children() if name not in ("avgpool", "fc"))
        )
        # Faster on CPUs, and no slower on GPUs.
        self.body.to(memory_format=torch.channels_last)
        if config.stride_in == "conv1":
            self._move_strides_to_conv1()

    def _move_strides_to_conv1(self) -> None:
        for block in self.body.modules():
            if isinstance(block, torchvision.models.resnet.Bottleneck):
                block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.upper(self.lower(images))

    def freeze(self) -> None:
        """Make the last stage a part of ``lower``, so that what has been computed once is the features."""
        self.frozen = True

    def lower(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, S, S) through all stages but the last: (B, C', S / 16, S / 16); features where it is frozen."""
        x = images.contiguous(memory_format=torch.channels_last)
        for part in self.body[:-1]:
            x = part(x)
        return self._top(x) if self.frozen else x

    def upper(self, lower: torch.Tensor) -> torch.Tensor:
        """The outcome of ``lower`` through the last stage where that is not in it, to features (B, C, H, W)."""
        return lower if self.frozen else self._top(lower)

    def _top(self, lower: torch.Tensor) -> torch.Tensor:
        top = self.body.layer4(lower)
        if self.config.levels == 1:
            return top
        finer = F.interpolate(top, size=lower.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([lower, finer], 1)

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def load_imagenet_weights(self, source: Path | str) -> None:
        """Load ImageNet weights: a safetensors file with torchvision's names, or ``"torchvision"`` to download them.

        Raises ``ValueError`` when the tensors do not fit this encoder.
        """
        if str(source) == "torchvision":
            url = torchvision.models.get_model_weights(self.config.name).IMAGENET1K_V1.url
            loaded = torch.hub.load_state_dict_from_url(url, weights_only=True, check_hash=True)
        else:
            loaded = load_file(source)
        weights = {name: tensor.float() for name, tensor in loaded.items() if not name.startswith("fc.")}
        expected = self.body.state_dict()
        misfits = [
            name
            for name in sorted(expected.keys() | weights.keys())
            if not name.endswith("num_batches_tracked")  # a counter that frozen statistics leave unused
            and getattr(weights.get(name), "shape", None) != getattr(expected.get(name), "shape", None)
        ]
        if misfits:
            raise ValueError(
                f"{source} does not fit {self.config.name}: "
                f"{len(misfits)} tensors are missing, unknown or of another shape, first {misfits[0]}."
            )
        self.body.load_state_dict(weights, strict=False)

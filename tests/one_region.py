"""A model that sees one region and nothing else, so that the truth about its words is known."""

from __future__ import annotations

import torch
from torch import nn

from captioner.photographs import open_photograph
from tests.tiny import tiny_model

GRID, REGIONS, SIDE = (3, 3), 9, 96
CORNER, CENTRE = 0, 4


class OneRegion(nn.Module):
    """An encoder that sees how bright one region is, and nothing else. Counts the photographs it saw."""

    def __init__(self, region: int):
        super().__init__()
        self.region, self.seen = region, 0

    def forward(self, images):
        self.seen += len(images)
        bright = nn.functional.adaptive_avg_pool2d(images, GRID).mean(1, keepdim=True)
        only = torch.zeros(REGIONS)
        only[self.region] = 1
        return bright * only.view(GRID)


def one_region_model(region: int, word: str = "dog"):
    """A model to which ``word`` is the likelier the brighter ``region`` is, through that region's logit alone."""
    saved = tiny_model("none", image_size=SIDE)
    model, decoder = saved.model, saved.model.decoder
    model.encoder = OneRegion(region)
    decoder.project = nn.Linear(1, 16, bias=False)
    decoder.head.value = nn.Linear(16, 16, bias=False)
    with torch.no_grad():
        decoder.position.zero_()
        decoder.head.key.weight.zero_()  # attention is uniform
        for context in decoder.contexts:  # and the language state sees nothing
            context.weight.zero_()
        decoder.project.weight.copy_(torch.eye(16)[:, :1])
        embedded = decoder.embedding.weight[saved.vocabulary.encode([word])[0]]
        decoder.head.value.weight.copy_(embedded[:, None] * torch.eye(16)[:1] * 40 / embedded.norm() ** 2)
    return saved


def pixels_of(saved, seen):
    return saved.model.config.preprocessing(open_photograph(seen.record.path))

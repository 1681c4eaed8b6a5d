"""Learning rates over the steps of a run."""

from __future__ import annotations

import math


def half_cosine(part: float) -> float:
    """From 1 down to 0 as ``part`` goes from 0 to 1."""
    return 0.5 * (1 + math.cos(math.pi * part))


def warmed_cosine(step: int, steps: int, *, warm: int) -> float:
    """Linear warm-up from 0 to 1 over the first ``warm`` of ``steps`` steps, then half a cosine down to 0."""
    if step < warm:
        return (step + 1) / warm
    return half_cosine((step - warm) / (steps - warm))

"""Mixed precision: matrices multiplied in bfloat16, everything else in float32."""

from __future__ import annotations

import torch


def mixed_precision(device: torch.device, *, on_cpu: bool = False) -> torch.autocast:
    """A context for one pass through a network: on a GPU, and where it is wanted ``on_cpu``.

    To be entered anew for every pass, and whenever gradients are switched on or off: within it, weights are rounded
    once, so that neither a step of the optimiser nor another mode reaches the rounded ones.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or on_cpu)

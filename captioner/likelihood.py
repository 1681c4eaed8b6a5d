"""How likely a model finds what may come next in a caption."""

from __future__ import annotations

import torch

from captioner.vocabulary import PAD, START, UNKNOWN

NEVER_SAID = [PAD, START, UNKNOWN]


def log_probabilities(logits: torch.Tensor, temperature: float | torch.Tensor = 1.0) -> torch.Tensor:
    """Natural log-probabilities (..., V) of all that a caption may say next, its end too, by ``logits`` (..., V).

    They are counted in float32, of logits divided by the ``temperature``.
    What is never said has no part in them (minus infinity). Above all the one word for all unknown ones: of a
    photograph it knows little of a model may give it nearly everything, and what is said shares the rest.
    """
    forbidden = torch.tensor(NEVER_SAID, device=logits.device)
    return (logits.float() / temperature).index_fill(-1, forbidden, -torch.inf).log_softmax(-1)

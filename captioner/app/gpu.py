"""A GPU of the ZeroGPU hardware of Spaces, for as long as the model runs.

There ``app.py`` has imported ``spaces`` before PyTorch: that makes a GPU seem to be there all the time, so that the
model is loaded for it.
"""

from __future__ import annotations

from importlib.util import find_spec

from captioner.predictor import Captioner

_RUN = ("explain", "explain_caption", "occlusions", "grad_cams")


def on_gpu(model: Captioner) -> Captioner:
    """The model, asking for a GPU whenever it runs where the package ``spaces`` is installed; as it is elsewhere."""
    if find_spec("spaces") is not None:
        import spaces  # there on Spaces alone

        for name in _RUN:
            setattr(model, name, spaces.GPU(getattr(model, name)))
    return model

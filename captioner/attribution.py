"""Other ways to a map of a word, as baselines: Grad-CAM on the encoder's last grid, input gradients on the pixels.

Both explain the logit of a word at its position of a caption, with the words before it given. Notation: N wanted
words, T words a caption, R regions, C channels of the encoder, S pixels a side.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from captioner.decoder import Decoder
from captioner.model import CaptionModel
from captioner.reading import read


def grad_cam(decoder: Decoder, features: torch.Tensor, words: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Grad-CAM (Selvaraju et al. 2017) of one photograph for the words ``words[n, positions[n]]``: (N, R), >= 0.

    ``features`` (R, C), ``words`` (N, T), ids without start, and ``positions`` (N,) are on one device; the decoder is
    in eval mode. No parameter's gradient is touched.
    """
    weights = _feature_gradients(decoder, features, words, positions).mean(1)  # (N, C)
    return (weights @ features.T).relu()


def input_gradient(
    model: CaptionModel, pixels: torch.Tensor, words: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """|Gradient x input| of one photograph, summed over channels and averaged over every region's pixels: (N, R).

    ``pixels`` (3, S, S) are preprocessed; ``words`` and ``positions`` as in ``grad_cam``. The encoder runs forward
    once and backward once a word, so that memory does not grow with the words.
    """
    with torch.inference_mode(False), torch.enable_grad():
        image = pixels.clone()[None].requires_grad_()
        features = model.encode(image)  # (1, R, C)
        found = []
        for gradient in _feature_gradients(model.decoder, features[0].detach(), words, positions):
            (of_pixels,) = torch.autograd.grad(features, image, gradient[None], retain_graph=True)
            importance = (of_pixels[0] * pixels).abs().sum(0, keepdim=True)
            found.append(F.adaptive_avg_pool2d(importance, model.config.grid).flatten())
    return torch.stack(found)


def _feature_gradients(
    decoder: Decoder, features: torch.Tensor, words: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    """Gradients (N, R, C) of the N wanted logits with respect to the features (R, C)."""
    with torch.inference_mode(False), torch.enable_grad():
        # Clones, since tensors made in inference mode cannot take part in a backward pass.
        words, positions = words.clone(), positions.clone()
        # One copy of the photograph a word: the gradients of the sum are then those of the single logits.
        copies = features.clone().expand(len(words), -1, -1).clone().requires_grad_()
        logits = read(decoder, words, decoder.look(copies)).logits  # (N, T, V)
        rows = torch.arange(len(words), device=words.device)
        (gradients,) = torch.autograd.grad(logits[rows, positions, words[rows, positions]].sum(), copies)
    return gradients

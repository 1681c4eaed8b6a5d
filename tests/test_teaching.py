import pytest
import torch

from captioner.teaching import caption_loss, padded
from captioner.vocabulary import END, PAD


def test_captions_are_ended_and_padded():
    assert padded([[7, 8], [9]], 5).tolist() == [[7, 8, END], [9, END, PAD]]


def test_a_long_caption_is_cut_and_not_ended():
    assert padded([[7, 8, 9, 10], [9]], 3).tolist() == [[7, 8, 9, 10], [9, END, PAD, PAD]]


def test_the_loss_ignores_padding_and_knows_smoothing():
    logits = torch.randn(2, 3, 7)
    targets = torch.tensor([[4, 5, END], [6, END, PAD]])
    padded = torch.cat([logits, torch.randn(2, 2, 7)], 1)
    longer = torch.cat([targets, torch.full((2, 2), PAD)], 1)
    assert caption_loss(logits, targets, 0.1) == pytest.approx(caption_loss(padded, longer, 0.1).item(), rel=1e-5)
    by_hand = -logits.log_softmax(-1).gather(2, targets[:, :, None])[..., 0][targets != PAD].mean()
    assert caption_loss(logits, targets, 0.0) == pytest.approx(by_hand.item(), rel=1e-5)

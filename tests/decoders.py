"""What every decoder promises, whichever it is, and a pass to try it on."""

from __future__ import annotations

import torch

from captioner.decoder import Decoder

VOCABULARY, CHANNELS, GRID = 30, 12, (3, 3)


def a_pass(photographs=2, captions=3, words=9):
    """Features of photographs, and words of as many captions for each."""
    torch.manual_seed(1)
    return torch.rand(photographs, 9, CHANNELS), torch.randint(4, VOCABULARY, (photographs * captions, words))


@torch.no_grad()
def assert_one_word_at_a_time_gives_what_all_at_once_gives(decoder: Decoder) -> None:
    features, words = a_pass()
    regions = decoder.look(features)
    together, _ = decoder(words, regions)
    state, steps = None, []
    for t in range(words.shape[1]):
        decoded, state = decoder(words[:, t : t + 1], regions, state)
        steps.append(decoded)
    for part in ("logits", "alpha"):
        one_by_one = torch.cat([getattr(step, part) for step in steps], 1)
        torch.testing.assert_close(one_by_one, getattr(together, part), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def assert_no_position_sees_a_later_word(decoder: Decoder) -> None:
    features, words = a_pass()
    regions = decoder.look(features)
    before, _ = decoder(words, regions)
    for t in range(1, words.shape[1]):
        changed = words.clone()
        changed[:, t:] = (changed[:, t:] - 4 + 7) % (VOCABULARY - 4) + 4
        after, _ = decoder(changed, regions)
        torch.testing.assert_close(after.logits[:, :t], before.logits[:, :t])
        assert not torch.allclose(after.logits[:, t], before.logits[:, t])

"""Generation: batched beam search over the incremental decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from captioner.decoder import Decoder, Regions, State
from captioner.likelihood import log_probabilities
from captioner.vocabulary import END, PAD, START


@dataclass(frozen=True)
class GenerationConfig:
    """How captions are searched for."""

    beam_size: int = 3
    max_words: int = 20
    length_penalty: float = 1.0  # a caption's score is its log-probability over (words + 1) ** length_penalty
    repeat_trigrams: bool = True  # False: no three words in a row stand twice in a caption

    def __post_init__(self):
        if self.beam_size < 1 or self.max_words < 1:
            raise ValueError("beam_size and max_words must be at least 1.")


@dataclass(frozen=True)
class Hypothesis:
    """One caption of the search."""

    words: tuple[int, ...]  # without start and end
    log_probability: float  # of the words and of the end after them
    score: float  # what the search ranks by


@torch.no_grad()
def beam_search(
    decoder: Decoder, regions: Regions, config: GenerationConfig | None = None, *, prefix: Sequence[int] = ()
) -> list[list[Hypothesis]]:
    """The best captions of each photograph, best first, at most ``beam_size`` of them; all begin with ``prefix``.

    The greedy caption is always followed beside the beam and takes part in the ranking, and no caption
    that is less probable than it ranks above it: a wider beam never returns a less probable caption than beam 1.

    Raises ``ValueError`` where the prefix leaves no room for a word.
    """
    config = config or GenerationConfig()
    if len(prefix) >= config.max_words:
        raise ValueError(f"The first words must be fewer than {config.max_words}.")
    return _Search(decoder, regions, config, tuple(prefix)).run()


@torch.no_grad()
def sample(
    decoder: Decoder, regions: Regions, captions: int, max_words: int, *, temperature: float = 1.0
) -> torch.Tensor:
    """Random captions, ``captions`` of each photograph, by the model's probabilities at a ``temperature``.

    Ids (M, T), end last, then padding; a caption still going after ``max_words`` words has no end.
    """
    words = torch.full((len(regions) * captions, 1), START, device=regions.keys.device)
    said, state, going = [], None, torch.ones_like(words, dtype=torch.bool)
    while len(said) <= max_words and going.any():
        decoded, state = decoder(words, regions, state)
        # By the inverse of the cumulative distribution: a fraction of the random numbers torch.multinomial draws.
        reached = log_probabilities(decoded.logits[:, -1], temperature).exp().cumsum(-1)
        drawn = torch.rand(len(words), 1, device=words.device) * reached[:, -1:]
        words = torch.searchsorted(reached, drawn, right=True).clamp(max=reached.shape[-1] - 1)
        words = words.masked_fill(~going, PAD)
        going &= words != END
        said.append(words)
    return torch.cat(said, 1)


class _Search:
    """Lanes 0..K-1 of every photograph are the beam, lane K follows the greedy caption. B photographs, A = K + 1."""

    def __init__(self, decoder: Decoder, regions: Regions, config: GenerationConfig, prefix: tuple[int, ...]):
        self.decoder, self.regions, self.config, self.prefix = decoder, regions, config, prefix
        self.photographs, self.beam = len(regions), config.beam_size
        self.lanes = self.beam + 1
        self.device = regions.keys.device
        self.finished: list[list[Hypothesis]] = [[] for _ in range(self.photographs)]
        self.greedy: list[Hypothesis | None] = [None] * self.photographs

    def run(self) -> list[list[Hypothesis]]:
        words, totals, logs, state = self._begin()
        for length in range(len(self.prefix), self.config.max_words + 1):
            self._ban(logs, words)
            if length == self.config.max_words:  # a caption this long can only end
                logs[:, :, :END] = logs[:, :, END + 1 :] = -torch.inf
            words, totals, origin = self._advance(words, totals, logs)
            if self._all_done():
                break
            rows = (origin + torch.arange(self.photographs, device=self.device)[:, None] * self.lanes).flatten()
            state = [past[rows] for past in state]
            logs, state = self._step(words[:, :, -1:], state)
        return [self._rank(index) for index in range(self.photographs)]

    def _begin(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, State]:
        count = self.photographs * self.lanes
        words = torch.tensor([START, *self.prefix], device=self.device).expand(self.photographs, self.lanes, -1)
        decoded, state = self.decoder(words.reshape(count, -1), self.regions)
        logs = log_probabilities(decoded.logits)  # (B * A, 1 + P, V)
        given = words.reshape(count, -1)[:, 1:, None]
        total = logs[:, :-1].gather(2, given).sum((1, 2)).view(self.photographs, self.lanes)
        # All lanes are equal so far: one of the beam, and the greedy one, go on.
        totals = torch.full_like(total, -torch.inf)
        totals[:, [0, self.beam]] = total[:, [0, self.beam]]
        return words, totals, logs[:, -1].view(self.photographs, self.lanes, -1), state

    def _step(self, last: torch.Tensor, state: State) -> tuple[torch.Tensor, State]:
        decoded, state = self.decoder(last.reshape(-1, 1), self.regions, state)
        return log_probabilities(decoded.logits[:, -1]).view(self.photographs, self.lanes, -1), state

    def _ban(self, logs: torch.Tensor, words: torch.Tensor) -> None:
        if words.shape[-1] == 1:  # a caption has at least one word
            logs[:, :, END] = -torch.inf
        else:  # nor does a word follow itself
            logs.scatter_(2, words[:, :, -1:], -torch.inf)
        if self.config.repeat_trigrams or words.shape[-1] < 3:
            return
        for photograph, lanes in enumerate(words.tolist()):
            for lane, said in enumerate(lanes):
                pair = said[-2:]
                repeated = [said[i + 2] for i in range(len(said) - 2) if said[i : i + 2] == pair]
                logs[photograph, lane, repeated] = -torch.inf

    def _advance(
        self, words: torch.Tensor, totals: torch.Tensor, logs: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One word further: words (B, A, t + 1), totals (B, A) and the lane each came from (B, A)."""
        vocabulary = logs.shape[-1]
        reached = totals[:, :, None] + logs  # (B, A, V)
        # Of 2 K candidates at most K end here (one a lane), so K go on.
        best, flat = reached[:, : self.beam].flatten(1).topk(2 * self.beam)
        greedy, greedy_word = reached[:, self.beam].max(-1)
        best_lanes, best_words = (flat // vocabulary).tolist(), (flat % vocabulary).tolist()
        best, greedy, greedy_word = best.tolist(), greedy.tolist(), greedy_word.tolist()
        said = words.tolist()
        new_words, new_totals, origins = [], [], []
        for index in range(self.photographs):
            kept = []
            for rank, (total, lane, word) in enumerate(zip(best[index], best_lanes[index], best_words[index])):
                if total == -torch.inf:
                    continue
                if word != END:
                    kept.append((total, lane, word))
                elif rank < self.beam and len(self.finished[index]) < self.beam:
                    self.finished[index].append(self._hypothesis(said[index][lane][1:], total))
            kept = kept[: self.beam] + [(-torch.inf, 0, END)] * (self.beam - len(kept))
            if greedy_word[index] == END and self.greedy[index] is None:
                self.greedy[index] = self._hypothesis(said[index][self.beam][1:], greedy[index])
            ended = self.greedy[index] is not None
            kept.append((-torch.inf if ended else greedy[index], self.beam, greedy_word[index]))
            new_totals.append([total for total, _, _ in kept])
            origins.append([lane for _, lane, _ in kept])
            new_words.append([word for _, _, word in kept])
        origin = torch.tensor(origins, device=self.device)
        words = words.gather(1, origin[:, :, None].expand(-1, -1, words.shape[-1]))
        words = torch.cat([words, torch.tensor(new_words, device=self.device)[:, :, None]], -1)
        return words, torch.tensor(new_totals, device=self.device), origin

    def _hypothesis(self, words: Sequence[int], total: float) -> Hypothesis:
        return Hypothesis(tuple(words), total, total / (len(words) + 1) ** self.config.length_penalty)

    def _all_done(self) -> bool:
        return all(len(f) >= self.beam and g is not None for f, g in zip(self.finished, self.greedy))

    def _rank(self, index: int) -> list[Hypothesis]:
        greedy = self.greedy[index]
        unique = {hypothesis.words: hypothesis for hypothesis in [*self.finished[index], greedy]}
        # Beam and greedy lane reach the same words in batches of different shape: rounding must not decide.
        least = greedy.log_probability - 1e-4
        ranked = sorted(unique.values(), key=lambda h: (h.log_probability >= least, h.score), reverse=True)
        return ranked[: self.beam]

"""The words a model knows, and the way text becomes words and words become text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

PAD, START, END, UNKNOWN = range(4)
_SPECIAL = ("<pad>", "<start>", "<end>", "<unk>")
# Hyphens part words and an apostrophe starts a new one ("dog's" -> "dog", "'s"), as in the training captions.
_WORD = re.compile(r"'?[a-z0-9]+")


def tokenize(text: str) -> list[str]:
    """Lower-case words of a text, without punctuation."""
    return _WORD.findall(text.lower())


class Vocabulary:
    """Words and their ids. Ids 0..3 are padding, start, end and unknown."""

    def __init__(self, words: Sequence[str]):
        self.words = tuple(words)
        self._all = _SPECIAL + self.words
        self._ids = {word: index for index, word in enumerate(self._all)}
        if len(self._ids) != len(self._all):
            raise ValueError("A word stands twice in the vocabulary.")

    @classmethod
    def of(cls, captions: Iterable[Sequence[str]], *, least_count: int) -> Vocabulary:
        """The words that occur at least ``least_count`` times, the commonest first."""
        counts = Counter(word for caption in captions for word in caption)
        kept = [word for word, count in counts.items() if count >= least_count]
        return cls(sorted(kept, key=lambda word: (-counts[word], word)))

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, word: str) -> bool:
        return word in self._ids

    def encode(self, words: Iterable[str]) -> list[int]:
        """Ids of the words; a word not known becomes ``UNKNOWN``."""
        return [self._ids.get(word, UNKNOWN) for word in words]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """Words of the ids up to the end; padding and start are left out."""
        words = []
        for index in ids:
            if index == END:
                break
            if index not in (PAD, START):
                words.append(self._all[index])
        return words


def sentence(words: Sequence[str]) -> str:
    """Words as a person would write them: an apostrophe joins the word before it."""
    return " ".join(words).replace(" '", "'")

"""Caption metrics on the percent scale: BLEU-1..4, ROUGE-L and CIDEr-D, equal to those of ``pycocoevalcap``.

Captions are compared as lists of tokens; ``ptb_tokenize`` makes them the way the COCO evaluation does. Nothing here
needs Java. ``score_captions`` goes from photograph to photograph and keeps no caption: beside what it was given, its
memory holds the different n-grams of the references.
"""

from __future__ import annotations

import math
import re
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

Caption = Sequence[str]  # its tokens
_ORDERS = range(1, 5)  # BLEU and CIDEr compare n-grams of one to four words

_LETTER, _ALNUM = r"[^\W\d_]", r"[^\W_]"
_ABBREVIATIONS = (
    "apr|aug|ave|bldg|blvd|bros|capt|co|col|corp|dec|dept|dr|est|etc|ext|feb|fri|ft|gen|gov|inc|jan|jr|jul|jun|lt|ltd|"
    r"mar|mon|mr|mrs|ms|mt|nov|oct|ph\.d|prof|pvt|rd|rev|sen|sep|sept|sgt|sr|st|tel|thu|thurs|tue|tues|univ|vs|wed"
)
# The alternatives are tried from top to bottom; what none of them matches is punctuation and falls away.
_TOKEN = re.compile(
    rf"""
    (?! (?:cannot|gonna|wanna|gotta|gimme|lemme)\b ) {_LETTER}+ (?!\S)     # a plain word stands first, for speed
  | can(?=not\b) | (?:gon|wan)(?=na\b) | got(?=ta\b) | (?:gim|lem)(?=me\b)
  | (?:{_LETTER}\.)+ (?!{_ALNUM})                                          # U.S.
  | (?:{_ABBREVIATIONS})\. (?!{_ALNUM}) | no\. (?=\s?\d)                   # Mr.  No. 5
  | (?-i: [A-Z]+ (?:&[A-Z]+)+ )                                           # A&M, but salt & pepper
  | {_LETTER}+ (?=n't\b) | n't\b | '(?:s|m|d|re|ve|ll)\b                  # do n't  dog 's
  | y'(?={_LETTER}) | 't(?=(?:is|was)\b)                                  # y' all  't is
  | 'n' | '(?:em|n|till?|cause)\b | ol'(?!{_LETTER}) | li'l | ma'am | s'mores
  | '\d0s\b (?!'s) | '\d\d (?!\S)                                         # '80s  '09
  | (?: [dlno] | (?-i:[A-Z]) ) ' (?! (?:re|ve|ll)\b ) {_LETTER}{{2,}}       # o'clock  O'Brien
  | {_LETTER}{_ALNUM}* (?: [.!?]{_LETTER}{_ALNUM}* )+                     # example.com
  | (?<!\w) [-+]?\d+(?:[.,:]\d+)+ | (?<![\w.]) [-+.,:]\d+ (?!{_ALNUM})     # 1,000  3:30  .5  -5
  | [#@]{_LETTER}\w*
  | \w+ (?: [-/]\w+ )*                                                    # t-shirt  and/or
  | [!?]{{2,}}
  | [^\s'"`.,:;?!–—…“”‘’-]                                                # a symbol or a bracket
    """,
    re.VERBOSE | re.IGNORECASE,
)
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}


def ptb_tokenize(caption: str) -> list[str]:
    """Lower-case Penn Treebank tokens of an English caption, without punctuation.

    These are the tokens of ``pycocoevalcap``'s ``PTBTokenizer`` (Stanford CoreNLP 3.4.1 ``-lowerCase``), its
    oversights included: brackets stay in as ``-lrb-`` and so on.
    """
    tokens = _TOKEN.findall(caption.replace("’", "'"))
    # A word is kept once, however many n-grams hold it.
    return [sys.intern(_BRACKETS.get(token, token.lower())) for token in tokens]


def score_captions(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1..4, ROUGE-L and CIDEr of N candidates, given as plain text, in percent.

    ``references[i]`` are the captions people gave photograph i. An empty candidate scores 0.
    Raises ``ValueError`` where lengths differ, there are no candidates, or a photograph has no reference.
    """
    check_captions(candidates, references)
    tfidf, bleu_counts, rouge, cider = _TfIdf(map(_all_tokens, references)), _BleuCounts(), 0.0, 0.0
    for candidate, captions in zip(map(ptb_tokenize, candidates), map(_all_tokens, references), strict=True):
        bleu_counts.add(candidate, captions)
        rouge += _rouge_l(candidate, captions)
        cider += _cider_d(tfidf.vector(candidate), [tfidf.vector(caption) for caption in captions])
    scores = {f"BLEU-{order}": score for order, score in zip(_ORDERS, bleu_counts.scores(), strict=True)}
    return scores | {"ROUGE-L": rouge / len(candidates), "CIDEr": cider / len(candidates)}


def describe_captions(captions: Sequence[str], training: Iterable[str] | None = None) -> dict[str, float]:
    """How varied N captions are: the number of different words in ``vocabulary`` and the mean words in ``length``.

    Where there are ``training`` captions, ``novel`` is the percentage of captions that say none of them, word by word.
    """
    known = None if training is None else {tuple(ptb_tokenize(caption)) for caption in training}
    vocabulary: set[str] = set()
    length = novel = 0
    for words in map(ptb_tokenize, captions):
        vocabulary.update(words)
        length += len(words)
        novel += known is not None and tuple(words) not in known
    found = {"vocabulary": len(vocabulary), "length": length / len(captions)}
    return found if known is None else found | {"novel": 100 * novel / len(captions)}


def _all_tokens(captions: Sequence[str]) -> list[list[str]]:
    return [ptb_tokenize(caption) for caption in captions]


def _ngrams(caption: Caption, order: int) -> Iterator[tuple[str, ...]]:
    return zip(*(caption[start:] for start in range(order)), strict=False)


@dataclass(frozen=True, slots=True)
class _Vector:
    """Tf-idf weights of a caption, by n-gram id for every order, with their Euclidean norms."""

    weights: tuple[dict[int, float], ...]
    norms: tuple[float, ...]
    length: int


class _TfIdf:
    """Weights of n-grams by how few of N photographs have them; ``references`` are those photographs' captions."""

    def __init__(self, references: Iterable[Sequence[Caption]]):
        self._ids: dict[tuple[str, ...], int] = {}
        photographs, counts = 0, array("l")
        for captions in references:
            photographs += 1
            for gram in {gram for caption in captions for order in _ORDERS for gram in _ngrams(caption, order)}:
                index = self._ids.setdefault(gram, len(self._ids))
                if index == len(counts):
                    counts.append(0)
                counts[index] += 1
        self._unseen = math.log(photographs)
        self._rarities = array("d", (self._unseen - math.log(count) for count in counts))

    def vector(self, caption: Caption) -> _Vector:
        """The tf-idf weights of a caption."""
        weights, norms = [], []
        for order in _ORDERS:
            known, squares = {}, 0.0
            for gram, count in Counter(_ngrams(caption, order)).items():
                index = self._ids.get(gram)
                weight = count * (self._unseen if index is None else self._rarities[index])
                squares += weight * weight
                if index is not None:
                    known[index] = weight
            weights.append(known)
            norms.append(math.sqrt(squares))
        # The reference implementation counts bigrams where the paper has words.
        return _Vector(tuple(weights), tuple(norms), length=max(len(caption) - 1, 0))


class CiderD:
    """CIDEr-D (Vedantam, Zitnick and Parikh, CVPR 2015): tf-idf cosine similarity of n-grams, n = 1..4, sigma = 6.

    ``references`` are the tokenised captions of N photographs; the document frequencies are counted on them, so one
    photograph alone scores 0. Reference vectors are kept: ``score`` is fast enough to be a training reward.

    Raises ``ValueError`` where there is no photograph or one has no reference.
    """

    def __init__(self, references: Sequence[Sequence[Caption]]):
        _check_references(references)
        self._tfidf = _TfIdf(references)
        self._references = [[self._tfidf.vector(caption) for caption in captions] for captions in references]

    def score(self, candidates: Sequence[Caption], photographs: Sequence[int] | None = None) -> np.ndarray:
        """Scores (M,) of M tokenised candidates, in percent; a perfect match can reach 1000.

        ``photographs[i]`` is the photograph whose references judge candidate i; by default it is i itself.
        Raises ``ValueError`` where the lengths do not agree.
        """
        if photographs is None:
            photographs = range(len(self._references))
        if len(candidates) != len(photographs):
            raise ValueError(f"There are {len(candidates)} candidates for {len(photographs)} photographs.")
        pairs = zip(candidates, photographs, strict=True)
        return np.array([_cider_d(self._tfidf.vector(said), self._references[index]) for said, index in pairs])


_SIGMA = 6.0


def _cider_d(candidate: _Vector, references: Sequence[_Vector]) -> float:
    """CIDEr-D of one caption, in percent: the reference implementation's factor of 10 makes it 1000 at most."""
    return 1000 * sum(_similarity(candidate, reference) for reference in references) / len(references)


def _similarity(candidate: _Vector, reference: _Vector) -> float:
    total = 0.0
    for ours, theirs, our_norm, their_norm in zip(
        candidate.weights, reference.weights, candidate.norms, reference.norms, strict=True
    ):
        if our_norm and their_norm:
            common = ours.keys() & theirs.keys()
            total += sum(min(ours[gram], theirs[gram]) * theirs[gram] for gram in common) / (our_norm * their_norm)
    difference = candidate.length - reference.length
    return total / len(_ORDERS) * math.exp(-(difference**2) / (2 * _SIGMA**2))


def bleu(candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> tuple[float, float, float, float]:
    """BLEU-1..4 of a corpus (Papineni et al., ACL 2002) in percent, with the closest reference length.

    Raises ``ValueError`` where lengths differ, there are no candidates, or a photograph has no reference.
    """
    check_captions(candidates, references)
    counts = _BleuCounts()
    for candidate, captions in zip(candidates, references, strict=True):
        counts.add(candidate, captions)
    return counts.scores()


class _BleuCounts:
    """What BLEU counts in a corpus, candidate by candidate."""

    def __init__(self):
        self._matched, self._guessed = [0] * len(_ORDERS), [0] * len(_ORDERS)
        self._candidate_length = self._reference_length = 0

    def add(self, candidate: Caption, references: Sequence[Caption]) -> None:
        """Count one candidate."""
        self._candidate_length += len(candidate)
        self._reference_length += min((abs(len(caption) - len(candidate)), len(caption)) for caption in references)[1]
        for index, order in enumerate(_ORDERS):
            allowed: Counter[tuple[str, ...]] = Counter()
            for caption in references:
                allowed |= Counter(_ngrams(caption, order))
            grams = Counter(_ngrams(candidate, order))
            self._matched[index] += (grams & allowed).total()
            self._guessed[index] += grams.total()

    def scores(self) -> tuple[float, float, float, float]:
        """BLEU-1..4 of all candidates so far, in percent."""
        # The reference implementation's constants: nothing is divided by zero, and no match is (almost) no score.
        small, tiny = 1e-9, 1e-15
        ratio = (self._candidate_length + tiny) / (self._reference_length + small)
        brevity = math.exp(min(0.0, 1 - 1 / ratio))
        product, scores = 1.0, []
        for order, right, all_ in zip(_ORDERS, self._matched, self._guessed, strict=True):
            product *= (right + tiny) / (all_ + small)
            scores.append(100 * brevity * product ** (1 / order))
        return tuple(scores)


def rouge_l(candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> float:
    """Mean ROUGE-L (Lin, 2004; beta 1.2) in percent.

    As in the reference implementation, a candidate's precision and its recall may come from different references.
    Raises ``ValueError`` where lengths differ, there are no candidates, or a photograph has no reference.
    """
    check_captions(candidates, references)
    return sum(map(_rouge_l, candidates, references)) / len(candidates)


def _rouge_l(candidate: Caption, references: Sequence[Caption]) -> float:
    """ROUGE-L of one caption, in percent."""
    common = [_common_subsequence(candidate, caption) for caption in references]
    if not any(common):
        return 0.0
    weight = 1.2**2
    precision = max(common) / len(candidate)
    recall = max(length / max(len(caption), 1) for length, caption in zip(common, references, strict=True))
    return 100 * (1 + weight) * precision * recall / (recall + weight * precision)


def _common_subsequence(first: Caption, second: Caption) -> int:
    """Length of the longest common subsequence, a whole row of the table at a time (Hyyrö, AWOCA 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    everything = (1 << len(first)) - 1
    row = everything  # a bit falls to zero where the length grows by one
    for word in second:
        matches = row & places.get(word, 0)
        row = (row + matches) | (row - matches)
    return len(first) - (row & everything).bit_count()


def check_captions(candidates: Sequence[object], references: Sequence[Sequence[object]]) -> None:
    """Raise ``ValueError`` where lengths differ, there are no candidates, or a photograph has no reference."""
    if len(candidates) != len(references):
        raise ValueError(f"There are {len(candidates)} candidates for the references of {len(references)} photographs.")
    if not candidates:
        raise ValueError("There are no candidates to score.")
    _check_references(references)


def _check_references(references: Sequence[Sequence[object]]) -> None:
    if not references:
        raise ValueError("There are no photographs with references.")
    for index, captions in enumerate(references):
        if not captions:
            raise ValueError(f"Photograph {index} has no reference caption.")

"""Caption metrics on the percent scale: BLEU-1..4, ROUGE-L and CIDEr-D, equal to those of ``pycocoevalcap``.

Captions are compared as lists of tokens; ``ptb_tokenize`` makes them the way the COCO evaluation does. Nothing here
needs Java.
"""

from __future__ import annotations

import math
import re
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
    return [_BRACKETS.get(token, token.lower()) for token in tokens]


def score_captions(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """BLEU-1..4, ROUGE-L and CIDEr of N candidates, given as plain text, in percent.

    ``references[i]`` are the captions people gave photograph i. An empty candidate scores 0.
    Raises ``ValueError`` where lengths differ, there are no candidates, or a photograph has no reference.
    """
    check_captions(candidates, references)
    words = [ptb_tokenize(candidate) for candidate in candidates]
    reference_words = [[ptb_tokenize(caption) for caption in captions] for captions in references]
    scores = {f"BLEU-{order}": score for order, score in zip(_ORDERS, bleu(words, reference_words), strict=True)}
    scores["ROUGE-L"] = rouge_l(words, reference_words)
    scores["CIDEr"] = float(CiderD(reference_words).score(words).mean())
    return scores


def describe_captions(captions: Sequence[str], training: Iterable[str] | None = None) -> dict[str, float]:
    """How varied N captions are: the number of different words in ``vocabulary`` and the mean words in ``length``.

    Where there are ``training`` captions, ``novel`` is the percentage of captions that say none of them, word by word.
    """
    words = [tuple(ptb_tokenize(caption)) for caption in captions]
    found = {"vocabulary": len(set().union(*words)), "length": sum(map(len, words)) / len(words)}
    if training is not None:
        known = {tuple(ptb_tokenize(caption)) for caption in training}
        found["novel"] = 100 * sum(caption not in known for caption in words) / len(words)
    return found


def _ngrams(caption: Caption, order: int) -> Iterator[tuple[str, ...]]:
    return zip(*(caption[start:] for start in range(order)), strict=False)


@dataclass(frozen=True, slots=True)
class _Vector:
    """Tf-idf weights of a caption, by n-gram id for every order, with their Euclidean norms."""

    weights: tuple[dict[int, float], ...]
    norms: tuple[float, ...]
    length: int


class CiderD:
    """CIDEr-D (Vedantam, Zitnick and Parikh, CVPR 2015): tf-idf cosine similarity of n-grams, n = 1..4, sigma = 6.

    ``references`` are the tokenised captions of N photographs; the document frequencies are counted on them, so one
    photograph alone scores 0. Reference vectors are kept: ``score`` is fast enough to be a training reward.

    Raises ``ValueError`` where there is no photograph or one has no reference.
    """

    _SIGMA = 6.0

    def __init__(self, references: Sequence[Sequence[Caption]]):
        _check_references(references)
        frequencies: Counter[tuple[str, ...]] = Counter()
        for captions in references:
            frequencies.update({gram for caption in captions for order in _ORDERS for gram in _ngrams(caption, order)})
        self._unseen = math.log(len(references))
        self._known = {
            gram: (index, self._unseen - math.log(count)) for index, (gram, count) in enumerate(frequencies.items())
        }
        self._references = [[self._vector(caption) for caption in captions] for captions in references]

    def score(self, candidates: Sequence[Caption], photographs: Sequence[int] | None = None) -> np.ndarray:
        """Scores (M,) of M tokenised candidates, in percent; a perfect match can reach 1000.

        ``photographs[i]`` is the photograph whose references judge candidate i; by default it is i itself.
        Raises ``ValueError`` where the lengths do not agree.
        """
        if photographs is None:
            photographs = range(len(self._references))
        if len(candidates) != len(photographs):
            raise ValueError(f"There are {len(candidates)} candidates for {len(photographs)} photographs.")
        scores = np.zeros(len(candidates))
        for index, (candidate, photograph) in enumerate(zip(candidates, photographs, strict=True)):
            vector = self._vector(candidate)
            references = self._references[photograph]
            similarity = sum(self._similarity(vector, reference) for reference in references) / len(references)
            scores[index] = 1000 * similarity  # the reference implementation's factor of 10, in percent
        return scores

    def _vector(self, caption: Caption) -> _Vector:
        weights, norms = [], []
        for order in _ORDERS:
            known, squares = {}, 0.0
            for gram, count in Counter(_ngrams(caption, order)).items():
                index, rarity = self._known.get(gram, (None, self._unseen))
                weight = count * rarity
                squares += weight * weight
                if index is not None:
                    known[index] = weight
            weights.append(known)
            norms.append(math.sqrt(squares))
        # The reference implementation counts bigrams where the paper has words.
        return _Vector(tuple(weights), tuple(norms), length=max(len(caption) - 1, 0))

    def _similarity(self, candidate: _Vector, reference: _Vector) -> float:
        total = 0.0
        for ours, theirs, our_norm, their_norm in zip(
            candidate.weights, reference.weights, candidate.norms, reference.norms, strict=True
        ):
            if our_norm and their_norm:
                common = ours.keys() & theirs.keys()
                total += sum(min(ours[gram], theirs[gram]) * theirs[gram] for gram in common) / (our_norm * their_norm)
        difference = candidate.length - reference.length
        return total / len(_ORDERS) * math.exp(-(difference**2) / (2 * self._SIGMA**2))


def bleu(candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> tuple[float, float, float, float]:
    """BLEU-1..4 of a corpus (Papineni et al., ACL 2002) in percent, with the closest reference length.

    Raises ``ValueError`` where lengths differ, there are no candidates, or a photograph has no reference.
    """
    check_captions(candidates, references)
    matched, guessed = [0] * len(_ORDERS), [0] * len(_ORDERS)
    candidate_length = reference_length = 0
    for candidate, captions in zip(candidates, references, strict=True):
        candidate_length += len(candidate)
        reference_length += min((abs(len(caption) - len(candidate)), len(caption)) for caption in captions)[1]
        for index, order in enumerate(_ORDERS):
            allowed: Counter[tuple[str, ...]] = Counter()
            for caption in captions:
                allowed |= Counter(_ngrams(caption, order))
            grams = Counter(_ngrams(candidate, order))
            matched[index] += (grams & allowed).total()
            guessed[index] += grams.total()
    # The reference implementation's constants: nothing is divided by zero, and no match is (almost) no score.
    small, tiny = 1e-9, 1e-15
    ratio = (candidate_length + tiny) / (reference_length + small)
    brevity = math.exp(min(0.0, 1 - 1 / ratio))
    product, scores = 1.0, []
    for order, right, all_ in zip(_ORDERS, matched, guessed, strict=True):
        product *= (right + tiny) / (all_ + small)
        scores.append(100 * brevity * product ** (1 / order))
    return tuple(scores)


def rouge_l(candidates: Sequence[Caption], references: Sequence[Sequence[Caption]]) -> float:
    """Mean ROUGE-L (Lin, 2004; beta 1.2) in percent.

    As in the reference implementation, a candidate's precision and its recall may come from different references.
    Raises ``ValueError`` where lengths differ, there are no candidates, or a photograph has no reference.
    """
    check_captions(candidates, references)
    weight = 1.2**2
    total = 0.0
    for candidate, captions in zip(candidates, references, strict=True):
        common = [_common_subsequence(candidate, caption) for caption in captions]
        if any(common):
            precision = max(common) / len(candidate)
            recall = max(length / max(len(caption), 1) for length, caption in zip(common, captions, strict=True))
            total += (1 + weight) * precision * recall / (recall + weight * precision)
    return 100 * total / len(candidates)


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

"""Words that name something seen in a photograph: in people's captions, in the model's own, and by COCO's objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from captioner.boxes import Box
from captioner.entities import GroundedCaption, Phrase
from captioner.object_words import mentions
from captioner.word_classes import is_content


@dataclass(frozen=True)
class NamedWord:
    """A word of a caption, and where in the photograph the thing is that it names."""

    text: str
    caption: int  # which of the photograph's captions
    position: int
    boxes: tuple[Box, ...]
    types: tuple[str, ...] = ()  # of its phrase, such as "people"
    generated: bool = False  # in the model's own caption

    def is_apart_from(self, other: NamedWord) -> bool:
        """Whether the two name different things: no box belongs to both."""
        return not set(self.boxes) & set(other.boxes)


def named_words(captions: Sequence[GroundedCaption]) -> list[NamedWord]:
    """The last word of every phrase that has boxes: the noun, in English."""
    return [
        NamedWord(caption.words[phrase.last], number, phrase.last, phrase.boxes, phrase.types)
        for number, caption in enumerate(captions)
        for phrase in caption.phrases
        if phrase.boxes
    ]


def generated_words(words: Sequence[str], named: Sequence[NamedWord], *, caption: int) -> list[NamedWord]:
    """The words of a generated caption that people used too, each with all the boxes that people meant by it.

    ``caption`` is the number it has among the captions. Function words are left out: the "top" that someone wears is
    not that of "on top of".
    """
    found = []
    for position, text in enumerate(words):
        boxes = dict.fromkeys(box for word in named if word.text == text for box in word.boxes)
        if boxes and is_content(text):
            found.append(NamedWord(text, caption, position, tuple(boxes), generated=True))
    return found


def coco_grounded(
    captions: Sequence[Sequence[str]], instances: Mapping[str, Sequence[Box]]
) -> tuple[GroundedCaption, ...]:
    """Captions grounded by the objects annotated in their photograph: words that name a category get its boxes.

    ``instances``: boxes by category, in fractions. A word gets all of them ("a man" those of every person), which is
    looser than phrases that people tied to boxes. The type of a phrase is its category.
    """
    return tuple(
        GroundedCaption(
            tuple(words),
            tuple(
                Phrase(mention.first, mention.last, (category,), tuple(map(tuple, instances[category])))
                for mention in mentions(words)
                for category in mention.names[:1]
                if instances.get(category)
            ),
        )
        for words in captions
    )

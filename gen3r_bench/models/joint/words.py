"""A tokenizer for captions of few words: what a small text encoder that is trained from nothing can use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from gen3r_bench.errors import InputError

UNUSED: Final = 0
"""An id that no text has, so that ids can be padded with it."""
UNKNOWN: Final = 1
END: Final = 2
FIRST_WORD: Final = 3
_WORD: Final = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The runs of letters and digits of a text, lower-cased, in their order."""
    return _WORD.findall(text.lower())


def vocabulary_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Every word of the texts once, sorted."""
    return tuple(sorted({word for text in texts for word in words_of(text)}))


class WordTokenizer:
    """Text to [n] ids: 1 for a word that is not in the vocabulary, 3 and on for those that are, 2 at the end.

    Args:
        vocabulary: words, in the order of their ids.

    Raises:
        InputError: where a word stands there twice, or is not one of a text's as ``words_of`` finds them.
    """

    def __init__(self, vocabulary: Sequence[str]) -> None:
        foreign = [word for word in vocabulary if words_of(word) != [word]]
        if foreign:
            raise InputError(f"{foreign[0]!r} in the vocabulary", expected="lower-case words of letters and digits")
        self._ids = {word: FIRST_WORD + place for place, word in enumerate(vocabulary)}
        if len(self._ids) < len(vocabulary):
            raise InputError(f"{len(vocabulary)} words, {len(self._ids)} different ones", expected="each word once")

    @property
    def size(self) -> int:
        """How many ids there are, the unused one included: what the text encoder's ``vocab`` must be."""
        return FIRST_WORD + len(self._ids)

    def __call__(self, text: str, max_tokens: int) -> list[int]:
        """Ids of a text, cut so that ``max_tokens`` hold them and the end."""
        ids = [self._ids.get(word, UNKNOWN) for word in words_of(text)]
        return [*ids[: max_tokens - 1], END]

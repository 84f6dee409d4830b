from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gen3r_bench.errors import InputError
from gen3r_bench.models.joint.words import END, FIRST_WORD, UNKNOWN, WordTokenizer, vocabulary_of, words_of


def test_words_are_runs_of_letters_and_digits() -> None:
    assert words_of("A 2nd room, white-walled; l'été_2.") == ["a", "2nd", "room", "white", "walled", "l", "été", "2"]
    assert vocabulary_of(["A red room", "a Room.", ""]) == ("a", "red", "room")


def test_ids_are_the_vocabularys_order_and_the_end() -> None:
    tokenizer = WordTokenizer(("a", "red", "room"))
    assert tokenizer.size == 6
    assert tokenizer("A red sofa in a ROOM", 16) == [3, 4, 1, 1, 3, 5, 2]
    assert tokenizer("", 16) == [END]
    assert tokenizer("a red room", 3) == [3, 4, END]
    assert tokenizer("a red room", 1) == [END]


@given(st.lists(st.text(), max_size=4), st.text(), st.integers(1, 20))
def test_any_text_has_ids_that_the_encoder_knows(texts: list[str], text: str, most: int) -> None:
    vocabulary = vocabulary_of(texts)
    tokenizer = WordTokenizer(vocabulary)
    ids = tokenizer(text, most)
    assert len(ids) <= most
    assert ids[-1] == END
    assert END not in ids[:-1]
    assert all(UNKNOWN <= number < tokenizer.size for number in ids)
    for known in texts:
        words = [vocabulary[number - FIRST_WORD] for number in tokenizer(known, 10_000)[:-1]]
        assert words == words_of(known)


@pytest.mark.parametrize("vocabulary", [("Room",), ("a b",), ("",), ("a-b",), ("a", "b", "a")])
def test_a_vocabulary_that_no_text_has(vocabulary: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"vocabulary|different ones"):
        WordTokenizer(vocabulary)

"""Where paths end, and which part of them is kept."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.inference.backend import Sampling
from engine.inference.stopping import Ending, StopChecker
from store.enums import AnswerType, EndReason

TOKEN_BYTES = [
    b"",
    b"a",
    b"\n",
    b"Q",
    b":",
    b"\nQ",
    b"\xc3",
    b"\xa9",
    b" Q: x",
    b"aa",
    b"",
    b"aQ:\n",
]
END, WITHOUT_TEXT = 0, 10


def stop_checker(*stop: str, limit: int = 100) -> StopChecker:
    return StopChecker(TOKEN_BYTES, {END}, Sampling(1, limit, stop=stop))


def first_ending(checker: StopChecker, token_ids: list[int]) -> Ending | None:
    """Check a path token by token as a backend does: only candidates are checked."""
    for length in range(1, len(token_ids) + 1):
        newest = np.array([token_ids[length - 1]])
        if len(checker.candidates(newest, np.array([length]))):
            ending = checker.check(token_ids[:length])
            if ending:
                return ending
    return None


def test_an_end_token_is_kept_but_has_no_text() -> None:
    assert first_ending(stop_checker(), [1, 2, END]) == Ending(EndReason.END, (1, 2, END), "a\n")


def test_a_path_can_end_at_once() -> None:
    assert first_ending(stop_checker(), [END]) == Ending(EndReason.END, (END,), "")


def test_a_stop_string_may_span_tokens() -> None:
    ending = first_ending(stop_checker("\nQ:"), [1, 2, 3, 4, 1])
    assert ending == Ending(EndReason.STOP, (1,), "a")


def test_a_token_that_begins_before_the_stop_string_is_kept_whole() -> None:
    ending = first_ending(stop_checker("Q:"), [1, 11])
    assert ending == Ending(EndReason.STOP, (1, 11), "aa")


def test_a_stop_string_may_begin_and_end_inside_one_token() -> None:
    assert first_ending(stop_checker("Q:"), [9, 8]) == Ending(EndReason.STOP, (9, 8), "aa ")


def test_the_earliest_of_several_stop_strings_ends_the_path() -> None:
    assert first_ending(stop_checker("x", "Q:", ": "), [1, 8]) == Ending(
        EndReason.STOP, (1, 8), "a "
    )


def test_a_token_without_text_at_the_stop_string_is_removed() -> None:
    assert first_ending(stop_checker("\n"), [1, WITHOUT_TEXT, 2]) == Ending(
        EndReason.STOP, (1,), "a"
    )


def test_a_stop_string_may_span_half_characters() -> None:
    assert first_ending(stop_checker("é"), [1, 6, 7]) == Ending(EndReason.STOP, (1,), "a")


def test_a_stop_string_can_be_the_whole_path() -> None:
    assert first_ending(stop_checker("a"), [1]) == Ending(EndReason.STOP, (), "")


def test_the_limit_counts_the_end_token() -> None:
    assert first_ending(stop_checker(limit=2), [1, END, 1]) == Ending(EndReason.END, (1, END), "a")
    assert first_ending(stop_checker(limit=2), [1, 1, END]) == Ending(
        EndReason.LENGTH, (1, 1), "aa"
    )


def test_a_stop_string_at_the_limit_is_a_stop() -> None:
    assert first_ending(stop_checker("\n", limit=2), [1, 2]) == Ending(EndReason.STOP, (1,), "a")


def test_only_incomplete_characters_at_the_end_are_replaced() -> None:
    assert first_ending(stop_checker(), [6, 7, 6, END]) == Ending(
        EndReason.END, (6, 7, 6, END), "é\ufffd"
    )


def test_an_empty_stop_string_stops_nothing() -> None:
    assert first_ending(stop_checker(""), [1, 2]) is None


@given(
    st.lists(st.integers(1, len(TOKEN_BYTES) - 1), min_size=1, max_size=12),
    st.lists(st.sampled_from(["\nQ:", "Q", "aa", "é", ": x", "a\n"]), max_size=3),
)
def test_incremental_matching_equals_matching_in_the_whole_text(
    token_ids: list[int], stop: list[str]
) -> None:
    ending = first_ending(stop_checker(*stop), token_ids)
    whole = b""
    for length, token in enumerate(token_ids, 1):
        whole += TOKEN_BYTES[token]
        matches = [at for string in stop if (at := whole.find(string.encode())) >= 0]
        if matches:
            starts = np.cumsum([0, *(len(TOKEN_BYTES[token]) for token in token_ids[: length - 1])])
            kept = tuple(token_ids[: int((starts < min(matches)).sum())])
            assert ending == Ending(
                EndReason.STOP, kept, whole[: min(matches)].decode(errors="replace")
            )
            return
    assert ending is None


@pytest.mark.parametrize("rows", [1, 3])
def test_only_rows_that_may_have_ended_are_candidates(rows: int) -> None:
    newest, lengths = np.array([9, 4, 1, 0][:rows]), np.array([5, 5, 100, 5][:rows])
    assert stop_checker("Q:").candidates(newest, lengths).tolist() == [1, 2][: rows - 1]


def test_a_path_ends_after_its_answer_if_asked_to() -> None:
    pieces = [b"", b" The", b" answer", b" is", b" 5", b".", b"\n\nQ", b" then"]
    path = [1, 2, 3, 4, 5, 1, 2, 3, 4, 5, 1, 2]
    goes_on = StopChecker(pieces, {END}, Sampling(1, 100))
    assert first_ending(goes_on, path) is None
    ends = StopChecker(pieces, {END}, Sampling(1, 100, answer_type=AnswerType.NUMBER))
    once = Ending(EndReason.STOP, (1, 2, 3, 4, 5), " The answer is 5.")
    assert first_ending(ends, path) == once
    assert first_ending(ends, [1, 2, 3, 4, 5, 6, 7]) == once
    assert first_ending(ends, [1, 2, 3, 4, 5, 7, END]) == Ending(
        EndReason.END, (1, 2, 3, 4, 5, 7, END), " The answer is 5. then"
    )

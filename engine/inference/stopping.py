"""Decide where a path ends: at an end token, a stop string, after its answer, or at the token
limit.

Stop strings are matched on bytes: a token may hold half a character, and a stop string may begin in
one token and end in another. Most tokens cannot end a path, which one table look-up per step tells
for the whole batch; only the few others are checked individually.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from engine.inference.answer_sentence import end_of_answer, may_follow_answer
from store.enums import EndReason

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from engine.inference.backend import Sampling
    from store.enums import AnswerType


@dataclass(frozen=True, slots=True)
class Ending:
    """How a path ended, and the part of it that is kept."""

    reason: EndReason
    token_ids: tuple[int, ...]
    """With the end token when `END`; with `STOP`, all tokens that begin before the cut."""
    text: str
    """Without the end token, and cut before the stop string or after the answer; invalid UTF-8 is
    replaced."""


class StopChecker:
    """Finds the paths that have ended, for one model and its sampling parameters."""

    def __init__(
        self, token_bytes: Sequence[bytes], end_tokens: Collection[int], sampling: Sampling
    ) -> None:
        """Args:
        token_bytes: the bytes of each token id; empty for tokens without text.
        end_tokens: ids of the tokens that end a generation.
        sampling: the stop strings, the token limit, and whether a path ends after its answer.
        """
        self._token_bytes = token_bytes
        self._end_tokens = frozenset(end_tokens)
        self._limit = sampling.max_tokens
        self._stops = tuple(stop.encode() for stop in sampling.stop if stop)
        self._answer_type = sampling.answer_type
        self._longest_stop = max(map(len, self._stops), default=0)
        last_bytes = {stop[-1] for stop in self._stops}
        self._may_end = np.array(
            [
                token in self._end_tokens
                or not last_bytes.isdisjoint(piece)
                or (self._answer_type is not None and may_follow_answer(piece))
                for token, piece in enumerate(token_bytes)
            ],
            dtype=bool,
        )

    def candidates(
        self, newest: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Rows that may have ended with their newest token; all others go on.

        Args:
            newest: [n] the last token id of each path.
            lengths: [n] number of tokens of each path, the newest included.
        """
        return np.flatnonzero(self._may_end[newest] | (lengths >= self._limit))

    def check(self, token_ids: Sequence[int]) -> Ending | None:
        """How a path has ended with its last token, or None when it goes on.

        Only a stop string completed by the last token is searched for, so each earlier token must
        have been checked before (or not have been a candidate). The earliest match counts.
        """
        newest = token_ids[-1]
        if newest in self._end_tokens:
            return Ending(EndReason.END, tuple(token_ids), self._text(token_ids[:-1]))
        if self._stops and self._may_end[newest]:
            ending = self._stop_string(token_ids)
            if ending is not None:
                return ending
        if self._answer_type is not None and may_follow_answer(self._token_bytes[newest]):
            ending = self._after_answer(self._answer_type, token_ids)
            if ending is not None:
                return ending
        if len(token_ids) >= self._limit:
            return Ending(EndReason.LENGTH, tuple(token_ids), self._text(token_ids))
        return None

    def _stop_string(self, token_ids: Sequence[int]) -> Ending | None:
        """The path cut before the first stop string that its last token completes."""
        start, tail = len(token_ids) - 1, self._token_bytes[token_ids[-1]]
        needed = len(tail) + self._longest_stop - 1
        # A token without text may be where the stop string begins: include it, too.
        while start > 0 and (len(tail) < needed or not self._token_bytes[token_ids[start - 1]]):
            start -= 1
            tail = self._token_bytes[token_ids[start]] + tail
        matches = [at for stop in self._stops if (at := tail.find(stop)) >= 0]
        if not matches:
            return None
        before = self._bytes(token_ids[:start])
        return self._cut(token_ids, before + tail, len(before) + min(matches))

    def _after_answer(self, answer_type: AnswerType, token_ids: Sequence[int]) -> Ending | None:
        """The path cut after its answer, if its last token shows that nothing else follows."""
        path = self._bytes(token_ids)
        cut = end_of_answer(answer_type, path)
        return None if cut is None else self._cut(token_ids, path, cut)

    def _cut(self, token_ids: Sequence[int], path: bytes, cut: int) -> Ending:
        """The path cut after this many bytes, with the tokens that begin before."""
        end, offset = 0, 0
        while offset < cut:
            offset += len(self._token_bytes[token_ids[end]])
            end += 1
        text = path[:cut].decode(errors="replace")
        return Ending(EndReason.STOP, tuple(token_ids[:end]), text)

    def _bytes(self, token_ids: Sequence[int]) -> bytes:
        return b"".join([self._token_bytes[token] for token in token_ids])

    def _text(self, token_ids: Sequence[int]) -> str:
        return self._bytes(token_ids).decode(errors="replace")

"""Decide where a path ends: at an end token, a stop string, or the token limit.

Stop strings are matched on bytes: a token may hold half a character, and a stop string may begin in
one token and end in another. Most tokens cannot end a path, which one table look-up per step tells
for the whole batch; only the few others are checked individually.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from store.enums import EndReason

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from engine.inference.backend import Sampling


@dataclass(frozen=True, slots=True)
class Ending:
    """How a path ended, and the part of it that is kept."""

    reason: EndReason
    token_ids: tuple[int, ...]
    """With the end token when `END`; with `STOP`, all tokens that begin before the stop string."""
    text: str
    """Without the end token, and cut before the stop string; invalid UTF-8 is replaced."""


class StopChecker:
    """Finds the paths that have ended, for one model and its sampling parameters."""

    def __init__(
        self, token_bytes: Sequence[bytes], end_tokens: Collection[int], sampling: Sampling
    ) -> None:
        """Args:
        token_bytes: the bytes of each token id; empty for tokens without text.
        end_tokens: ids of the tokens that end a generation.
        sampling: the stop strings and the token limit.
        """
        self._token_bytes = token_bytes
        self._end_tokens = frozenset(end_tokens)
        self._limit = sampling.max_tokens
        self._stops = tuple(stop.encode() for stop in sampling.stop if stop)
        self._longest_stop = max(map(len, self._stops), default=0)
        last_bytes = {stop[-1] for stop in self._stops}
        self._may_end = np.array(
            [
                token in self._end_tokens or not last_bytes.isdisjoint(piece)
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
        cut, end, offset = min(matches), start, 0
        while offset < cut:
            offset += len(self._token_bytes[token_ids[end]])
            end += 1
        before = self._bytes(token_ids[:start]) + tail[:cut]
        return Ending(EndReason.STOP, tuple(token_ids[:end]), before.decode(errors="replace"))

    def _bytes(self, token_ids: Sequence[int]) -> bytes:
        return b"".join([self._token_bytes[token] for token in token_ids])

    def _text(self, token_ids: Sequence[int]) -> str:
        return self._bytes(token_ids).decode(errors="replace")

"""Where a path ends: an end token, a stop string, or the token limit.

Stop strings are matched on bytes: a token may hold half a character, and a stop string may begin in
one token and end in another. Most tokens cannot end anything, and one table look-up per step of the
whole batch says so; only the few others are looked at one by one.
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
    """How a path ended, and what of it is kept."""

    reason: EndReason
    token_ids: tuple[int, ...]
    """With the end token when `END`; with `STOP`, all tokens that begin before the stop string."""
    text: str
    """Without the end token, and cut before the stop string; broken UTF-8 is replaced."""


class Endings:
    """Decides for one model and one way of sampling which paths have ended."""

    def __init__(self, pieces: Sequence[bytes], ends: Collection[int], sampling: Sampling) -> None:
        """Args:
        pieces: the bytes that each token id writes; empty for tokens that write nothing.
        ends: ids of the tokens that end a generation.
        sampling: its stop strings and token limit.
        """
        self._pieces = pieces
        self._ends = frozenset(ends)
        self._limit = sampling.max_tokens
        self._stops = tuple(stop.encode() for stop in sampling.stop if stop)
        self._reach = max(map(len, self._stops), default=0)
        last_bytes = {stop[-1] for stop in self._stops}
        self._suspicious = np.array(
            [
                token in self._ends or not last_bytes.isdisjoint(piece)
                for token, piece in enumerate(pieces)
            ],
            dtype=bool,
        )

    def suspects(self, newest: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows that may have ended with their newest token; all others go on.

        Args:
            newest: [n] the last token id of each path.
            lengths: [n] tokens of each path, the newest included.
        """
        return np.flatnonzero(self._suspicious[newest] | (lengths >= self._limit))

    def ending(self, token_ids: Sequence[int]) -> Ending | None:
        """How a path has ended with its last token, or None when it goes on.

        Earlier tokens must have been asked about before (or not be suspects): only a stop string
        that is completed by the last token is looked for. The earliest of several counts.
        """
        newest = token_ids[-1]
        if newest in self._ends:
            return Ending(EndReason.END, tuple(token_ids), self._text(token_ids[:-1]))
        if self._stops and self._suspicious[newest]:
            kept = self._before_stop(token_ids)
            if kept is not None:
                return kept
        if len(token_ids) >= self._limit:
            return Ending(EndReason.LENGTH, tuple(token_ids), self._text(token_ids))
        return None

    def _before_stop(self, token_ids: Sequence[int]) -> Ending | None:
        """The path cut before the first stop string that its last token completes."""
        start, tail = len(token_ids) - 1, self._pieces[token_ids[-1]]
        wanted = len(tail) + self._reach - 1
        # A silent token in front may begin where the stop string does: it must be looked at too.
        while start > 0 and (len(tail) < wanted or not self._pieces[token_ids[start - 1]]):
            start -= 1
            tail = self._pieces[token_ids[start]] + tail
        found = [place for stop in self._stops if (place := tail.find(stop)) >= 0]
        if not found:
            return None
        cut, end, offset = min(found), start, 0
        while offset < cut:
            offset += len(self._pieces[token_ids[end]])
            end += 1
        before = self._bytes(token_ids[:start]) + tail[:cut]
        return Ending(EndReason.STOP, tuple(token_ids[:end]), before.decode(errors="replace"))

    def _bytes(self, token_ids: Sequence[int]) -> bytes:
        return b"".join([self._pieces[token] for token in token_ids])

    def _text(self, token_ids: Sequence[int]) -> str:
        return self._bytes(token_ids).decode(errors="replace")

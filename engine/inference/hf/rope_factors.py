"""Models with two sets of rope factors: for short texts, and for those beyond a length (LongRoPE).

transformers chooses by the longest row of a batch, and for all of its tokens. So rows that need
different factors must not meet in a batch, and a row that grows beyond the length starts again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from engine.inference.backend import PathRequest, PathSource


def ropes(config: Any) -> list[dict[str, Any]]:
    """The rope parameters of a model's config, for each kind of its layers."""
    parameters = getattr(config, "rope_parameters", None) or {}
    nested = [value for value in parameters.values() if isinstance(value, dict)]
    return nested or [parameters]


def short_length(config: Any) -> int | None:
    """Most tokens for which a model uses its short factors; None if it has one set only."""
    lengths = [
        int(rope["original_max_position_embeddings"])
        for rope in ropes(config)
        if rope.get("rope_type") == "longrope"
    ]
    return min(lengths, default=None)


class ShortPaths:
    """A source without the paths that may outgrow a length; those wait."""

    def __init__(self, source: PathSource, longest_prompt: int, most_waiting: int) -> None:
        """Args:
        source: of all paths.
        longest_prompt: whose paths are short, in tokens.
        most_waiting: paths; when as many wait, none is started.
        """
        self._source = source
        self._longest_prompt, self._most_waiting = longest_prompt, most_waiting
        self._waiting: list[PathRequest] = []

    def next_path(self) -> PathRequest | None:
        """The next short path."""
        while len(self._waiting) < self._most_waiting:
            request = self._source.next_path()
            if request is None or len(request.prompt) <= self._longest_prompt:
                return request
            self._waiting.append(request)
        return None

    def is_settled(self, question: str) -> bool:
        """As of the whole source."""
        return self._source.is_settled(question)

    def take_waiting(self) -> WaitingPaths | None:
        """The paths that wait, as a source; None if there are none."""
        waiting, self._waiting = self._waiting, []
        return WaitingPaths(waiting, self._source) if waiting else None


class WaitingPaths:
    """A source of paths that were taken from another one."""

    def __init__(self, requests: Iterable[PathRequest], source: PathSource) -> None:
        self._requests, self._source = iter(requests), source

    def next_path(self) -> PathRequest | None:
        """The next one."""
        return next(self._requests, None)

    def is_settled(self, question: str) -> bool:
        """As of the other source."""
        return self._source.is_settled(question)

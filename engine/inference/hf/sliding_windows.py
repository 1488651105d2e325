"""The sliding windows of a model: short ones, so that a trial with few tokens shows errors."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def short_windows(model: Any, length: int) -> Iterator[None]:
    """Let every sliding window of a model be at most `length` tokens long.

    The mask of the model's own attention comes from its config, the window that a layer passes to
    another attention function often from an attribute of the layer: a trial shows if they differ.
    """
    windowed = [
        holder
        for holder in (model.config.get_text_config(), *model.modules())
        if isinstance(getattr(holder, "sliding_window", None), int)
    ]
    lengths = [holder.sliding_window for holder in windowed]
    try:
        for holder in windowed:
            holder.sliding_window = min(length, holder.sliding_window)
        yield
    finally:
        for holder, window in zip(windowed, lengths, strict=True):
            holder.sliding_window = window

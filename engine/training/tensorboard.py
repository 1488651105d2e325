"""Metrics of a training as TensorBoard event files, for people who have that open already.

tensorboard --logdir my-project/logs/tensorboard
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from engine.training.loop import Watcher

FLUSH_SECONDS = 5
"""How old what TensorBoard shows may be."""


class Events:
    """Hears of a training, tells it on, and writes its numbers at every step."""

    def __init__(self, folder: Path, heard: Watcher) -> None:
        """`folder` is of this training alone.

        Raises:
            BadInput: TensorBoard is not installed.
        """
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise BadInput(
                "finetune.tensorboard needs the package tensorboard: install it with "
                "`pip install 'lmsi-tui[tensorboard]'`, or set it to false."
            ) from None
        self._open: Any = SummaryWriter
        self._folder = folder
        self._writer: Any = None
        self._heard = heard

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """Go on after `done` steps: what an earlier process wrote beyond them is not shown."""
        self.close()
        self._writer = self._open(
            str(self._folder), purge_step=done + 1 if done else None, flush_secs=FLUSH_SECONDS
        )
        self._heard.begin(title, total, done)

    def advance(self, done: int, total: int) -> None:
        """A step is done."""
        self._heard.advance(done, total)

    def measure(self, step: int, values: Mapping[str, float], *, always: bool = False) -> None:
        """Numbers after a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._heard.measure(step, values, always=always)

    def look(self) -> None:
        """Raise when the person wants the training to stop."""
        self._heard.look()

    def close(self) -> None:
        """Write what is not written yet."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@contextmanager
def written(folder: Path | None, heard: Watcher) -> Iterator[Watcher]:
    """The watcher with event files in `folder`; the watcher itself when that is None."""
    if folder is None:
        yield heard
        return
    events = Events(folder, heard)
    try:
        yield events
    finally:
        events.close()

"""Metrics of a training as TensorBoard event files.

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
"""Seconds after which metrics are written to disk."""


class EventWriter:
    """Forwards the progress of a training to another watcher, and writes its metrics."""

    def __init__(self, folder: Path, watcher: Watcher) -> None:
        """`folder` holds the events of this training alone.

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
        self._watcher = watcher

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """Continue after `done` steps: later events of an earlier process are purged."""
        self.close()
        self._writer = self._open(
            str(self._folder), purge_step=done + 1 if done else None, flush_secs=FLUSH_SECONDS
        )
        self._watcher.begin(title, total, done)

    def advance(self, done: int, total: int) -> None:
        """A step is done."""
        self._watcher.advance(done, total)

    def measure(self, step: int, values: Mapping[str, float], *, always: bool = False) -> None:
        """Write the metrics of a step."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._watcher.measure(step, values, always=always)

    def look(self) -> None:
        """Raise if the training is to stop."""
        self._watcher.look()

    def close(self) -> None:
        """Flush the events."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@contextmanager
def event_files(folder: Path | None, watcher: Watcher) -> Iterator[Watcher]:
    """The watcher, extended to write event files to `folder`; unchanged if that is None."""
    if folder is None:
        yield watcher
        return
    writer = EventWriter(folder, watcher)
    try:
        yield writer
    finally:
        writer.close()

"""Messages from screens to the app: what the user wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from store.enums import JobKind, JobState, Study


@dataclass
class StageRequested(Message):
    """Run a stage: show its plan first, or start it at once with the last settings."""

    kind: JobKind
    at_once: bool = False
    study: Study | None = None
    """That the job runs; None is an ordinary job."""


@dataclass
class JobRequested(Message):
    """Start a job, after its plan was shown."""

    kind: JobKind
    params: dict[str, object]


@dataclass
class JobChangeRequested(Message):
    """Pause (`PAUSING`), continue (`QUEUED`) or cancel (`CANCELLING`) a job."""

    job_id: int
    state: JobState


@dataclass
class ScreenRequested(Message):
    """Go to another screen."""

    mode: str
    """A key of `MODES`."""


@dataclass
class CopyRequested(Message):
    """Copy a text to the clipboard (OSC 52), as stored but made printable."""

    text: str
    what: str
    """What the text is, for the confirmation, such as `the path`."""


@dataclass
class PagerRequested(Message):
    """Show a text in `$PAGER`, or in `$EDITOR` if no pager is set."""

    text: str

"""What screens say to the app: intents, named as what the person wants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from store.enums import JobKind, JobState


@dataclass
class StageAsked(Message):
    """The person wants a stage: its plan first, or at once with the settings last used."""

    kind: JobKind
    at_once: bool = False


@dataclass
class JobAsked(Message):
    """The person has seen the plan and wants the job."""

    kind: JobKind
    params: dict[str, object]


@dataclass
class JobWished(Message):
    """The person wants a job to pause (`PAUSING`), go on (`QUEUED`) or end (`CANCELLING`)."""

    job_id: int
    state: JobState


@dataclass
class PlaceAsked(Message):
    """The person wants to be on another screen."""

    mode: str
    """A key of `LmsiApp.MODES`."""


@dataclass
class TextCopied(Message):
    """The person wants a text in the clipboard (OSC 52), as it was stored but made printable."""

    text: str
    what: str
    """What it is, for the confirmation, such as `the path`."""


@dataclass
class TextOpened(Message):
    """The person wants to read a text in `$PAGER`, or in `$EDITOR` where there is no pager."""

    text: str

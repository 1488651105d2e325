"""The vote of one question on one line: key, bar, count and text of each answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from lmsi_tui.formatting.sanitize import snippet

if TYPE_CHECKING:
    from textual.events import Click

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_LONGEST_BAR = 24
"""Most columns of the bar of a unanimous vote."""
_ANSWER = 28
"""Most columns of an answer."""
_GAP = "   "


@dataclass(frozen=True, slots=True)
class Votes:
    """The content of a `VoteBar`."""

    answers: tuple[tuple[str, int], ...]
    """(answer, number of paths), most frequent first."""
    m: int
    """Paths of a full vote, at least 1."""
    abstained: tuple[tuple[str, int], ...] = ()
    """(reason, number of paths) of the paths without an answer."""
    not_sampled: int = 0
    """Paths that early stopping saved."""
    visible: tuple[int, ...] = ()
    """Indices of the answers whose paths are shown."""
    right: int | None = None
    """Index of the answer that was called right."""


class VoteBar(Widget):
    """The vote on one line; a click on an answer requests its paths."""

    DEFAULT_CSS = """
    VoteBar { height: 1; padding: 0 1; }
    """

    votes: reactive[Votes | None] = reactive(None)

    class AnswerClicked(Message):
        """An answer was clicked, to show its paths."""

        def __init__(self, place: int) -> None:
            """Args:
            place: index of the answer.
            """
            self.place = place
            super().__init__()

    def __init__(self, *, id: str | None = None) -> None:
        """Args:
        id: of the widget.
        """
        super().__init__(id=id)
        self._ends: list[tuple[int, int]] = []

    def render(self) -> Content:
        """As many answers as fit, then the number of the others."""
        self._ends = []
        votes = self.votes
        if votes is None:
            return Content("")
        width = self.content_size.width
        tail = _tail(votes)
        room = width - (tail.cell_length + len(_GAP) if tail else 0)
        line, shown = Content(""), 0
        longest = max(1, min(_LONGEST_BAR, width // 5))
        for place in range(len(votes.answers)):
            part = _answer(votes, place, longest)
            rest = len(votes.answers) - place - 1
            more = len(f"{_GAP}+{rest} more") if rest else 0
            if place and line.cell_length + len(_GAP) + part.cell_length + more > room:
                break
            if place:
                line = line.append(_GAP)
            line = line.append(part)
            self._ends.append((line.cell_length, place))
            shown += 1
        if rest := len(votes.answers) - shown:
            line = line.append(Content.styled(f"{_GAP}+{rest} more", "$text-muted"))
        if not votes.answers:
            line = Content.styled("no path has an answer", "$text-muted")
        if tail:
            line = line.append(_GAP).append(tail)
        return line.truncate(max(1, width), ellipsis=True)

    def on_click(self, event: Click) -> None:
        """Report the clicked answer."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        for end, place in self._ends:
            if offset.x < end:
                self.post_message(self.AnswerClicked(place))
                return


def _answer(votes: Votes, place: int, longest: int) -> Content:
    answer, count = votes.answers[place]
    is_visible, is_right = place in votes.visible, votes.right == place
    key = str(place + 1) if place < 9 else "·"
    color = "$success" if is_right else "$primary" if is_visible else "$text-muted"
    is_bold = is_visible or is_right
    text = Content(snippet(answer, _ANSWER) or "(empty)").stylize("bold" if is_bold else "")
    return Content.assemble(
        ("✓" if is_right else "", "bold $success"),
        (key, "bold $footer-key-foreground"),
        " ",
        (bar(count / votes.m, longest), color),
        f" {count} ",
        text,
    )


def _tail(votes: Votes) -> Content:
    parts = []
    if votes.abstained:
        total = sum(count for _, count in votes.abstained)
        reasons = ", ".join(f"{count} {reason}" for reason, count in votes.abstained)
        parts.append(f"∅ {total}: {reasons}" if len(votes.abstained) > 1 else f"∅ {reasons}")
    if votes.not_sampled:
        parts.append(f"… {votes.not_sampled} not sampled")
    return Content.styled(_GAP.join(parts), "$text-muted")


def bar(share: float, columns: int) -> str:
    """A bar in steps of an eighth of a column; at least one step if `share` is positive."""
    eighths = max(round(share * columns * 8), 1 if share > 0 else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()

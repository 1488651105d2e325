"""The answers of one question on one line: key, bar, paths, answer; and who gave none."""

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
"""Columns of the bar of all m paths, where there is room."""
_ANSWER = 28
"""Columns of one answer."""
_GAP = "   "


@dataclass(frozen=True, slots=True)
class Votes:
    """What the bar shows."""

    answers: tuple[tuple[str, int], ...]
    """(answer, paths), most first."""
    m: int
    """Paths of a full vote, ≥ 1."""
    abstained: tuple[tuple[str, int], ...] = ()
    """(reason, paths)."""
    missing: int = 0
    """Paths that were not drawn, because the vote was decided without them."""
    seen: tuple[int, ...] = ()
    """Places of the answers whose paths are in view."""
    right: int | None = None
    """Place of the answer that a person called right."""


class VoteBar(Widget):
    """One line about the vote; a click on an answer asks for its paths."""

    DEFAULT_CSS = """
    VoteBar { height: 1; padding: 0 1; }
    """

    votes: reactive[Votes | None] = reactive(None)

    class AnswerAsked(Message):
        """The person wants to see the paths of an answer."""

        def __init__(self, place: int) -> None:
            """Args:
            place: of the answer, from 0.
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
        """As many answers as fit, then how many more there are."""
        self._ends = []
        votes = self.votes
        if votes is None:
            return Content("")
        width = self.content_size.width
        tail = _tail(votes)
        room = width - (tail.cell_length + len(_GAP) if tail else 0)
        line, drawn = Content(""), 0
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
            drawn += 1
        if rest := len(votes.answers) - drawn:
            line = line.append(Content.styled(f"{_GAP}+{rest} more", "$text-muted"))
        if not votes.answers:
            line = Content.styled("no answer in any path", "$text-muted")
        if tail:
            line = line.append(_GAP).append(tail)
        return line.truncate(max(1, width), ellipsis=True)

    def on_click(self, event: Click) -> None:
        """Ask for the answer that was clicked."""
        offset = event.get_content_offset(self)
        if offset is None:
            return
        for end, place in self._ends:
            if offset.x < end:
                self.post_message(self.AnswerAsked(place))
                return


def _answer(votes: Votes, place: int, longest: int) -> Content:
    answer, count = votes.answers[place]
    seen, right = place in votes.seen, votes.right == place
    key = str(place + 1) if place < 9 else "·"
    colour = "$success" if right else "$primary" if seen else "$text-muted"
    said = Content(snippet(answer, _ANSWER) or "(empty)").stylize("bold" if seen or right else "")
    return Content.assemble(
        ("✓" if right else "", "bold $success"),
        (key, "bold $footer-key-foreground"),
        " ",
        (bar(count / votes.m, longest), colour),
        f" {count} ",
        said,
    )


def _tail(votes: Votes) -> Content:
    parts = []
    if votes.abstained:
        total = sum(count for _, count in votes.abstained)
        reasons = ", ".join(f"{count} {reason}" for reason, count in votes.abstained)
        parts.append(f"∅ {total}: {reasons}" if len(votes.abstained) > 1 else f"∅ {reasons}")
    if votes.missing:
        parts.append(f"… {votes.missing} not drawn")
    return Content.styled(_GAP.join(parts), "$text-muted")


def bar(share: float, columns: int) -> str:
    """A bar in eighths of a column, at least one of them for anything above nothing."""
    eighths = max(round(share * columns * 8), 1 if share > 0 else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()

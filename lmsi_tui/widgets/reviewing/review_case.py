"""A question under review: its text, the vote, and the paths of two answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.containers import Container, Vertical, VerticalScroll
from textual.reactive import reactive
from textual.widgets import Static

from engine.review.question import Group
from engine.review.step_diff import first_difference, split_steps
from lmsi_tui.formatting.sanitize import content, snippet
from lmsi_tui.reviewing.text import (
    ABSTAINED,
    answer_text,
    audit_instructions,
    audit_summary_text,
    judgment_content,
    question_content,
    vote_state,
)
from lmsi_tui.widgets.charts.vote_bar import VoteBar, Votes
from lmsi_tui.widgets.reviewing.path_group import PathGroup, PathShown

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.content import Content

    from engine.review.question import OpenQuestion
    from lmsi_tui.reviewing.session import ReviewSession
    from store.records import ReasoningPath

SIDES = ("left", "right")


@dataclass(frozen=True, slots=True)
class CaseContent:
    """The content of a `ReviewCase`."""

    opened: OpenQuestion
    status: Content
    """The decision or the state of the vote, or how to decide."""
    blind: bool = False
    """Whether to show only the question and its options: no vote, no path, no answer."""
    numbered: bool = False
    """Whether options show the keys that pick them."""
    right: int | None = None
    """Index of the answer that was called right."""
    audit: Content | None = None
    """Summary of the audits; None in triage."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """The groups of paths by answer, last those without an answer."""
        without = self.opened.without
        rest = (Group("no answer", len(without), without),) if without else ()
        return (*self.opened.groups, *rest)


class ReviewCase(Vertical):
    """The question above, its two leading answers below, side by side if the width allows."""

    DEFAULT_CSS = """
    ReviewCase {
        & #question-pane { height: auto; max-height: 40%; padding: 0 1; }
        & #question-pane > Static { height: auto; }
        & VoteBar { margin-top: 1; }
        & #status, & #audit { height: auto; padding: 0 1; }
        & #audit { display: none; margin-top: 1; }
        &.-audit #audit { display: block; }
        & #groups { height: 1fr; layout: horizontal; }
        & PathGroup { width: 1fr; height: 1fr; }
        &.-blind VoteBar { display: none; }
        &.-blind #groups { display: none; }
        &.-blind #question-pane { max-height: 70%; }
        &.-blind #status { margin-top: 1; }
    }
    """

    case: reactive[CaseContent | None] = reactive(None)

    def __init__(self, *, id: str | None = None) -> None:
        """Args:
        id: of the widget.
        """
        super().__init__(id=id)
        self._panes: list[int | None] = [None, None]
        self._path_at: dict[int, int] = {}
        """Chosen path of each group."""
        self._side = 0

    def compose(self) -> ComposeResult:
        """Question, vote, status, audit summary, and two groups of paths."""
        with VerticalScroll(id="question-pane", can_focus=False):
            yield Static(id="question", markup=False)
        yield VoteBar()
        yield Static(id="status", markup=False)
        yield Static(id="audit", markup=False)
        with Container(id="groups"):
            for side in SIDES:
                yield PathGroup(id=side)

    def watch_case(self, previous: CaseContent | None, case: CaseContent | None) -> None:
        """Draw the case; the panes keep their paths if the question is the same."""
        if case is None or not self.is_mounted:
            return
        is_same = previous is not None and previous.opened.question.id == case.opened.question.id
        if not is_same or previous is None or previous.groups != case.groups:
            count = len(case.groups)
            self._panes = [0 if count else None, 1 if count > 1 else None]
            self._path_at, self._side = {}, 0
        with self.app.batch_update():
            self.set_class(case.blind, "-blind")
            self.query_one("#status", Static).update(case.status)
            self.set_class(case.audit is not None, "-audit")
            if case.audit is not None:
                self.query_one("#audit", Static).update(case.audit)
            if not is_same or previous is None or previous.numbered != case.numbered:
                text = question_content(case.opened, numbered=case.numbered)
                self.query_one("#question", Static).update(text)
                self.query_one("#question-pane").scroll_home(animate=False)
            if case.blind:
                for side in SIDES:
                    self.query_one(f"#{side}", PathGroup).path = None
                self.query_one(VoteBar).votes = None
            else:
                self._draw()

    def _draw(self) -> None:
        """Draw the bar and both panes."""
        case = self.case
        if case is None or case.blind:
            return
        opened = case.opened
        self.query_one(VoteBar).votes = Votes(
            answers=tuple(
                (answer_text(opened.question, group.answer), group.count) for group in opened.groups
            ),
            m=opened.vote.m,
            abstained=tuple((ABSTAINED[reason], count) for reason, count in opened.abstained),
            not_sampled=opened.vote.m - opened.vote.drawn,
            visible=tuple(place for place in self._panes if place is not None),
            right=case.right,
        )
        steps = [split_steps(path.text) if path else () for path in map(self._path, (0, 1))]
        marked: tuple[int | None, int | None] = (None, None)
        if all(steps):
            marked = first_difference(steps[0], steps[1])
        for side in (0, 1):
            shown = self._shown(side, steps[side], marked[side])
            self.query_one(f"#{SIDES[side]}", PathGroup).path = shown

    def _path(self, side: int) -> ReasoningPath | None:
        case, place = self.case, self._panes[side]
        if case is None or place is None:
            return None
        paths = case.groups[place].paths
        return paths[self._path_at.get(place, 0) % len(paths)] if paths else None

    def _shown(self, side: int, steps: tuple[str, ...], marked: int | None) -> PathShown | None:
        case, place = self.case, self._panes[side]
        if case is None or place is None:
            return None
        group = case.groups[place]
        has_no_answer = place == len(case.opened.groups)
        note = ""
        if group.also:
            names = ", ".join(snippet(answer, 24) for answer in (group.answer, *group.also))
            note = f"merged answers: {names}"
        elif not group.paths:
            note = "comparing formulas…" if case.opened.unread else "the paths are not stored"
        return PathShown(
            key="∅" if has_no_answer else str(place + 1) if place < 9 else "enter",
            answer=answer_text(case.opened.question, group.answer),
            count=group.count,
            place=self._path_at.get(place, 0) % len(group.paths) + 1 if group.paths else 0,
            of=len(group.paths),
            steps=steps,
            marked=marked,
            note=note,
        )

    # The focused pane.

    @property
    def place(self) -> int | None:
        """Index of the answer in the focused pane; None if the pane shows no answer."""
        case, place = self.case, self._panes[self._side]
        if case is None or case.blind or place is None or place >= len(case.opened.groups):
            return None
        return place

    @property
    def path(self) -> ReasoningPath | None:
        """The path in the focused pane."""
        case = self.case
        return None if case is None or case.blind else self._path(self._side)

    def on_descendant_focus(self) -> None:
        """Note which pane has the focus."""
        for side, name in enumerate(SIDES):
            if self.query_one(f"#{name}").has_focus:
                self._side = side

    def choose(self, side: str) -> None:
        """Focus a pane, if it shows a path."""
        pane = self.query_one(f"#{side}", PathGroup)
        if pane.path is not None:
            pane.focus()

    def turn(self, by: int) -> None:
        """Show another path of the answer in the focused pane."""
        place = self._panes[self._side]
        if self.case is not None and not self.case.blind and place is not None:
            self._path_at[place] = self._path_at.get(place, 0) + by
            self._draw()

    def next_group(self) -> None:
        """Show the next answer that the other pane does not show."""
        if self.case is None or self.case.blind:
            return
        count, current = len(self.case.groups), self._panes[self._side]
        other = self._panes[1 - self._side]
        if current is not None:
            others = [(current + step) % count for step in range(1, count)]
            self.show_group(next((place for place in others if place != other), current))

    def show_group(self, place: int) -> None:
        """Show the paths of an answer in the focused pane, or focus the pane that shows them."""
        if place in self._panes:
            self._side = self._panes.index(place)
            self.choose(SIDES[self._side])
        else:
            self._panes[self._side] = place
        self._draw()

    def on_vote_bar_answer_clicked(self, message: VoteBar.AnswerClicked) -> None:
        """Show the paths of the clicked answer."""
        message.stop()
        self.show_group(message.place)


def case_content(session: ReviewSession) -> CaseContent:
    """The open question of a session; blind if it is an audit that is not judged yet."""
    queue, opened = session.queue, session.opened
    assert queue is not None
    assert opened is not None
    if not session.auditing:
        return CaseContent(opened, vote_state(opened, queue.run.threshold), right=session.right)
    audit = session.audit
    summary = audit_summary_text(queue.audit)
    if audit is None:
        numbered = bool(opened.choices)
        return CaseContent(
            opened, audit_instructions(opened), blind=True, numbered=numbered, audit=summary
        )
    if opened.question.id not in queue.judged:
        return CaseContent(opened, content("comparing the answers…"), audit=summary)
    status = judgment_content(opened, audit, queue.judged[opened.question.id])
    return CaseContent(opened, status, audit=summary)

"""One question as it lies before a person: what is asked, the vote, two answers' paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.containers import Container, Vertical, VerticalScroll
from textual.reactive import reactive
from textual.widgets import Static

from engine.review.question import Group
from engine.review.step_diff import first_difference, split_steps
from lmsi_tui.formatting.sanitize import content, snippet
from lmsi_tui.reviewing import text as words
from lmsi_tui.widgets.charts.vote_bar import VoteBar, Votes
from lmsi_tui.widgets.reviewing.path_group import PathGroup, PathShown

if TYPE_CHECKING:
    from textual.app import ComposeResult
    from textual.content import Content

    from engine.review.question import OpenQuestion
    from lmsi_tui.reviewing.session import Desk
    from store.records import ReasoningPath

SIDES = ("left", "right")


@dataclass(frozen=True, slots=True)
class Case:
    """What is shown of a question."""

    opened: OpenQuestion
    said: Content
    """About the decision, or how to decide."""
    blind: bool = False
    """The question and its options alone: no vote, no path, no answer."""
    numbered: bool = False
    """Options with the keys that pick them."""
    right: int | None = None
    """Place of the answer that a person called right."""
    known: Content | None = None
    """What the audits tell so far, in an audit."""

    @property
    def groups(self) -> tuple[Group, ...]:
        """The answers, and last the paths without one."""
        silent = self.opened.without
        lost = (Group("no answer", len(silent), silent),) if silent else ()
        return (*self.opened.groups, *lost)


class ReviewCase(Vertical):
    """The question above, its two leading answers below, side by side where there is room."""

    DEFAULT_CSS = """
    ReviewCase {
        & #asked { height: auto; max-height: 40%; padding: 0 1; }
        & #asked > Static { height: auto; }
        & VoteBar { margin-top: 1; }
        & #said, & #known { height: auto; padding: 0 1; }
        & #known { display: none; margin-top: 1; }
        &.-audit #known { display: block; }
        & #groups { height: 1fr; layout: horizontal; }
        & PathGroup { width: 1fr; height: 1fr; }
        &.-blind VoteBar { display: none; }
        &.-blind #groups { display: none; }
        &.-blind #asked { max-height: 70%; }
        &.-blind #said { margin-top: 1; }
    }
    """

    case: reactive[Case | None] = reactive(None)

    def __init__(self, *, id: str | None = None) -> None:
        """Args:
        id: of the widget.
        """
        super().__init__(id=id)
        self._panes: list[int | None] = [None, None]
        self._at: dict[int, int] = {}
        self._side = 0

    def compose(self) -> ComposeResult:
        """Question, vote, what is decided, and two groups of paths."""
        with VerticalScroll(id="asked", can_focus=False):
            yield Static(id="question", markup=False)
        yield VoteBar()
        yield Static(id="said", markup=False)
        yield Static(id="known", markup=False)
        with Container(id="groups"):
            for side in SIDES:
                yield PathGroup(id=side)

    def watch_case(self, before: Case | None, case: Case | None) -> None:
        """Show another question from its start; the same one where it was read."""
        if case is None or not self.is_mounted:
            return
        same = before is not None and before.opened.question.id == case.opened.question.id
        if not same or before is None or before.groups != case.groups:
            count = len(case.groups)
            self._panes = [0 if count else None, 1 if count > 1 else None]
            self._at, self._side = {}, 0
        with self.app.batch_update():
            self.set_class(case.blind, "-blind")
            self.query_one("#said", Static).update(case.said)
            self.set_class(case.known is not None, "-audit")
            if case.known is not None:
                self.query_one("#known", Static).update(case.known)
            if not same or before is None or before.numbered != case.numbered:
                asked = words.asked_words(case.opened, numbered=case.numbered)
                self.query_one("#question", Static).update(asked)
                self.query_one("#asked").scroll_home(animate=False)
            if case.blind:
                for side in SIDES:
                    self.query_one(f"#{side}", PathGroup).path = None
                self.query_one(VoteBar).votes = None
            else:
                self._draw()

    def _draw(self) -> None:
        """The bar and both panes."""
        case = self.case
        if case is None or case.blind:
            return
        opened = case.opened
        self.query_one(VoteBar).votes = Votes(
            answers=tuple(
                (words.answer_words(opened.question, group.answer), group.count)
                for group in opened.groups
            ),
            m=opened.vote.m,
            abstained=tuple((words.ABSTAINED[reason], count) for reason, count in opened.abstained),
            missing=opened.vote.m - opened.vote.drawn,
            seen=tuple(place for place in self._panes if place is not None),
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
        return paths[self._at.get(place, 0) % len(paths)] if paths else None

    def _shown(self, side: int, steps: tuple[str, ...], marked: int | None) -> PathShown | None:
        case, place = self.case, self._panes[side]
        if case is None or place is None:
            return None
        group = case.groups[place]
        silent = place == len(case.opened.groups)
        note = ""
        if group.also:
            names = ", ".join(snippet(one, 24) for one in (group.answer, *group.also))
            note = f"called the same: {names}"
        elif not group.paths:
            note = "comparing formulas…" if case.opened.unread else "its paths are not stored"
        return PathShown(
            key="∅" if silent else str(place + 1) if place < 9 else "enter",
            answer=words.answer_words(case.opened.question, group.answer),
            count=group.count,
            place=self._at.get(place, 0) % len(group.paths) + 1 if group.paths else 0,
            of=len(group.paths),
            steps=steps,
            marked=marked,
            note=note,
        )

    # What a person looks at.

    @property
    def place(self) -> int | None:
        """Place of the answer in the chosen pane; None without one, or for paths that have none."""
        case, place = self.case, self._panes[self._side]
        if case is None or case.blind or place is None or place >= len(case.opened.groups):
            return None
        return place

    @property
    def path(self) -> ReasoningPath | None:
        """The path in the chosen pane."""
        case = self.case
        return None if case is None or case.blind else self._path(self._side)

    def on_descendant_focus(self) -> None:
        """The pane that has the focus is the chosen one."""
        for side, name in enumerate(SIDES):
            if self.query_one(f"#{name}").has_focus:
                self._side = side

    def choose(self, side: str) -> None:
        """Choose a pane, if it shows something."""
        pane = self.query_one(f"#{side}", PathGroup)
        if pane.path is not None:
            pane.focus()

    def turn(self, by: int) -> None:
        """Another path of the answer in the chosen pane."""
        place = self._panes[self._side]
        if self.case is not None and not self.case.blind and place is not None:
            self._at[place] = self._at.get(place, 0) + by
            self._draw()

    def next_group(self) -> None:
        """The next answer in the chosen pane that the other pane does not show."""
        if self.case is None or self.case.blind:
            return
        count, here = len(self.case.groups), self._panes[self._side]
        other = self._panes[1 - self._side]
        if here is not None:
            around = [(here + step) % count for step in range(1, count)]
            self.show_group(next((place for place in around if place != other), here))

    def show_group(self, place: int) -> None:
        """Show the paths of an answer in the chosen pane, or choose the pane that shows them."""
        if place in self._panes:
            self._side = self._panes.index(place)
            self.choose(SIDES[self._side])
        else:
            self._panes[self._side] = place
        self._draw()

    def on_vote_bar_answer_asked(self, message: VoteBar.AnswerAsked) -> None:
        """Show the paths of the answer that was clicked."""
        message.stop()
        self.show_group(message.place)


def case_of(desk: Desk) -> Case:
    """The question on top of the desk: blind where it is an audit that is not judged."""
    found, opened = desk.queue, desk.opened
    assert found is not None
    assert opened is not None
    if not desk.auditing:
        return Case(opened, words.standing_words(opened, found.run.threshold), right=desk.right)
    audit = desk.audit
    known = words.known_words(found.known)
    if audit is None:
        numbered = bool(opened.choices)
        return Case(opened, words.audit_words(opened), blind=True, numbered=numbered, known=known)
    if opened.question.id not in found.judged:
        return Case(opened, content("comparing the answers…"), known=known)
    said = words.judged_words(opened, audit, found.judged[opened.question.id])
    return Case(opened, said, known=known)

"""Review: one question on the screen, one key decides, the next one is already there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Footer, Static

from engine.review.question import open_question
from lmsi_tui.formatting.sanitize import content, printable
from lmsi_tui.reviewing import text as words
from lmsi_tui.reviewing.queue import known_of
from lmsi_tui.screens.reviewing.queue_screen import QueueScreen
from lmsi_tui.screens.reviewing.review_commands import COMMANDS
from lmsi_tui.shell.commands import declare
from lmsi_tui.shell.messages import TextCopied, TextOpened
from lmsi_tui.widgets.reviewing.question_table import QuestionTable
from lmsi_tui.widgets.reviewing.review_case import ReviewCase, case_of
from store import queue
from store.enums import Queue, Verdict
from store.errors import LmsiError

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from engine.review.question import OpenQuestion
    from lmsi_tui.reviewing.queue import Known, Wanted

_TRIAGE_ONLY = frozenset({"majority", "same", "find", "list"})
"""Actions that an audit does not have: its sample is not chosen, and its vote is not seen."""


class ReviewScreen(QueueScreen):
    """Triage of the doubtful questions, and the blind audit of the accepted ones."""

    NAME = "review"
    HELP = """\
Triage shows the questions whose vote is doubtful, with their paths grouped by answer. Say which
answer is right, and its paths are trained on; say that none is, and the question is left out;
skip it, and it counts as the vote left it. Every decision can be taken back with u.

The audit (b) shows accepted questions in a random order, without their vote. Say what is right
before you see what the vote said: only this tells how often the vote is right."""
    CSS_PATH = "review.tcss"
    AUTO_FOCUS = "#left"
    HORIZONTAL_BREAKPOINTS: ClassVar = [  # type: ignore[misc]  # it is one there, too
        (0, "-narrow"),
        (100, "-normal"),
        (150, "-wide"),
    ]
    VERTICAL_BREAKPOINTS: ClassVar = [  # type: ignore[misc]  # it is one there, too
        (0, "-low"),
        (20, "-tall"),
    ]
    BINDINGS: ClassVar = declare(NAME, *COMMANDS)

    @dataclass
    class QuestionRead(Message):
        """A question whose formulas were compared in another process."""

        opened: OpenQuestion | None

    @dataclass
    class KnownRead(Message):
        """What the audits tell after the last decision."""

        run_id: int
        known: Known | None

    @dataclass
    class TypedRead(Message):
        """Which of the answers a typed one equals."""

        place: int | None

    def compose(self) -> ComposeResult:
        """The session's line, the list, and the question."""
        with Horizontal(id="top-bar"):
            yield Static(id="where", markup=False)
            yield Static(id="filter", markup=False)
        with Horizontal(id="review"):
            yield QuestionTable(id="table")
            yield ReviewCase(id="case")
            yield Static(words.READING, id="empty", classes="empty", markup=False)
        yield Footer()

    # Showing.

    def show_queue(self) -> None:
        """The queue is another one, or in another order."""
        self.refresh_bindings()
        self._show_list()
        self.draw()
        self._ask_what_is_known()

    def draw(self) -> None:
        """The question on top, or why there is none."""
        desk, case = self.desk, self.query_one(ReviewCase)
        found, opened = desk.queue, desk.opened
        empty = self.query_one("#empty", Static)
        self.set_class(opened is None, "-empty")
        if found is None or opened is None:
            empty.update(words.empty_words(found) if found else words.NOT_SAMPLED)
        else:
            case.case = case_of(desk)
            if self.has_class("-listing"):
                self.query_one(QuestionTable).move_to(opened.question.id)
            if opened.unread:
                run_id, id_ = found.run.id, opened.question.id
                self.read(
                    "question",
                    lambda conn: self.QuestionRead(open_question(conn, run_id, id_, merge=True)),
                )
        if found is not None:
            self.query_one("#where", Static).update(
                words.bar_words(desk.session, found, desk.place)
            )
            self.query_one("#filter", Static).update(content(found.wanted.words))

    def on_review_screen_question_read(self, message: QuestionRead) -> None:
        """Show the paths whose formulas were compared."""
        message.stop()
        new, old = message.opened, self.desk.opened
        if new and old and (new.question.id, new.reviews) == (old.question.id, old.reviews):
            self.desk.opened = new
            self.draw()

    def _show_list(self) -> None:
        desk, table = self.desk, self.query_one(QuestionTable)
        if desk.queue is None or desk.auditing:
            if self.has_class("-listing"):
                self.remove_class("-listing")
                self.set_focus(None)
            return
        run_id = desk.queue.run.id
        opened = desk.opened.question.id if desk.opened else None
        table.show_questions(desk.queue.ids, lambda ids: queue.page(self.conn, run_id, ids), opened)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Leave out what the queue does not have."""
        return not (self.desk.auditing and action in _TRIAGE_ONLY)

    # Deciding.

    def _ready(self) -> OpenQuestion | None:
        """The question to decide; None when there is none, or it is out of sight."""
        opened = self.desk.opened
        if opened is not None and not self.query_one(ReviewCase).region.height:
            self._tell("The list covers the question: enter opens it.")
            return None
        return opened

    def _decide(
        self, verdict: Verdict, answer: str | None = None, other: str | None = None
    ) -> bool:
        """Store the decision; show the next question unless there is more to see of this one."""
        desk = self.desk
        place = desk.place
        try:
            made = desk.decide(self.conn, verdict, answer, other, self.lmsi.now())
        except LmsiError as failure:
            self.tell_failure(failure)
            return False
        if not made:
            self._tell("Another app has just decided this question; press again to decide anew.")
        elif verdict is not Verdict.SAME and (not desk.auditing or verdict is Verdict.SKIP):
            desk.advance(self.conn, -1 if place is None else place, self.lmsi.now())
        elif desk.auditing and desk.audit and desk.opened and desk.opened.slow:
            self.read_queue()  # compares the answers in another process
        self._reread_list()
        self.draw()
        self._ask_what_is_known()
        return made

    def _ask_what_is_known(self) -> None:
        """Estimate again, in a thread and after the question is shown: it looks at every vote."""
        found, project = self.desk.queue, self.lmsi.project
        if found is not None and self.desk.auditing:
            run = found.run
            self.read("known", lambda conn: self.KnownRead(run.id, known_of(conn, project, run)))

    def on_review_screen_known_read(self, message: KnownRead) -> None:
        """Show what is known now."""
        message.stop()
        found = self.desk.queue
        if found is not None and self.desk.auditing and found.run.id == message.run_id:
            self.desk.queue = replace(found, known=message.known)
            self.draw()

    def action_answer(self, place: int) -> None:
        """This answer is right; in an audit, this option is."""
        opened = self._ready()
        if opened is None or self._told_judged():
            return
        if not self.desk.auditing:
            if place < len(opened.groups):
                self._decide(Verdict.ANSWER, opened.groups[place].answer)
            else:
                self._tell(f"No answer has the key {place + 1}.")
        elif not opened.choices:
            self._type(opened, str(place + 1))
        elif place < len(opened.choices):
            self._decide(Verdict.TYPED, opened.choices[place])
        else:
            self._tell(f"There is no option {place + 1}.")

    def action_this(self) -> None:
        """The answer in the chosen pane is right; after an audit, go on."""
        if self.desk.audit is not None:
            self._go_on()
        elif (opened := self._ready()) is not None and not self.desk.auditing:
            place = self.query_one(ReviewCase).place
            if place is None:
                self._tell("These paths give no answer: press t to type the right one.")
            else:
                self._decide(Verdict.ANSWER, opened.groups[place].answer)

    def action_majority(self) -> None:
        """The leading answer is right."""
        if (opened := self._ready()) is None:
            return
        if opened.winner is None:
            self._tell("There is no majority: press the key of the right answer.")
        else:
            self._decide(Verdict.MAJORITY)

    def action_none(self) -> None:
        """No answer is right, or the question is broken."""
        if self._ready() is not None and not self._told_judged():
            self._decide(Verdict.NONE)

    def action_skip(self) -> None:
        """Decide nothing about it; after an audit, go on."""
        if self.desk.audit is not None:
            self._go_on()
        elif self._ready() is not None:
            self._decide(Verdict.SKIP)

    def action_type(self) -> None:
        """Type the right answer."""
        if (opened := self._ready()) is not None and not self._told_judged():
            self._type(opened, "")

    def _type(self, opened: OpenQuestion, typed: str) -> None:
        from lmsi_tui.screens.reviewing.answer_input import AnswerInput

        def take(answer: str | None) -> None:
            now = self.desk.opened
            if answer is None or now is None or now.question.id != opened.question.id:
                return
            if self._decide(Verdict.TYPED, answer) and not self.desk.auditing:
                self.read("typed", lambda _: self.TypedRead(opened.place_of(answer)))

        self.app.push_screen(AnswerInput(opened.question, typed, opened.rules), take)

    def on_review_screen_typed_read(self, message: TypedRead) -> None:
        """Say that a typed answer is one that paths gave."""
        message.stop()
        if message.place is not None:
            self._tell(f"What you typed is answer {message.place + 1} of that question.")

    def action_same(self) -> None:
        """Two answers are the same answer."""
        opened = self._ready()
        if opened is None:
            return
        if len(opened.groups) < 2:
            self._tell("There are no two answers that could be the same.")
        elif len(opened.groups) == 2:
            self._join(opened, (0, 1))
        else:
            from lmsi_tui.screens.reviewing.same_answer import SameAnswer

            answers = tuple(
                (words.answer_words(opened.question, group.answer), group.count)
                for group in opened.groups
            )
            self.app.push_screen(SameAnswer(answers), lambda two: self._join(opened, two))

    def _join(self, opened: OpenQuestion, two: tuple[int, int] | None) -> None:
        now = self.desk.opened
        if two is None or now is None or now.question.id != opened.question.id:
            return
        stands, joins = (opened.groups[place].answer for place in sorted(two))
        self._decide(Verdict.SAME, stands, joins)

    def action_undo(self) -> None:
        """Take back the last decision of this session, and go back to its question."""
        desk = self.desk
        try:
            slip = desk.undo(self.conn, self.lmsi.now())
        except LmsiError as failure:
            self.tell_failure(failure)
            return
        if slip is None:
            self._tell("Nothing is left to undo in this session.")
            return
        if desk.queue is not None and slip.queue is not desk.queue.wanted.queue:
            self.goals[slip.queue] = slip.question_id
            self._switch(slip.queue)
        else:
            self._ask_what_is_known()
        self._reread_list()
        self.draw()

    def _told_judged(self) -> bool:
        if self.desk.audit is None:
            return False
        self._tell("You have judged this one: space goes on, u takes it back.")
        return True

    def _tell(self, sentence: str) -> None:
        self.notify(printable(sentence), timeout=4, markup=False)

    # Moving.

    def _go_on(self) -> None:
        desk = self.desk
        desk.advance(self.conn, -1 if desk.place is None else desk.place, self.lmsi.now())
        self.draw()

    def action_go(self, by: int) -> None:
        """The question before or after, decided or not."""
        desk = self.desk
        if desk.queue is None or not desk.queue.ids:
            return
        if by > 0 and desk.auditing and desk.opened is not None and desk.audit is None:
            self._tell("Judge it, or press space when it cannot be judged: none may be left out.")
            return
        place = desk.place
        if place is None:
            place = len(desk.queue.ids) if by < 0 else -1
        place = max(0, min(place + by, len(desk.queue.ids) - 1))
        desk.open(self.conn, desk.queue.ids[place], self.lmsi.now())
        self.draw()

    def action_path(self, by: int) -> None:
        """Another path of the same answer."""
        self.query_one(ReviewCase).turn(by)

    def action_group(self) -> None:
        """Another answer in the chosen pane."""
        self.query_one(ReviewCase).next_group()

    def action_pane(self, side: str) -> None:
        """Choose a pane."""
        self.query_one(ReviewCase).choose(side)

    def action_find(self) -> None:
        """Filter and sort the queue."""
        from lmsi_tui.screens.reviewing.find_panel import FindPanel

        def take(wanted: Wanted | None) -> None:
            if wanted is not None and wanted != self.wanted:
                self.wanted = wanted
                self.read_queue()

        found = self.desk.queue
        self.app.push_screen(FindPanel(self.wanted, found.tasks if found else ()), take)

    def action_audit(self) -> None:
        """From triage to the audit, or back."""
        desk = self.desk
        if desk.queue is not None:
            self._switch(Queue.TRIAGE if desk.auditing else Queue.AUDIT)

    def _switch(self, to: Queue) -> None:
        desk = self.desk
        if desk.opened is not None and desk.queue is not None:
            self.goals[desk.queue.wanted.queue] = desk.opened.question.id
        self.wanted = replace(self.wanted, queue=to)
        self.read_queue()

    # The list.

    def action_list(self) -> None:
        """Show the queue as a list, or hide it."""
        self.toggle_class("-listing")
        listing = self.has_class("-listing")
        if listing:
            self._show_list()
        self.query_one("#table" if listing else "#left").focus()

    def _reread_list(self) -> None:
        if self.has_class("-listing"):
            self.query_one(QuestionTable).reread()

    def on_question_table_question_moved(self, message: QuestionTable.QuestionMoved) -> None:
        """Show the question under the cursor, where there is room beside the list."""
        message.stop()
        opened = self.desk.opened
        beside = self.has_class("-listing") and self.has_class("-wide")
        if beside and (opened is None or opened.question.id != message.question_id):
            self.desk.open(self.conn, message.question_id, self.lmsi.now())
            self.draw()

    def on_question_table_question_chosen(self, message: QuestionTable.QuestionChosen) -> None:
        """Open the question, and hide a list that covers it."""
        message.stop()
        self.desk.open(self.conn, message.question_id, self.lmsi.now())
        if not self.has_class("-wide"):
            self.remove_class("-listing")
        self.draw()
        self.query_one("#left").focus()

    # Text.

    def action_copy(self) -> None:
        """Copy the path, or the question where no path is seen."""
        if (opened := self.desk.opened) is None:
            return
        path = self.query_one(ReviewCase).path
        if path is not None:
            self.post_message(TextCopied(path.text, "the path"))
        else:
            self.post_message(TextCopied(opened.text, "the question"))

    def action_open(self) -> None:
        """Read the question with its path in the pager."""
        if (opened := self.desk.opened) is None:
            return
        path = self.query_one(ReviewCase).path
        text = opened.text
        self.post_message(TextOpened(f"{text}\n\n{path.text}" if path is not None else text))

"""The review screen: triage of doubtful questions and blind audit of accepted ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Static

from engine.review.question import open_question
from lmsi_tui.formatting.sanitize import content, printable
from lmsi_tui.reviewing.queue import audit_summary
from lmsi_tui.reviewing.text import LOADING, NOT_SAMPLED, answer_text, empty_text, top_bar
from lmsi_tui.screens.reviewing.queue_screen import QueueScreen
from lmsi_tui.screens.reviewing.review_commands import (
    AUDIT_TITLES,
    BEFORE_THE_ANSWER,
    COMMANDS,
    FOR_A_QUESTION,
    TRIAGE_ONLY,
)
from lmsi_tui.shell.commands import declare
from lmsi_tui.shell.messages import CopyRequested, PagerRequested
from lmsi_tui.widgets.key_bar import KeyBar
from lmsi_tui.widgets.reviewing.question_table import QuestionTable
from lmsi_tui.widgets.reviewing.review_case import ReviewCase, case_content
from store import queue
from store.enums import Queue, Verdict
from store.errors import LmsiError

if TYPE_CHECKING:
    from textual.app import ComposeResult

    from engine.review.question import OpenQuestion
    from lmsi_tui.reviewing.queue import AuditSummary, QueueSelection


class ReviewScreen(QueueScreen):
    """One question at a time; one key decides and opens the next."""

    NAME = "review"
    HELP = """\
Triage shows questions with doubtful votes, their paths grouped by answer. If you pick the right
answer, its paths become training data; if none is right, the question is left out; if you skip,
the vote decides. Press u to undo a decision.

The blind audit (b) shows accepted questions in random order without their votes. You give the
right answer before you see the vote. This estimates how often the vote is right."""
    CSS_PATH = "review.tcss"
    AUTO_FOCUS = "#left"
    HORIZONTAL_BREAKPOINTS: ClassVar = [  # type: ignore[misc]  # a class variable in Textual, too
        (0, "-narrow"),
        (100, "-normal"),
        (150, "-wide"),
    ]
    VERTICAL_BREAKPOINTS: ClassVar = [  # type: ignore[misc]  # a class variable in Textual, too
        (0, "-low"),
        (20, "-tall"),
    ]
    BINDINGS: ClassVar = declare(NAME, *COMMANDS)

    @dataclass
    class QuestionRead(Message):
        """A question was read and its formulas compared in another process."""

        opened: OpenQuestion | None

    @dataclass
    class AuditRead(Message):
        """The audits were summarized after the last decision."""

        run_id: int
        summary: AuditSummary | None

    @dataclass
    class TypedRead(Message):
        """A typed answer was compared with the answers of the question."""

        place: int | None
        """Index of the equal answer; None if there is none."""

    def compose(self) -> ComposeResult:
        """The top bar, the list, and the question."""
        with Horizontal(id="top-bar"):
            yield Static(id="where", markup=False)
            yield Static(id="filter", markup=False)
        with Horizontal(id="review"):
            yield QuestionTable(id="table")
            yield ReviewCase(id="case")
            yield Static(LOADING, id="empty", classes="empty", markup=False)
        yield KeyBar()

    # Drawing.

    def show_queue(self) -> None:
        """Draw after the queue or its order has changed."""
        self.refresh_bindings()
        self._show_list()
        self.draw()
        self._read_audit()

    def draw(self) -> None:
        """Draw the open question, or why there is none."""
        session, case = self.session, self.query_one(ReviewCase)
        shown, opened = session.queue, session.opened
        empty = self.query_one("#empty", Static)
        self.set_class(opened is None, "-empty")
        if shown is None or opened is None:
            empty.update(empty_text(shown) if shown else NOT_SAMPLED)
        else:
            case.case = case_content(session)
            if self.has_class("-listing"):
                self.query_one(QuestionTable).move_to(opened.question.id)
            if opened.unread:
                run_id, id_ = shown.run.id, opened.question.id
                self.read(
                    "question",
                    lambda conn: self.QuestionRead(open_question(conn, run_id, id_, merge=True)),
                )
        if shown is not None:
            self.query_one("#where", Static).update(
                top_bar(session.decisions, shown, session.place)
            )
            self.query_one("#filter", Static).update(content(shown.selection.text))

    def on_review_screen_question_read(self, message: QuestionRead) -> None:
        """Show the groups of the compared answers."""
        message.stop()
        new, old = message.opened, self.session.opened
        if new and old and (new.question.id, new.reviews) == (old.question.id, old.reviews):
            self.session.opened = new
            self.draw()

    def _show_list(self) -> None:
        session, table = self.session, self.query_one(QuestionTable)
        if session.queue is None or session.auditing:
            if self.has_class("-listing"):
                self.remove_class("-listing")
                self.set_focus(None)
            return
        run_id = session.queue.run.id
        opened = session.opened.question.id if session.opened else None
        table.show_questions(
            session.queue.ids, lambda ids: queue.page(self.conn, run_id, ids), opened
        )

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the actions that an audit lacks."""
        return not (self.session.auditing and action in TRIAGE_ONLY)

    def key_title(self, command: str, title: str) -> str | None:
        """What a key does in triage, in an audit, and after the answer of an audit."""
        session = self.session
        if session.opened is None and command in FOR_A_QUESTION:
            return None
        if not session.auditing:
            return title
        if session.audit is not None:
            judged = {"review.skip": "continue", "review.audit": "triage"}
            return None if command in BEFORE_THE_ANSWER else judged.get(command, title)
        if command == "review.path" or (
            command == "review.answer-1" and not (session.opened and session.opened.choices)
        ):
            return None
        return AUDIT_TITLES.get(command, title)

    # Deciding.

    def _ready(self) -> OpenQuestion | None:
        """The question to decide; None if there is none or the list covers it."""
        opened = self.session.opened
        if opened is not None and not self.query_one(ReviewCase).region.height:
            self._notify("The list covers the question. Press enter to open it.")
            return None
        return opened

    def _decide(
        self, verdict: Verdict, answer: str | None = None, other: str | None = None
    ) -> bool:
        """Store the decision and open the next question, unless this one has more to show."""
        session = self.session
        place = session.place
        try:
            is_stored = session.decide(self.conn, verdict, answer, other, self.lmsi.now())
        except LmsiError as error:
            self.show_error(error)
            return False
        if not is_stored:
            self._notify("Another process has changed this question. Press again to decide.")
        elif verdict is not Verdict.SAME and (not session.auditing or verdict is Verdict.SKIP):
            session.advance(self.conn, -1 if place is None else place, self.lmsi.now())
        elif session.auditing and session.audit and session.opened and session.opened.slow:
            self.read_queue()  # compares the answers in another process
        self._reread_list()
        self.draw()
        self._read_audit()
        return is_stored

    def _read_audit(self) -> None:
        """Summarize the audits in a thread, after the question is drawn: it reads every vote."""
        shown, project = self.session.queue, self.lmsi.project
        if shown is not None and self.session.auditing:
            run = shown.run
            self.read(
                "audit", lambda conn: self.AuditRead(run.id, audit_summary(conn, project, run))
            )

    def on_review_screen_audit_read(self, message: AuditRead) -> None:
        """Show the summary of the audits."""
        message.stop()
        shown = self.session.queue
        if shown is not None and self.session.auditing and shown.run.id == message.run_id:
            self.session.queue = replace(shown, audit=message.summary)
            self.draw()

    def action_answer(self, place: int) -> None:
        """Call an answer right; in an audit, an option."""
        opened = self._ready()
        if opened is None or self._is_judged():
            return
        if not self.session.auditing:
            if place < len(opened.groups):
                self._decide(Verdict.ANSWER, opened.groups[place].answer)
            else:
                self._notify(f"There is no answer {place + 1}.")
        elif not opened.choices:
            self._type(opened, str(place + 1))
        elif place < len(opened.choices):
            self._decide(Verdict.TYPED, opened.choices[place])
        else:
            self._notify(f"There is no option {place + 1}.")

    def action_this(self) -> None:
        """Call the answer in the focused pane right; after an audit, continue."""
        if self.session.audit is not None:
            self._continue()
        elif (opened := self._ready()) is not None and not self.session.auditing:
            place = self.query_one(ReviewCase).place
            if place is None:
                self._notify("These paths have no answer. Press t to type the right one.")
            else:
                self._decide(Verdict.ANSWER, opened.groups[place].answer)

    def action_majority(self) -> None:
        """Call the leading answer right."""
        if (opened := self._ready()) is None:
            return
        if opened.winner is None:
            self._notify("There is no majority. Press the number of the right answer.")
        else:
            self._decide(Verdict.MAJORITY)

    def action_none(self) -> None:
        """Say that no answer is right, or that the question is broken."""
        if self._ready() is not None and not self._is_judged():
            self._decide(Verdict.NONE)

    def action_skip(self) -> None:
        """Skip the question; after an audit, continue."""
        if self.session.audit is not None:
            self._continue()
        elif self._ready() is not None:
            self._decide(Verdict.SKIP)

    def action_type(self) -> None:
        """Type the right answer."""
        if (opened := self._ready()) is not None and not self._is_judged():
            self._type(opened, "")

    def _type(self, opened: OpenQuestion, typed: str) -> None:
        from lmsi_tui.screens.reviewing.answer_input import AnswerInput

        def take(answer: str | None) -> None:
            now = self.session.opened
            if answer is None or now is None or now.question.id != opened.question.id:
                return
            if self._decide(Verdict.TYPED, answer) and not self.session.auditing:
                self.read("typed", lambda _: self.TypedRead(opened.place_of(answer)))

        self.app.push_screen(AnswerInput(opened.question, typed, opened.rules), take)

    def on_review_screen_typed_read(self, message: TypedRead) -> None:
        """Report that a typed answer equals an answer of the paths."""
        message.stop()
        if message.place is not None:
            self._notify(f"Your answer equals answer {message.place + 1} of that question.")

    def action_same(self) -> None:
        """Merge two answers."""
        opened = self._ready()
        if opened is None:
            return
        if len(opened.groups) < 2:
            self._notify("There are no two answers to merge.")
        elif len(opened.groups) == 2:
            self._merge(opened, (0, 1))
        else:
            from lmsi_tui.screens.reviewing.same_answer import SameAnswer

            answers = tuple(
                (answer_text(opened.question, group.answer), group.count) for group in opened.groups
            )
            self.app.push_screen(SameAnswer(answers), lambda pair: self._merge(opened, pair))

    def _merge(self, opened: OpenQuestion, pair: tuple[int, int] | None) -> None:
        now = self.session.opened
        if pair is None or now is None or now.question.id != opened.question.id:
            return
        kept, merged = (opened.groups[place].answer for place in sorted(pair))
        self._decide(Verdict.SAME, kept, merged)

    def action_undo(self) -> None:
        """Undo the last decision of this session, and go back to its question."""
        session = self.session
        try:
            undone = session.undo(self.conn, self.lmsi.now())
        except LmsiError as error:
            self.show_error(error)
            return
        if undone is None:
            self._notify("Nothing to undo in this session.")
            return
        if session.queue is not None and undone.queue is not session.queue.selection.queue:
            self.goals[undone.queue] = undone.question_id
            self._switch(undone.queue)
        else:
            self._read_audit()
        self._reread_list()
        self.draw()

    def _is_judged(self) -> bool:
        if self.session.audit is None:
            return False
        self._notify("Already judged. Press space to continue, u to undo.")
        return True

    def _notify(self, sentence: str) -> None:
        self.notify(printable(sentence), timeout=4, markup=False)

    # Moving.

    def _continue(self) -> None:
        session = self.session
        session.advance(self.conn, -1 if session.place is None else session.place, self.lmsi.now())
        self.draw()

    def action_go(self, by: int) -> None:
        """Go to the next or previous question, decided or not."""
        session = self.session
        if session.queue is None or not session.queue.ids:
            return
        if by > 0 and session.auditing and session.opened is not None and session.audit is None:
            self._notify(
                "Audits cannot be left out. Judge it, or press space if it cannot be judged."
            )
            return
        place = session.place
        if place is None:
            place = len(session.queue.ids) if by < 0 else -1
        place = max(0, min(place + by, len(session.queue.ids) - 1))
        session.open(self.conn, session.queue.ids[place], self.lmsi.now())
        self.draw()

    def action_path(self, by: int) -> None:
        """Show another path of the same answer."""
        self.query_one(ReviewCase).turn(by)

    def action_group(self) -> None:
        """Show another answer in the focused pane."""
        self.query_one(ReviewCase).next_group()

    def action_pane(self, side: str) -> None:
        """Focus a pane."""
        self.query_one(ReviewCase).choose(side)

    def action_find(self) -> None:
        """Filter and sort the queue."""
        from lmsi_tui.screens.reviewing.find_panel import FindPanel

        def apply(selection: QueueSelection | None) -> None:
            if selection is not None and selection != self.selection:
                self.selection = selection
                self.read_queue()

        shown = self.session.queue
        self.app.push_screen(FindPanel(self.selection, shown.tasks if shown else ()), apply)

    def action_audit(self) -> None:
        """Switch between triage and audit."""
        session = self.session
        if session.queue is not None:
            self._switch(Queue.TRIAGE if session.auditing else Queue.AUDIT)

    def _switch(self, to: Queue) -> None:
        session = self.session
        if session.opened is not None and session.queue is not None:
            self.goals[session.queue.selection.queue] = session.opened.question.id
        self.selection = replace(self.selection, queue=to)
        self.read_queue()

    # The list.

    def action_list(self) -> None:
        """Show or hide the list of the queue."""
        self.toggle_class("-listing")
        listing = self.has_class("-listing")
        if listing:
            self._show_list()
        self.query_one("#table" if listing else "#left").focus()

    def _reread_list(self) -> None:
        if self.has_class("-listing"):
            self.query_one(QuestionTable).reread()

    def on_question_table_question_moved(self, message: QuestionTable.QuestionMoved) -> None:
        """Show the question under the cursor if there is space beside the list."""
        message.stop()
        opened = self.session.opened
        is_beside = self.has_class("-listing") and self.has_class("-wide")
        if is_beside and (opened is None or opened.question.id != message.question_id):
            self.session.open(self.conn, message.question_id, self.lmsi.now())
            self.draw()

    def on_question_table_question_chosen(self, message: QuestionTable.QuestionChosen) -> None:
        """Open the question; hide the list if it covers it."""
        message.stop()
        self.session.open(self.conn, message.question_id, self.lmsi.now())
        if not self.has_class("-wide"):
            self.remove_class("-listing")
        self.draw()
        self.query_one("#left").focus()

    # Text.

    def action_copy(self) -> None:
        """Copy the path, or the question if no path is shown."""
        if (opened := self.session.opened) is None:
            return
        path = self.query_one(ReviewCase).path
        text, name = (path.text, "the path") if path else (opened.text, "the question")
        self.post_message(CopyRequested(text, name))

    def action_open(self) -> None:
        """Open the question and its path in the pager."""
        if (opened := self.session.opened) is None:
            return
        path = self.query_one(ReviewCase).path
        self.post_message(PagerRequested(f"{opened.text}\n\n{path.text}" if path else opened.text))

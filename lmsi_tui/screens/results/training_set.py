"""The training-set screen: every example as the model sees it, and its origin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from lmsi_tui.formatting.sanitize import printable, snippet
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.messages import CopyRequested, PagerRequested
from lmsi_tui.widgets.example_text import ExampleText, ShownExample, origin_facts, plain_text
from lmsi_tui.widgets.key_bar import KeyBar
from lmsi_tui.widgets.line_list import LineList
from lmsi_tui.widgets.set_summary import SetSelection, SetSummary, head, read_summary, table
from store import examples, models, origins, questions
from store.enums import PromptFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

    from textual.app import ComposeResult

    from store.records import Encoding, Example

SHORT = {
    PromptFormat.FEW_SHOT_COT: "few CoT",
    PromptFormat.FEW_SHOT_DIRECT: "few direct",
    PromptFormat.ZERO_SHOT_COT: "zero CoT",
    PromptFormat.ZERO_SHOT_DIRECT: "zero direct",
}

NO_SET = (
    "No training set yet. Press c on the home screen (escape) to select one from the votes and "
    "reviews."
)


class TrainingSetScreen(LmsiScreen):
    """The training sets, their formats, and their examples."""

    NAME = "training-set"
    HELP = (
        "The training examples exactly as the model sees them. The prompt is dim and carries no "
        "loss; the completion is bold. A set is frozen: a new threshold, review or format makes "
        "a new set."
    )
    AUTO_FOCUS = "#lines"
    CSS_PATH = "training_set.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as Textual has it
    BINDINGS: ClassVar = declare(
        NAME,
        Command("set.format", "f", "format", "format", "Cycle through the formats, then all."),
        Command(
            "set.cut",
            "x",
            "cut",
            "too long",
            "Show only examples that are too long, or all.",
        ),
        Command("set.tokens", "b", "tokens", "tokens", "Show or hide token boundaries."),
        Command("set.paths", "p", "paths", "paths", "Show all paths of this example's question."),
        Command("set.copy", "y", "copy", "copy", "Copy the text of the example."),
        Command("set.open", "o", "open", "open", "Open the example in your pager."),
        Command("set.older", "right_square_bracket", "set(1)", "older", "Show the older set."),
        Command(
            "set.newer",
            "left_square_bracket",
            "set(-1)",
            "newer",
            "Show the newer set.",
            shown=False,
        ),
        Command(
            "set.held",
            "v",
            "held",
            "held out",
            "Cycle: only held out, only trained on, all.",
            shown=False,
        ),
        Command(
            "set.learner",
            "m",
            "learner",
            "model",
            "Count tokens with the next model's tokenizer.",
            shown=False,
        ),
    )

    class SummaryRead(Message):
        """The summary of the selected set was read."""

        def __init__(self, summary: SetSummary) -> None:
            """Args:
            summary: summary of the selected set.
            """
            self.summary = summary
            super().__init__()

    def __init__(self) -> None:
        super().__init__()
        self.selection = SetSelection()
        self.summary: SetSummary | None = None
        self.boundaries = False
        self._seen: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """The top bar, the table of formats, the list of examples, the selected example."""
        yield Static(id="top-bar", markup=False)
        with VerticalScroll(id="formats", classes="pane") as formats:
            formats.border_title = "formats"
            yield Static(id="facts", markup=False)
        with Horizontal(id="examples"):
            lines = LineList(id="lines", classes="pane")
            lines.border_title = "examples"
            yield lines
            text = ExampleText(id="text", classes="pane")
            text.border_title = "example"
            yield text
        yield KeyBar()

    # Reading.

    def reload(self) -> None:
        """Read the set again if sets, models or its token counts have changed."""
        sets = examples.sets(self.conn)
        shown = examples.ordinary_sets(self.conn)
        key = self.selection.key or (shown[-1].key if shown else "")
        all_models = models.all_of(self.conn)
        tokenizers = {model.tokenizer_sha256 for model in all_models}
        seen = (
            tuple((item.key, item.created_at) for item in sets),
            len(all_models),
            tuple(
                examples.encoded_up_to(self.conn, key, tokenizer)
                for tokenizer in sorted(tokenizers)
            ),
        )
        if seen != self._seen:
            self._seen = seen
            self._read_summary()

    def _read_summary(self) -> None:
        selection, project = self.selection, self.lmsi.project
        self.read("summary", lambda conn: self.SummaryRead(read_summary(conn, project, selection)))

    def _select(self, selection: SetSelection) -> None:
        self.selection = selection
        self._read_summary()

    def on_training_set_screen_summary_read(self, message: SummaryRead) -> None:
        """Show the set; the cursor stays on its example if that is still listed."""
        message.stop()
        if message.summary.selection != self.selection:
            return  # the selection has changed meanwhile
        previous, summary = self._position(), message.summary
        is_same = self.summary is not None and self.summary.frozen == summary.frozen
        self.summary = summary
        self.query_one("#top-bar", Static).update(head(summary))
        self.query_one("#formats").display = summary.frozen is not None
        self.query_one("#facts", Static).update(table(summary))
        self.query_one("#text").display = summary.frozen is not None
        cursor = 0
        if is_same and previous is not None and previous in summary.places:
            cursor = summary.places.index(previous)
        lines = self.query_one("#lines", LineList)
        lines.border_title = self._title(summary)
        empty = NO_SET if summary.frozen is None else "No matching example. Press f, v or x."
        lines.show(len(summary.places), self._lines, cursor=cursor, empty=empty)
        if not summary.places:
            self.query_one(ExampleText).show(None, boundaries=False)

    @staticmethod
    def _title(summary: SetSummary) -> str:
        selection = summary.selection
        parts = [f"examples {len(summary.places):,}"]
        if selection.prompt_format is not None:
            parts.append(selection.prompt_format)
        if selection.held is not None:
            parts.append("held out" if selection.held else "trained on")
        if selection.cut:
            parts.append("too long")
        return " · ".join(parts)

    def _lines(self, numbers: range) -> Sequence[Content]:
        summary = self.summary
        assert summary is not None
        assert summary.frozen is not None
        places = [summary.places[number] for number in numbers]
        page = examples.at(self.conn, summary.frozen.key, places)
        encodings: dict[int, Encoding] = {}
        if summary.counted_by is not None:
            tokenizer = summary.counted_by.tokenizer_sha256
            encodings = examples.encodings(self.conn, summary.frozen.key, tokenizer, places)
        by_id = questions.by_ids(self.conn, {example.question_id for example in page.values()})
        return [
            self._line(page[place], encodings.get(place), by_id[page[place].question_id].text)
            for place in places
        ]

    def _line(self, example: Example, encoding: Encoding | None, question: str) -> Content:
        counted_by = self.summary.counted_by if self.summary else None
        limit = counted_by.limit if counted_by else None
        count, is_too_long = "", False
        if encoding is not None:
            tokens = encoding.prompt_tokens + encoding.completion_tokens
            count = f"{encoding.prompt_tokens:,}+{encoding.completion_tokens:,}"
            is_too_long = limit is not None and tokens > limit
        sign = "✗" if is_too_long else "◇" if example.validation else " "
        return Content.assemble(
            (f"{example.position:>6,} ", "dim"),
            (sign, "$text-error" if is_too_long else "$text-warning"),
            f" {SHORT[example.prompt_format]:11} ",
            (f"{count:>10} " if counted_by else "", "$text-muted"),
            (f"×{example.weight:<5.3g} ", "$text-muted"),
            snippet(question, 80),
        )

    # One example.

    def _position(self) -> int | None:
        summary, lines = self.summary, self.query_one("#lines", LineList)
        if summary is None or not 0 <= lines.cursor < len(summary.places):
            return None
        return summary.places[lines.cursor]

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        """Show the example under the cursor."""
        message.stop()
        self._show()

    def on_line_list_chosen(self, message: LineList.Chosen) -> None:
        """Focus the text of the example."""
        message.stop()
        self.query_one("#whole").focus()

    def _show(self) -> None:
        summary, position = self.summary, self._position()
        if summary is None or summary.frozen is None or position is None or summary.style is None:
            return
        key = summary.frozen.key
        example = examples.at(self.conn, key, [position])[position]
        encoding, limits = None, []
        for fit in summary.fits:
            if fit.reason is not None:
                continue
            counted = examples.encodings(self.conn, key, fit.tokenizer_sha256, [position])
            if position not in counted:
                continue
            if fit is summary.counted_by:
                encoding = counted[position]
            tokens = counted[position].prompt_tokens + counted[position].completion_tokens
            if fit.limit is not None and tokens > fit.limit:
                limits.append((fit.name, fit.limit))
        origin = origins.of_example(self.conn, example, summary.frozen.run_id)
        pane = self.query_one(ExampleText)
        pane.border_title = f"example {position:,} · {example.prompt_format}"
        pane.show(
            ShownExample(
                example,
                encoding,
                summary.style,
                origin_facts(origin, summary.sampled),
                tuple(limits),
            ),
            boundaries=self.boundaries,
        )

    # Commands.

    def action_set(self, step: int) -> None:
        """Show another set; a positive step is older."""
        if self.summary is not None and 0 <= self.summary.place + step < len(self.summary.sets):
            self._select(
                replace(self.selection, key=self.summary.sets[self.summary.place + step].key)
            )

    def action_format(self) -> None:
        """Cycle through the formats of the set, then all."""
        if self.summary is not None:
            formats = [None, *(kind.prompt_format for kind in self.summary.kinds)]
            current = self.selection.prompt_format
            at = formats.index(current) if current in formats else 0
            following = formats[(at + 1) % len(formats)]
            self._select(replace(self.selection, prompt_format=following))

    def action_held(self) -> None:
        """Cycle: only held out, only trained on, all."""
        following = {None: True, True: False, False: None}
        self._select(replace(self.selection, held=following[self.selection.held]))

    def action_cut(self) -> None:
        """Show only examples that are too long, or all."""
        self._select(replace(self.selection, cut=not self.selection.cut))

    def action_tokens(self) -> None:
        """Show or hide token boundaries."""
        self.boundaries = not self.boundaries
        self._show()

    def action_learner(self) -> None:
        """Count tokens with the next model's tokenizer."""
        if self.summary is None or self.summary.counted_by is None:
            self.notify("No other model has token counts.", markup=False)
            return
        names = [fit.name for fit in self.summary.fits if fit.reason is None]
        at = names.index(self.summary.counted_by.name)
        self._select(replace(self.selection, model=names[(at + 1) % len(names)]))

    def action_paths(self) -> None:
        """Show all paths of the question."""
        shown = self.query_one(ExampleText).shown
        if shown is None or self.summary is None or self.summary.frozen is None:
            return
        from lmsi_tui.screens.results.question_paths import QuestionPaths, read_question

        sampled = read_question(
            self.conn,
            self.summary.frozen.run_id,
            shown.example.question_id,
            path_id=shown.example.path_id,
        )
        self.app.push_screen(QuestionPaths(sampled))

    def action_copy(self) -> None:
        """Copy the text of the example."""
        if (shown := self.query_one(ExampleText).shown) is not None:
            self.post_message(CopyRequested(plain_text(shown), "the example"))

    def action_open(self) -> None:
        """Open the example in the pager."""
        if (shown := self.query_one(ExampleText).shown) is not None:
            origin = printable(" · ".join(shown.origin))
            self.post_message(PagerRequested(f"{origin}\n\n{plain_text(shown)}\n"))

"""The training set: every example as the model will see it, and where it came from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.containers import Horizontal
from textual.content import Content
from textual.message import Message
from textual.widgets import Footer, Static

from lmsi_tui.formatting.sanitize import printable, snippet
from lmsi_tui.screens.screen import LmsiScreen
from lmsi_tui.shell.commands import Command, declare
from lmsi_tui.shell.messages import TextCopied, TextOpened
from lmsi_tui.widgets.example_text import ExampleText, Shown, origin_facts, plain_text
from lmsi_tui.widgets.line_list import LineList
from lmsi_tui.widgets.set_summary import SetFacts, Wanted, head, read_facts, table
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
    "There is no training set yet. Press c on the home screen (escape) to choose one from the "
    "votes and reviews."
)


class TrainingSetScreen(LmsiScreen):
    """Sets, their formats, and the examples one by one."""

    NAME = "training-set"
    HELP = (
        "What a model is trained on, exactly as it will see it. The prompt is dim and carries no "
        "loss; what is learnt is bold. A set is frozen: another threshold, another review or "
        "another format makes another set."
    )
    CSS_PATH = "training_set.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012 - as Textual has it
    BINDINGS: ClassVar = declare(
        NAME,
        Command("set.format", "f", "format", "format", "Only the next format, then all again."),
        Command("set.cut", "x", "cut", "cut", "Only what is too long for the model, or all."),
        Command("set.tokens", "b", "tokens", "tokens", "Show where each token ends."),
        Command("set.paths", "p", "paths", "paths", "All paths of this example's question."),
        Command("set.copy", "y", "copy", "copy", "Copy the example's text."),
        Command("set.open", "o", "open", "open", "Read the example in your pager."),
        Command("set.older", "right_square_bracket", "set(1)", "older set", "An older set."),
        Command(
            "set.newer", "left_square_bracket", "set(-1)", "newer", "A newer set.", shown=False
        ),
        Command(
            "set.held",
            "v",
            "held",
            "held out",
            "Only what is held out, then only what is learnt from, then all.",
            shown=False,
        ),
        Command(
            "set.learner",
            "m",
            "learner",
            "model",
            "Count tokens as the next model reads them.",
            shown=False,
        ),
    )

    class FactsRead(Message):
        """What the set is was read."""

        def __init__(self, facts: SetFacts) -> None:
            """Args:
            facts: of the set that was wanted.
            """
            self.facts = facts
            super().__init__()

    def __init__(self) -> None:
        super().__init__()
        self.wanted = Wanted()
        self.facts: SetFacts | None = None
        self.boundaries = False
        self._seen: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """A line, a table, the examples, and one of them."""
        yield Static(id="top-bar", markup=False)
        facts = Static(id="facts", classes="pane", markup=False)
        facts.border_title = "formats"
        yield facts
        with Horizontal(id="examples"):
            lines = LineList(id="lines", classes="pane")
            lines.border_title = "examples"
            yield lines
            text = ExampleText(id="text", classes="pane")
            text.border_title = "example"
            yield text
        yield Footer()

    # Reading.

    def reload(self) -> None:
        """Read the set again when sets, models or its tokens have changed."""
        sets = examples.sets(self.conn)
        key = self.wanted.key or (sets[-1].key if sets else "")
        known = models.all_of(self.conn)
        tokenizers = {one.tokenizer_sha256 for one in known}
        seen = (
            tuple((one.key, one.created_at) for one in sets),
            len(known),
            tuple(examples.encoded_up_to(self.conn, key, one) for one in sorted(tokenizers)),
        )
        if seen != self._seen:
            self._seen = seen
            self._ask()

    def _ask(self) -> None:
        wanted, project = self.wanted, self.lmsi.project
        self.read("facts", lambda conn: self.FactsRead(read_facts(conn, project, wanted)))

    def _want(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self._ask()

    def on_training_set_screen_facts_read(self, message: FactsRead) -> None:
        """Show the set; the cursor stays on its example where it is still there."""
        message.stop()
        if message.facts.wanted != self.wanted:
            return  # an answer to what was wanted before
        before, facts = self._position(), message.facts
        same = self.facts is not None and self.facts.frozen == facts.frozen
        self.facts = facts
        self.query_one("#top-bar", Static).update(head(facts))
        shown = self.query_one("#facts", Static)
        shown.display = facts.frozen is not None
        shown.update(table(facts))
        self.query_one("#text").display = facts.frozen is not None
        cursor = 0
        if same and before is not None and before in facts.places:
            cursor = facts.places.index(before)
        lines = self.query_one("#lines", LineList)
        lines.border_title = self._title(facts)
        empty = NO_SET if facts.frozen is None else "No example fits. Press f, v or x for others."
        lines.show(len(facts.places), self._lines, cursor=cursor, empty=empty)
        if not facts.places:
            self.query_one(ExampleText).show(None, boundaries=False)

    @staticmethod
    def _title(facts: SetFacts) -> str:
        wanted = facts.wanted
        parts = [f"examples {len(facts.places):,}"]
        if wanted.prompt_format is not None:
            parts.append(wanted.prompt_format)
        if wanted.held is not None:
            parts.append("held out" if wanted.held else "learnt from")
        if wanted.cut:
            parts.append("too long")
        return " · ".join(parts)

    def _lines(self, numbers: range) -> Sequence[Content]:
        facts = self.facts
        assert facts is not None
        assert facts.frozen is not None
        places = [facts.places[number] for number in numbers]
        found = examples.at(self.conn, facts.frozen.key, places)
        coded: dict[int, Encoding] = {}
        if facts.learner is not None:
            tokenizer = facts.learner.tokenizer_sha256
            coded = examples.encodings(self.conn, facts.frozen.key, tokenizer, places)
        asked = questions.by_ids(self.conn, {one.question_id for one in found.values()})
        return [
            self._line(found[place], coded.get(place), asked[found[place].question_id].text)
            for place in places
        ]

    def _line(self, example: Example, encoding: Encoding | None, asked: str) -> Content:
        facts = self.facts
        limit = facts.learner.limit if facts and facts.learner else None
        count, cut = "", False
        if encoding is not None:
            tokens = encoding.prompt_tokens + encoding.completion_tokens
            count = f"{encoding.prompt_tokens:,}+{encoding.completion_tokens:,}"
            cut = limit is not None and tokens > limit
        sign = "✗" if cut else "◇" if example.validation else " "
        return Content.assemble(
            (f"{example.position:>6,} ", "dim"),
            (sign, "$text-error" if cut else "$text-warning"),
            f" {SHORT[example.prompt_format]:11} ",
            (f"{count:>10} " if facts and facts.learner else "", "$text-muted"),
            (f"×{example.weight:<5.3g} ", "$text-muted"),
            snippet(asked, 80),
        )

    # One example.

    def _position(self) -> int | None:
        facts, lines = self.facts, self.query_one("#lines", LineList)
        if facts is None or not 0 <= lines.cursor < len(facts.places):
            return None
        return facts.places[lines.cursor]

    def on_line_list_moved(self, message: LineList.Moved) -> None:
        """Show the example under the cursor."""
        message.stop()
        self._show()

    def on_line_list_chosen(self, message: LineList.Chosen) -> None:
        """Read the example: the text takes the keys."""
        message.stop()
        self.query_one("#whole").focus()

    def _show(self) -> None:
        facts, position = self.facts, self._position()
        if facts is None or facts.frozen is None or position is None or facts.style is None:
            return
        key = facts.frozen.key
        example = examples.at(self.conn, key, [position])[position]
        encoding, limits = None, []
        for learner in facts.learners:
            if learner.reason is not None:
                continue
            counted = examples.encodings(self.conn, key, learner.tokenizer_sha256, [position]).get(
                position
            )
            if counted is None:
                continue
            if learner is facts.learner:
                encoding = counted
            if learner.limit is not None and (
                counted.prompt_tokens + counted.completion_tokens > learner.limit
            ):
                limits.append((learner.name, learner.limit))
        origin = origins.of_example(self.conn, example, facts.frozen.run_id)
        pane = self.query_one(ExampleText)
        pane.border_title = f"example {position:,} · {example.prompt_format}"
        pane.show(
            Shown(
                example, encoding, facts.style, origin_facts(origin, facts.sampled), tuple(limits)
            ),
            boundaries=self.boundaries,
        )

    # What a person asks for.

    def action_set(self, step: int) -> None:
        """Another set."""
        if self.facts is not None and 0 <= self.facts.place + step < len(self.facts.sets):
            self._want(replace(self.wanted, key=self.facts.sets[self.facts.place + step].key))

    def action_format(self) -> None:
        """The next of the set's formats, then all again."""
        if self.facts is not None:
            formats = [None, *(kind.prompt_format for kind in self.facts.kinds)]
            now = self.wanted.prompt_format
            at = formats.index(now) if now in formats else 0
            wanted = formats[(at + 1) % len(formats)]
            self._want(replace(self.wanted, prompt_format=wanted))

    def action_held(self) -> None:
        """Held out, learnt from, all."""
        following = {None: True, True: False, False: None}
        self._want(replace(self.wanted, held=following[self.wanted.held]))

    def action_cut(self) -> None:
        """Only what is too long, or all."""
        self._want(replace(self.wanted, cut=not self.wanted.cut))

    def action_tokens(self) -> None:
        """Show or hide where tokens end."""
        self.boundaries = not self.boundaries
        self._show()

    def action_learner(self) -> None:
        """Count with another model's tokenizer."""
        if self.facts is None or self.facts.learner is None:
            self.notify("There is no other model whose tokens are counted.", markup=False)
            return
        names = [one.name for one in self.facts.learners if one.reason is None]
        at = names.index(self.facts.learner.name)
        self._want(replace(self.wanted, learner=names[(at + 1) % len(names)]))

    def action_paths(self) -> None:
        """All paths of the question."""
        shown = self.query_one(ExampleText).shown
        if shown is None or self.facts is None or self.facts.frozen is None:
            return
        from lmsi_tui.screens.results.question_paths import QuestionPaths, read_question

        found = read_question(
            self.conn,
            self.facts.frozen.run_id,
            shown.example.question_id,
            path_id=shown.example.path_id,
        )
        self.app.push_screen(QuestionPaths(found))

    def action_copy(self) -> None:
        """Copy the example."""
        if (shown := self.query_one(ExampleText).shown) is not None:
            self.post_message(TextCopied(plain_text(shown), "the example"))

    def action_open(self) -> None:
        """Read the example elsewhere."""
        if (shown := self.query_one(ExampleText).shown) is not None:
            origin = printable(" · ".join(shown.origin))
            self.post_message(TextOpened(f"{origin}\n\n{plain_text(shown)}\n"))

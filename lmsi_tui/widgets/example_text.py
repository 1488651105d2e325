"""An example as the model will see it: every character, every token, and which carry the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from lmsi_tui.formatting.sanitize import printable, snippet
from store.enums import PromptStyle, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.app import ComposeResult

    from store.origins import Origin
    from store.records import Encoding, Example

PROMPT, LOSS = "$text-muted", "bold $text-success"
"""The prompt is dim, what carries the loss is bold: told apart without colour, too."""
END = "⏹"
"""Stands for the end token where its own name is not known."""


@dataclass(frozen=True, slots=True)
class Shown:
    """One example with all that is told about it."""

    example: Example
    encoding: Encoding | None
    """`None` where its tokens were not counted."""
    style: PromptStyle
    origin: tuple[str, ...]
    """Where it came from, short facts."""
    limits: tuple[tuple[str, int], ...] = ()
    """(model, most tokens) of each model that would leave it out for its length."""


class ExampleText(Vertical):
    """The text of one example, begun at its own question: worked examples lie above."""

    DEFAULT_CSS = """
    ExampleText { height: 1fr; }
    ExampleText > #told { height: auto; max-height: 50%; padding-bottom: 1; }
    ExampleText > #whole { height: 1fr; scrollbar-size-vertical: 1; }
    ExampleText #shared, ExampleText #own { height: auto; }
    """

    shown: Shown | None = None
    boundaries = False

    def compose(self) -> ComposeResult:
        """What is told, then the worked examples, then what belongs to this example."""
        yield Static(id="told", markup=False)
        with VerticalScroll(id="whole"):
            yield Static(id="shared", markup=False)
            yield Static(id="own", markup=False)

    def show(self, shown: Shown | None, *, boundaries: bool) -> None:
        """Show another example, or none."""
        self.shown, self.boundaries = shown, boundaries
        parts = (Content(""),) * 3
        if shown is not None:
            parts = (told(shown, boundaries), *drawn(shown, boundaries))
        for name, part in zip(("told", "shared", "own"), parts, strict=True):
            self.query_one(f"#{name}", Static).update(part)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        """Go to the top, or to the question where worked examples would hide it."""
        own, whole = self.query_one("#own"), self.query_one("#whole")
        above = own.virtual_region.y
        fits = above + own.virtual_region.height <= whole.scrollable_content_region.height
        whole.scroll_to(y=0 if fits else above, animate=False)


def origin_facts(origin: Origin, model: str) -> tuple[str, ...]:
    """Where an example came from, as short facts.

    Args:
        origin: of the example.
        model: name of the model that was sampled.
    """
    facts = [f"{snippet(origin.question.source, 40)} #{origin.question.position}"]
    facts.append("the answer alone" if origin.path_index is None else f"path {origin.path_index}")
    if (vote := origin.vote) is not None:
        early = f", {vote.drawn} drawn" if vote.drawn < vote.m else ""
        answer = snippet(vote.winner or "no one answer", 40)
        facts.append(f"{vote.top} of {vote.m} paths agree on {answer}{early}")
    undone = {one.undoes for one in origin.reviews if one.verdict is Verdict.UNDO}
    reviewed = [
        f"{one.queue}: {one.verdict}" + (f" {snippet(one.answer, 40)}" if one.answer else "")
        for one in origin.reviews
        if one.verdict is not Verdict.UNDO and one.id not in undone
    ]
    return (*facts, *(reviewed or ["not reviewed"]), f"run {origin.run_id} of {snippet(model, 40)}")


def told(shown: Shown, boundaries: bool) -> Content:
    """Its counts, and where it came from."""
    example, encoding = shown.example, shown.encoding
    lines = [Content.styled(" · ".join(map(printable, shown.origin)), "$text-muted")]
    if encoding is None:
        parts: list[Content | tuple[str, str]] = [("prompt: no loss", PROMPT), ("   loss", LOSS)]
    else:
        parts = [
            (f"prompt {encoding.prompt_tokens:,} tokens, no loss", PROMPT),
            (f"   {encoding.completion_tokens:,} tokens carry the loss", LOSS),
        ]
    parts.append(Content(f"   weight {example.weight:g}"))
    if example.validation:
        parts.append(("   held out: not learnt from, chooses the checkpoint", "$text-warning"))
    lines.append(Content.assemble(*parts))
    for model, limit in shown.limits:
        words = f"left out for {model}: longer than its {limit:,} tokens"
        lines.append(Content.styled(printable(words), "$text-error"))
    if boundaries and (encoding is None or encoding.pieces is None):
        why = "the first 100 of each format" if encoding else "models that can be trained"
        lines.append(Content.styled(f"Token boundaries are kept for {why}.", "$text-warning"))
    elif boundaries:
        lines.append(Content.styled("Every second token is underlined and shaded.", "$text-muted"))
    return Content("\n").join(lines)


def drawn(shown: Shown, boundaries: bool) -> tuple[Content, Content]:
    """(worked examples, the example itself); worked examples are empty where there are none."""
    example, encoding = shown.example, shown.encoding
    if encoding is None or encoding.pieces is None:
        end = Content.styled(f" {END}", LOSS)
        shared = example.shared if example.prompt[: example.shared].endswith("\n") else 0
        return (
            # Its last line break is the one between the two widgets.
            Content.styled(printable(example.prompt[: max(0, shared - 1)]), PROMPT),
            Content.assemble(
                (printable(example.prompt[shared:]), PROMPT),
                (printable(example.completion), LOSS),
                end,
            ),
        )
    prompt = encoding.pieces[: encoding.prompt_tokens]
    completion = encoding.pieces[encoding.prompt_tokens :]
    cut = _pieces_before(prompt, example, shown.style)
    return (
        _tokens(prompt[:cut], PROMPT, boundaries).right_crop(1) if cut else Content(""),
        Content.assemble(
            _tokens(prompt[cut:], PROMPT, boundaries, first=cut),
            _tokens(completion, LOSS, boundaries, first=len(prompt)),
        ),
    )


def plain_text(shown: Shown) -> str:
    """The whole text, as the model will see it where its tokens are known."""
    pieces = shown.encoding.pieces if shown.encoding else None
    return "".join(pieces) if pieces else shown.example.prompt + shown.example.completion


def _pieces_before(prompt: tuple[str, ...], example: Example, style: PromptStyle) -> int:
    """How many tokens the worked examples are; 0 for a chat, whose template decides."""
    if style is PromptStyle.CHAT or not example.shared:
        return 0
    # A start token may stand before the text, so it is measured from its end.
    left = len("".join(prompt)) - (len(example.prompt) - example.shared)
    for number, piece in enumerate(prompt):
        if left <= 0:
            # Only a line break can become the edge between two widgets.
            return number if number and prompt[number - 1].endswith("\n") else 0
        left -= len(piece)
    return 0


def _tokens(pieces: Iterable[str], style: str, boundaries: bool, *, first: int = 0) -> Content:
    if not boundaries:
        return Content.styled(printable("".join(pieces)), style)
    return Content.assemble(
        *(
            (
                printable(piece).replace("\n", "↵\n"),
                f"{style} on $panel underline" if (first + number) % 2 else style,
            )
            for number, piece in enumerate(pieces)
        )
    )

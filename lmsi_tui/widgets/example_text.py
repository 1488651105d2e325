"""A training example as the model sees it: characters, tokens, and which carry the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widgets import Static

from lmsi_tui.formatting.sanitize import LONGEST, excerpt, printable, snippet
from store.counted import counted
from store.enums import PromptStyle, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual.app import ComposeResult

    from store.origins import Origin
    from store.records import Encoding, Example

PROMPT, LOSS = "$text-muted", "bold $text-success"
"""Styles of the prompt and of the completion; distinguishable without color, too."""
END = "⏹"
"""Placeholder for the end token if its text is unknown."""


@dataclass(frozen=True, slots=True)
class ShownExample:
    """An example with everything that is shown about it."""

    example: Example
    encoding: Encoding | None
    """None if its tokens were not counted."""
    style: PromptStyle
    origin: tuple[str, ...]
    """Facts about its origin."""
    limits: tuple[tuple[str, int], ...] = ()
    """(model, context length) of each model that would leave it out for its length."""


class ExampleText(Vertical):
    """The text of an example, scrolled to its question below the worked examples."""

    DEFAULT_CSS = """
    ExampleText { height: 1fr; }
    ExampleText > #about { height: auto; max-height: 50%; padding-bottom: 1; }
    ExampleText > #whole { height: 1fr; scrollbar-size-vertical: 1; }
    ExampleText #shared, ExampleText #own { height: auto; }
    """

    shown: ShownExample | None = None
    boundaries = False

    def compose(self) -> ComposeResult:
        """The facts, the worked examples, the example itself."""
        yield Static(id="about", markup=False)
        with VerticalScroll(id="whole"):
            yield Static(id="shared", markup=False)
            yield Static(id="own", markup=False)

    def show(self, shown: ShownExample | None, *, boundaries: bool) -> None:
        """Show another example, or none."""
        self.shown, self.boundaries = shown, boundaries
        parts = (Content(""),) * 3
        if shown is not None:
            parts = (about(shown, boundaries), *example_content(shown, boundaries))
        for name, part in zip(("about", "shared", "own"), parts, strict=True):
            self.query_one(f"#{name}", Static).update(part)
        self.call_after_refresh(self._scroll_to_question)

    def _scroll_to_question(self) -> None:
        """Scroll to the top, or to the question if the worked examples would hide it."""
        own, whole = self.query_one("#own"), self.query_one("#whole")
        above = own.virtual_region.y
        fits = above + own.virtual_region.height <= whole.scrollable_content_region.height
        whole.scroll_to(y=0 if fits else above, animate=False)


def origin_facts(origin: Origin, model: str) -> tuple[str, ...]:
    """Short facts about the origin of an example.

    Args:
        origin: the origin.
        model: name of the sampled model.
    """
    facts = [f"{snippet(origin.question.source, 40)} #{origin.question.position}"]
    facts.append("answer only" if origin.path_index is None else f"path {origin.path_index}")
    if (vote := origin.vote) is not None:
        early = f", {vote.drawn} sampled" if vote.drawn < vote.m else ""
        answer = snippet(vote.winner or "no answer", 40)
        facts.append(f"{vote.top} of {counted(vote.m, 'path')} agree on {answer}{early}")
    undone = {review.undoes for review in origin.reviews if review.verdict is Verdict.UNDO}
    reviewed = [
        f"{review.queue}: {review.verdict}"
        + (f" {snippet(review.answer, 40)}" if review.answer else "")
        for review in origin.reviews
        if review.verdict is not Verdict.UNDO and review.id not in undone
    ]
    return (*facts, *(reviewed or ["not reviewed"]), f"run {origin.run_id} of {snippet(model, 40)}")


def about(shown: ShownExample, boundaries: bool) -> Content:
    """The origin and the token counts of an example."""
    example, encoding = shown.example, shown.encoding
    lines = [Content.styled(" · ".join(map(printable, shown.origin)), "$text-muted")]
    if encoding is None:
        parts: list[Content | tuple[str, str]] = [("prompt: no loss", PROMPT), ("   loss", LOSS)]
    else:
        parts = [
            (f"prompt {counted(encoding.prompt_tokens, 'token')}, no loss", PROMPT),
            (f"   {counted(encoding.completion_tokens, 'token')} carry the loss", LOSS),
        ]
    parts.append(Content(f"   weight {example.weight:g}"))
    if example.validation:
        parts.append(("   held out: not trained on; selects the checkpoint", "$text-warning"))
    lines.append(Content.assemble(*parts))
    for model, limit in shown.limits:
        reason = f"left out for {model}: longer than its {counted(limit, 'token')}"
        lines.append(Content.styled(printable(reason), "$text-error"))
    if boundaries and (encoding is None or encoding.pieces is None):
        which = "the first 100 of each format" if encoding else "models that can be trained"
        lines.append(
            Content.styled(f"Token boundaries are stored only for {which}.", "$text-warning")
        )
    elif boundaries:
        lines.append(Content.styled("Every second token is underlined and shaded.", "$text-muted"))
    return Content("\n").join(lines)


def example_content(shown: ShownExample, boundaries: bool) -> tuple[Content, Content]:
    """(worked examples, the example itself); the first is empty if there are none."""
    example, encoding = shown.example, shown.encoding
    if encoding is None or encoding.pieces is None:
        end = Content.styled(f" {END}", LOSS)
        shared = example.shared if example.prompt[: example.shared].endswith("\n") else 0
        return (
            # The last line break is that between the two widgets.
            Content.styled(excerpt(example.prompt[: max(0, shared - 1)]), PROMPT),
            Content.assemble(
                (excerpt(example.prompt[shared:]), PROMPT),
                (excerpt(example.completion), LOSS),
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


def plain_text(shown: ShownExample) -> str:
    """The whole text; exactly as the model sees it if its tokens are known."""
    pieces = shown.encoding.pieces if shown.encoding else None
    return "".join(pieces) if pieces else shown.example.prompt + shown.example.completion


def _pieces_before(prompt: tuple[str, ...], example: Example, style: PromptStyle) -> int:
    """Number of tokens of the worked examples; 0 for chats, whose template moves them."""
    if style is PromptStyle.CHAT or not example.shared:
        return 0
    # Count from the end, because a start token may precede the text.
    left = len("".join(prompt)) - (len(example.prompt) - example.shared)
    for number, piece in enumerate(prompt):
        if left <= 0:
            # Only a line break can become the edge between two widgets.
            return number if number and prompt[number - 1].endswith("\n") else 0
        left -= len(piece)
    return 0


def _tokens(pieces: Iterable[str], style: str, boundaries: bool, *, first: int = 0) -> Content:
    pieces = tuple(pieces)
    if not boundaries or len(pieces) > LONGEST:
        return Content.styled(excerpt("".join(pieces)), style)
    return Content.assemble(
        *(
            (
                printable(piece).replace("\n", "↵\n"),
                f"{style} on $panel underline" if (first + number) % 2 else style,
            )
            for number, piece in enumerate(pieces)
        )
    )

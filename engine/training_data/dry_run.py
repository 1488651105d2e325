"""What a training would learn, before it starts: tokens, labels, and examples that are too long.

Everything is read from the tokens that were counted when the set was frozen, with the code that
trains on them. No model is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.training_data import token_counts
from engine.training_data.student_prompts import tokens_key
from store import examples

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project
    from store.enums import PromptFormat
    from store.records import Model, TrainingSet

SHOWN = 3
"""Examples that are shown, of as many formats as possible."""
LISTED = 5
"""Examples beyond the context length that are listed; the others are counted."""


@dataclass(frozen=True, slots=True)
class LabeledExample:
    """An example as the text of each of its tokens, in order."""

    position: int
    """In the set."""
    prompt_format: PromptFormat
    prompt: tuple[str, ...]
    """Tokens without loss."""
    completion: tuple[str, ...]
    """Tokens with loss; the last one is the end token."""


@dataclass(frozen=True, slots=True)
class DryRun:
    """What one model would be trained on."""

    model: str
    reason: str | None
    """Why its tokens are not known; None if they are."""
    context: int | None = None
    """Maximum number of tokens of an example; None if the model does not say."""
    shown: tuple[LabeledExample, ...] = ()
    too_long: int = 0
    """Number of examples longer than the context."""
    longest: tuple[tuple[int, int], ...] = ()
    """(position in the set, tokens) of the first `LISTED` of them."""


def dry_run(
    conn: sqlite3.Connection, project: Project, frozen: TrainingSet, model: Model
) -> DryRun:
    """Show what a model would be trained on. Scans the set: call it from a thread."""
    reason = token_counts.why_not_counted(project, model)
    tokenizer = tokens_key(conn, project, project.settings, frozen, model)
    if reason is None and examples.encoded_up_to(conn, frozen.key, tokenizer) < frozen.examples:
        reason = f"The tokens of {model.name} are not all counted yet: run `lmsi-tui curate` again."
    if reason is not None:
        return DryRun(model.name, reason)
    context = token_counts.context_of(project, model)
    too_long = (
        examples.positions(conn, frozen.key, longer_than=context, tokenizer_sha256=tokenizer)
        if context is not None
        else ()
    )
    listed = examples.encodings(conn, frozen.key, tokenizer, too_long[:LISTED])
    return DryRun(
        model.name,
        None,
        context,
        shown=_shown(conn, frozen, tokenizer),
        too_long=len(too_long),
        longest=tuple(
            (position, encoding.prompt_tokens + encoding.completion_tokens)
            for position, encoding in sorted(listed.items())
        ),
    )


def _shown(
    conn: sqlite3.Connection, frozen: TrainingSet, tokenizer: str
) -> tuple[LabeledExample, ...]:
    """The first example of each format, then the second ones, as far as their text was stored."""
    by_format = [
        list(examples.positions(conn, frozen.key, prompt_format=prompt_format)[:SHOWN])
        for prompt_format in frozen.formats
    ]
    positions = [
        of_format[number]
        for number in range(SHOWN)
        for of_format in by_format
        if number < len(of_format)
    ][:SHOWN]
    rows = examples.at(conn, frozen.key, positions)
    encodings = examples.encodings(conn, frozen.key, tokenizer, positions)
    return tuple(
        LabeledExample(
            position,
            rows[position].prompt_format,
            encoding.pieces[: encoding.prompt_tokens],
            encoding.pieces[encoding.prompt_tokens :],
        )
        for position in positions
        if (encoding := encodings[position]).pieces is not None
    )

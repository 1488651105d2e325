"""What a training is going to learn, looked at before it starts: tokens, labels, and what is long.

Read from the tokens that were counted when the set was frozen, by the code that trains on them.
Nothing is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.training import token_counts
from store import examples

if TYPE_CHECKING:
    import sqlite3

    from engine.project.folder import Project
    from store.enums import PromptFormat
    from store.records import Model, TrainingSet

SHOWN = 3
"""Examples that are shown, of as many formats as there are."""
LISTED = 5
"""Examples that do not fit and are listed; the others are counted."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """An example as tokens; the text of each, in order."""

    position: int
    """In the set."""
    prompt_format: PromptFormat
    prompt: tuple[str, ...]
    """These carry no loss."""
    completion: tuple[str, ...]
    """These carry the loss; the last one is the end token."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What one model would be trained on."""

    model: str
    reason: str | None
    """Why its tokens are not known; None when they are."""
    context: int | None = None
    """Most tokens of an example; None when the model does not say it."""
    shown: tuple[Labelled, ...] = ()
    too_long: int = 0
    """Examples that do not fit into the context."""
    longest: tuple[tuple[int, int], ...] = ()
    """(position in the set, tokens) of the first of them."""


def preflight(
    conn: sqlite3.Connection, project: Project, frozen: TrainingSet, model: Model
) -> Preflight:
    """Look at what a model would be trained on; a scan of the set, for a thread."""
    reason = token_counts.why_not_counted(project, model)
    tokenizer = model.tokenizer_sha256
    if reason is None and examples.encoded_up_to(conn, frozen.key, tokenizer) < frozen.examples:
        reason = f"The tokens of {model.name} are not all counted yet: curate once more."
    if reason is not None:
        return Preflight(model.name, reason)
    context = token_counts.context_of(project, model)
    long = (
        examples.positions(conn, frozen.key, longer_than=context, tokenizer_sha256=tokenizer)
        if context is not None
        else ()
    )
    counted = examples.encodings(conn, frozen.key, tokenizer, long[:LISTED])
    return Preflight(
        model.name,
        None,
        context,
        shown=_shown(conn, frozen, tokenizer),
        too_long=len(long),
        longest=tuple(
            (place, one.prompt_tokens + one.completion_tokens)
            for place, one in sorted(counted.items())
        ),
    )


def _shown(conn: sqlite3.Connection, frozen: TrainingSet, tokenizer: str) -> tuple[Labelled, ...]:
    """The first example of each format, then second ones, as far as their text was kept."""
    of_format = [
        list(examples.positions(conn, frozen.key, prompt_format=one)[:SHOWN])
        for one in frozen.formats
    ]
    places = [one[n] for n in range(SHOWN) for one in of_format if n < len(one)][:SHOWN]
    rows = examples.at(conn, frozen.key, places)
    coded = examples.encodings(conn, frozen.key, tokenizer, places)
    return tuple(
        Labelled(
            place,
            rows[place].prompt_format,
            one.pieces[: one.prompt_tokens],
            one.pieces[one.prompt_tokens :],
        )
        for place in places
        if (one := coded[place]).pieces is not None
    )

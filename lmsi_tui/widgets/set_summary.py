"""What a training set is, in a few lines: its formats, its tokens, what is cut, who learnt it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from engine.training_data import token_counts
from lmsi_tui.formatting.sanitize import printable
from store import examples, models, paths

if TYPE_CHECKING:
    import sqlite3
    from array import array

    from engine.project.folder import Project
    from store.enums import PromptFormat, PromptStyle
    from store.examples import FormatCounts
    from store.records import Model, TrainingSet


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which part of which set a person looks at."""

    key: str = ""
    """Of the set; empty for the newest."""
    prompt_format: PromptFormat | None = None
    held: bool | None = None
    """Only those held out, or only those learnt from."""
    cut: bool = False
    """Only those that are too long for the learner."""
    learner: str = ""
    """Name of the model that counts the tokens; empty for the first that can."""


@dataclass(frozen=True, slots=True)
class Learner:
    """A model that the set may train."""

    name: str
    tokenizer_sha256: str
    limit: int | None
    """Most tokens of an example; None when its folder does not say it."""
    too_long: int
    """Examples with more."""
    reason: str | None
    """Why its tokens are not counted; None when they are."""


@dataclass(frozen=True, slots=True)
class SetFacts:
    """One training set among all, as it is shown."""

    wanted: Wanted
    sets: tuple[TrainingSet, ...]
    """Newest first; empty when there is none."""
    place: int
    """Of the set that is shown, in `sets`."""
    kinds: tuple[FormatCounts, ...]
    learners: tuple[Learner, ...]
    learner: Learner | None
    """The one that counts the tokens."""
    trained: tuple[str, ...]
    """Names of the models that were trained on it."""
    sampled: str
    """Name of the model whose paths it holds."""
    style: PromptStyle | None
    places: array[int] | range
    """Examples that fit what is wanted."""

    @property
    def frozen(self) -> TrainingSet | None:
        """The set that is shown."""
        return self.sets[self.place] if self.sets else None


def read_facts(conn: sqlite3.Connection, project: Project, wanted: Wanted) -> SetFacts:
    """Read what is wanted; reads every place of a set, so it is for a thread."""
    sets = tuple(examples.sets(conn)[::-1])
    if not sets:
        return SetFacts(wanted, (), 0, (), (), None, (), "", None, range(0))
    place = next((at for at, one in enumerate(sets) if one.key == wanted.key), 0)
    frozen = sets[place]
    run = paths.run_by_id(conn, frozen.run_id)
    learners = tuple(
        _learner(conn, project, frozen, model)
        for model in token_counts.trained_models(conn, project)
    )
    counting = [one for one in learners if one.reason is None]
    named = [one for one in counting if one.name == wanted.learner]
    learner = next(iter([*named, *counting]), None)
    tokenizer = learner.tokenizer_sha256 if learner else ""
    limit = learner.limit if learner else None
    narrowed = wanted.prompt_format is not None or wanted.held is not None or wanted.cut
    places: array[int] | range = range(frozen.examples)
    if narrowed:
        places = examples.positions(
            conn,
            frozen.key,
            prompt_format=wanted.prompt_format,
            validation=wanted.held,
            longer_than=(limit or 2**62) if wanted.cut else None,
            tokenizer_sha256=tokenizer,
        )
    return SetFacts(
        wanted=wanted,
        sets=sets,
        place=place,
        kinds=tuple(examples.format_counts(conn, frozen.key, tokenizer, limit)),
        learners=learners,
        learner=learner,
        trained=tuple(one.name for one in models.all_of(conn) if one.training_set == frozen.key),
        sampled=models.by_id(conn, run.model_id).name,
        style=run.prompt_style,
        places=places,
    )


def _learner(
    conn: sqlite3.Connection, project: Project, frozen: TrainingSet, model: Model
) -> Learner:
    limit = token_counts.context_of(project, model)
    tokenizer, too_long, reason = model.tokenizer_sha256, 0, None
    if not examples.encoded_up_to(conn, frozen.key, tokenizer):
        reason = token_counts.why_not_counted(project, model) or (
            f"Tokens of {model.name} are not counted yet: curate again to count them."
        )
    elif limit is not None:
        too_long = sum(
            one.too_long for one in examples.format_counts(conn, frozen.key, tokenizer, limit)
        )
    return Learner(model.name, tokenizer, limit, too_long, reason)


def kind_words(frozen: TrainingSet) -> str:
    """Whether a person had a part in it."""
    return "label-free" if frozen.label_free else "human-assisted"


def head(facts: SetFacts) -> Content:
    """One line: which set this is."""
    frozen = facts.frozen
    if frozen is None:
        return Content("training set")
    return Content.assemble(
        ("training set ", "bold $accent"),
        (frozen.key[:10], "bold"),
        f"  {facts.place + 1} of {len(facts.sets)}, newest first  " if facts.sets[1:] else "  ",
        (kind_words(frozen), "bold $text-success" if frozen.label_free else "bold $text-warning"),
        f"  {frozen.questions:,} questions · {frozen.examples:,} examples"
        f" · agreement ≥ {printable(frozen.threshold)}"
        f" · {f'at most {frozen.cap} paths' if frozen.cap else 'every path'}"
        f" · {frozen.weighting}",
    )


def table(facts: SetFacts) -> Content:
    """A row for each format, then what is cut and who was trained."""
    rows = [Content.styled(_row(_TITLES), "$text-muted")]
    for kind in facts.kinds:
        counted = max(1, kind.encoded)
        tokens: tuple[str, ...] = ("–",) * 4
        if kind.encoded:
            tokens = (
                f"{kind.prompt_tokens / counted:,.0f}",
                f"{kind.completion_tokens / counted:,.0f}",
                f"{kind.longest:,}",
                f"{kind.too_long:,}",
            )
        cells = (
            kind.prompt_format,
            f"{kind.examples:,}",
            f"{kind.validation:,}",
            f"{kind.weight:,.5g}",
            *tokens,
        )
        chosen = kind.prompt_format is facts.wanted.prompt_format
        rows.append(Content.styled(_row(cells), "bold reverse" if chosen else ""))
    rows += [Content.styled(printable(line), style) for line, style in _notes(facts)]
    return Content("\n").join(rows)


_TITLES = ("format", "examples", "held out", "weight", "prompt", "loss", "longest", "cut")
_WIDTHS = (-16, 10, 10, 9, 8, 6, 9, 6)
"""Columns of each; negative ones are set flush left. Together no wider than 80 columns bear."""


def _row(cells: tuple[str, ...]) -> str:
    return "".join(
        f"{cell:<{-width}}" if width < 0 else f"{cell:>{width}}"
        for cell, width in zip(cells, _WIDTHS, strict=True)
    )


def _notes(facts: SetFacts) -> list[tuple[str, str]]:
    notes = []
    if facts.learner is not None:
        loss = sum(kind.completion_tokens for kind in facts.kinds)
        notes.append(
            (
                f"Mean tokens of {facts.learner.name}; {loss:,} tokens carry the loss.",
                "$text-muted",
            )
        )
    fitting: dict[int, list[str]] = {}
    for one in facts.learners:
        if one.reason is not None:
            notes.append((one.reason, "$text-muted"))
        elif one.too_long:
            notes.append(
                (
                    f"✗ {one.too_long:,} examples are longer than the {one.limit:,} tokens of "
                    f"{one.name} and would be left out.",
                    "$text-error",
                )
            )
        elif one.limit is not None:
            fitting.setdefault(one.limit, []).append(one.name)
    for limit, learners in fitting.items():
        notes.append(
            (f"✓ All fit into the {limit:,} tokens of {', '.join(learners)}.", "$text-success")
        )
    names = ", ".join(facts.trained)
    notes.append(
        (
            f"Paths of {facts.sampled}. Trained on it: {names}."
            if names
            else f"Paths of {facts.sampled}. No model was trained on it yet.",
            "",
        )
    )
    return notes

"""The summary of a training set: formats, token counts, what is too long, trained models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from textual.content import Content

from engine.training_data import token_counts
from engine.training_data.selection import describe_weights
from engine.training_data.student_prompts import tokens_key
from lmsi_tui.formatting.sanitize import printable
from store import examples, models, paths
from store.counted import counted

if TYPE_CHECKING:
    import sqlite3
    from array import array

    from engine.project.folder import Project
    from store.enums import PromptFormat, PromptStyle
    from store.examples import FormatCounts
    from store.records import Model, TrainingSet


@dataclass(frozen=True, slots=True)
class SetSelection:
    """Which part of which training set to show."""

    key: str = ""
    """Key of the set; empty for the newest."""
    prompt_format: PromptFormat | None = None
    held: bool | None = None
    """True for held-out examples only, False for the others only, None for all."""
    cut: bool = False
    """Only examples that are too long for the model."""
    model: str = ""
    """Name of the model whose tokenizer counts; empty for the first that can."""


@dataclass(frozen=True, slots=True)
class ModelFit:
    """How the examples of a set fit the context of a model that may be trained on it."""

    name: str
    tokenizer_sha256: str
    """Under which its tokens are counted."""
    limit: int | None
    """Context length in tokens; None if its folder does not state it."""
    too_long: int
    """Number of examples with more tokens."""
    reason: str | None
    """Why its tokens are not counted; None if they are."""


@dataclass(frozen=True, slots=True)
class SetSummary:
    """The selected training set."""

    selection: SetSelection
    sets: tuple[TrainingSet, ...]
    """All sets, newest first; those of arms after the others."""
    place: int
    """Index of the selected set in `sets`."""
    kinds: tuple[FormatCounts, ...]
    fits: tuple[ModelFit, ...]
    counted_by: ModelFit | None
    """The model whose tokenizer counts the tokens."""
    trained: tuple[str, ...]
    """Names of the models that were trained on the set."""
    sampled: str
    """Name of the model whose paths the set holds."""
    style: PromptStyle | None
    places: array[int] | range
    """Positions of the selected examples."""

    @property
    def frozen(self) -> TrainingSet | None:
        """The selected set; None if there are no sets."""
        return self.sets[self.place] if self.sets else None


def read_summary(conn: sqlite3.Connection, project: Project, selection: SetSelection) -> SetSummary:
    """Read the summary; reads all positions of a set, so run it in a thread."""
    stored = examples.sets(conn)[::-1]
    sets = tuple(sorted(stored, key=lambda frozen: frozen.arm is not None))
    if not sets:
        return SetSummary(selection, (), 0, (), (), None, (), "", None, range(0))
    place = next((at for at, item in enumerate(sets) if item.key == selection.key), 0)
    frozen = sets[place]
    run = paths.run_by_id(conn, frozen.run_id)
    fits = tuple(
        _model_fit(conn, project, frozen, model)
        for model in token_counts.trained_models(conn, project)
    )
    known = [fit for fit in fits if fit.reason is None]
    named = [fit for fit in known if fit.name == selection.model]
    counted_by = next(iter([*named, *known]), None)
    tokenizer = counted_by.tokenizer_sha256 if counted_by else ""
    limit = counted_by.limit if counted_by else None
    is_filtered = selection.prompt_format is not None or selection.held is not None or selection.cut
    places: array[int] | range = range(frozen.examples)
    if is_filtered:
        places = examples.positions(
            conn,
            frozen.key,
            prompt_format=selection.prompt_format,
            validation=selection.held,
            longer_than=(limit or 2**62) if selection.cut else None,
            tokenizer_sha256=tokenizer,
        )
    return SetSummary(
        selection=selection,
        sets=sets,
        place=place,
        kinds=tuple(examples.format_counts(conn, frozen.key, tokenizer, limit)),
        fits=fits,
        counted_by=counted_by,
        trained=tuple(
            model.name for model in models.all_of(conn) if model.training_set == frozen.key
        ),
        sampled=models.by_id(conn, run.model_id).name,
        style=run.prompt_style,
        places=places,
    )


def _model_fit(
    conn: sqlite3.Connection, project: Project, frozen: TrainingSet, model: Model
) -> ModelFit:
    limit = token_counts.context_of(project, model)
    tokenizer = tokens_key(conn, project, project.settings, frozen, model)
    too_long, reason = 0, None
    if not examples.encoded_up_to(conn, frozen.key, tokenizer):
        reason = token_counts.why_not_counted(project, model) or (
            f"Tokens of {model.name} are not counted yet; curate again to count them."
        )
    elif limit is not None:
        too_long = sum(
            counts.too_long for counts in examples.format_counts(conn, frozen.key, tokenizer, limit)
        )
    return ModelFit(model.name, tokenizer, limit, too_long, reason)


def set_kind(frozen: TrainingSet) -> str:
    """Whether reviews had a part in the set; of an arm of a study, the arm."""
    if frozen.arm is not None:
        return f"arm {frozen.arm}"
    return "label-free" if frozen.label_free else "human-assisted"


def head(summary: SetSummary) -> Content:
    """The set on one line."""
    frozen = summary.frozen
    if frozen is None:
        return Content("training set")
    position = "  "
    if len(summary.sets) > 1:
        position = f"  {summary.place + 1} of {len(summary.sets)}, newest first  "
    return Content.assemble(
        ("training set ", "bold $accent"),
        (frozen.key[:10], "bold"),
        position,
        (set_kind(frozen), "bold $text-success" if frozen.label_free else "bold $text-warning"),
        f"  {counted(frozen.questions, 'question')} · {counted(frozen.examples, 'example')}"
        f" · agreement ≥ {printable(frozen.threshold)}"
        f" · {'at most ' + counted(frozen.cap, 'path') if frozen.cap else 'every path'}"
        f" · {describe_weights(frozen)}",
    )


def table(summary: SetSummary) -> Content:
    """One row per format, then remarks on lengths and trained models."""
    rows = [Content.styled(_row(_TITLES), "$text-muted")]
    for kind in summary.kinds:
        encoded = max(1, kind.encoded)
        tokens: tuple[str, ...] = ("–",) * 4
        if kind.encoded:
            tokens = (
                f"{kind.prompt_tokens / encoded:,.0f}",
                f"{kind.completion_tokens / encoded:,.0f}",
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
        is_selected = kind.prompt_format is summary.selection.prompt_format
        rows.append(Content.styled(_row(cells), "bold reverse" if is_selected else ""))
    rows += [Content.styled(printable(line), style) for line, style in _notes(summary)]
    return Content("\n").join(rows)


_TITLES = ("format", "examples", "held out", "weight", "prompt", "loss", "longest", "too long")
_WIDTHS = (-16, 9, 9, 9, 8, 6, 8, 9)
"""Column widths; negative ones are left-aligned. Their sum fits a pane of 80 columns."""


def _row(cells: tuple[str, ...]) -> str:
    return "".join(
        f"{cell:<{-width}}" if width < 0 else f"{cell:>{width}}"
        for cell, width in zip(cells, _WIDTHS, strict=True)
    )


def _notes(summary: SetSummary) -> list[tuple[str, str]]:
    notes = []
    if summary.counted_by is not None:
        loss = sum(kind.completion_tokens for kind in summary.kinds)
        notes.append(
            (
                f"Mean tokens of {summary.counted_by.name}; {counted(loss, 'token')} carry the "
                "loss.",
                "$text-muted",
            )
        )
    fitting: dict[int, list[str]] = {}
    for fit in summary.fits:
        if fit.reason is not None:
            notes.append((fit.reason, "$text-muted"))
        elif fit.too_long:
            notes.append(
                (
                    f"✗ {counted(fit.too_long, 'example is', 'examples are')} longer than the "
                    f"{fit.limit:,} tokens of {fit.name}: left out.",
                    "$text-error",
                )
            )
        elif fit.limit is not None:
            fitting.setdefault(fit.limit, []).append(fit.name)
    for limit, names in fitting.items():
        notes.append(
            (f"✓ All fit into the {limit:,} tokens of {', '.join(names)}.", "$text-success")
        )
    trained = ", ".join(summary.trained)
    notes.append(
        (
            f"Paths of {summary.sampled}. Trained on this set: {trained}."
            if trained
            else f"Paths of {summary.sampled}. No model was trained on this set yet.",
            "",
        )
    )
    return notes

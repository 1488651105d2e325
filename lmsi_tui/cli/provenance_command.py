"""`lmsi-tui why`: from a training line or a model back to where it came from, and forward."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from engine.training_data import provenance
from lmsi_tui.cli.output import emit, say
from lmsi_tui.cli.status_commands import opened
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.sanitize import snippet
from store.connection import connect
from store.records import Example, Model, Question, TrainingSet

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Sequence

    from engine.project.folder import Project
    from store.records import Review, Run, Vote

WIDTH = 100
"""Characters of a text that are shown."""


def why(asked: argparse.Namespace) -> None:
    """Say where something came from and what falls with it."""
    with opened(asked) as (project, conn):
        found = provenance.find(conn, asked.target)
        if asked.json:
            emit({"event": "why", "target": asked.target, **_as_json(project, conn, found)})
            return
        for line in _lines(project, conn, found):
            say(asked, line)


def _lines(
    project: Project, conn: sqlite3.Connection, found: Example | Model | TrainingSet | Question
) -> list[str]:
    match found:
        case Example():
            return _example_lines(provenance.of_example(conn, found))
        case Model():
            return _model_lines(provenance.of_model(conn, found))
        case TrainingSet():
            return [*_set_lines(found), _rebuilt(_rebuild(project, found))]
        case Question():
            return [
                f"question {found.key}  {snippet(found.text, WIDTH)}",
                *_falls(provenance.falls_with(conn, found.id)),
            ]


def _as_json(
    project: Project, conn: sqlite3.Connection, found: Example | Model | TrainingSet | Question
) -> dict[str, object]:
    match found:
        case Example():
            return {"example": _plain(provenance.of_example(conn, found))}
        case Model():
            return {"model": _plain(provenance.of_model(conn, found))}
        case TrainingSet():
            again = _rebuild(project, found)
            return {"set": _plain(found), "rebuilt": again.key, "same": again.same}
        case Question():
            falls = [_plain(one) for one in provenance.falls_with(conn, found.id)]
            return {"question": _plain(found), "falls": falls}


def _plain(record: object) -> dict[str, object]:
    assert dataclasses.is_dataclass(record)
    assert not isinstance(record, type)
    return dataclasses.asdict(record)


def _example_lines(origin: provenance.Origin) -> list[str]:
    example, path = origin.example, origin.path
    lines = [
        f"line {example.position} of training set {example.set_key[:12]}: {example.prompt_format}, "
        f"weight {example.weight:g}{', held out for validation' if example.validation else ''}",
        f"teaches      {snippet(example.completion, WIDTH)}",
        f"question     {origin.question.key}  {snippet(origin.question.text, WIDTH)}",
        f"             number {origin.question.position + 1} of {origin.question.source}, "
        f"task {origin.question.task}",
    ]
    if path and origin.reading:
        lines.append(
            f"path         {path.index} of the question, {len(path.token_ids):,} tokens, ended by "
            f"{path.end}; {origin.reading.reader} reads {origin.reading.answer}"
        )
    else:
        lines.append("path         none: a direct answer, the same for every kept path")
    if origin.vote:
        lines.append(f"vote         {_vote(origin.vote)}")
    lines += [
        f"review       {one.queue}: {' '.join(_said(one))} (review {one.id})"
        for one in origin.reviews
    ] or ["review       none: the vote alone"]
    lines += _run_lines(origin.run, origin.engines, origin.sampler)
    return [*lines, *_falls(origin.falls)]


def _said(review: Review) -> list[str]:
    words = [str(review.verdict), *([snippet(review.answer, 20)] if review.answer else [])]
    if review.winner is not None:
        words.append(f"when {snippet(review.winner, 20)} led")
    return words


def _vote(vote: Vote) -> str:
    counts = ", ".join(f"{snippet(answer, 20)}: {count}" for answer, count in vote.tally[:4])
    return (
        f"{counts}; {vote.abstained} abstained; {vote.drawn} of {vote.m} drawn, agreement "
        f"{percent(vote.agreement)} %, {vote.decision}, read by {vote.reader}"
    )


def _run_lines(run: Run, engines: str, sampler: Model) -> list[str]:
    return [
        f"sampled by   {sampler.name}, weights {sampler.sha256[:12]}, run {run.key[:12]}, "
        f"engine {engines}",
        f"             {run.prompt_format} ({run.prompt_style}), prompts {run.prompt_sha256[:12]}, "
        f"m {run.m}, temperature {run.temperature:g}, top-p {run.top_p:g}, top-k {run.top_k}, "
        f"min-p {run.min_p:g}, {run.max_tokens} tokens, seed {run.seed}",
    ]


def _falls(falls: Sequence[provenance.Falls]) -> list[str]:
    if not falls:
        return ["if rejected  nothing falls: no training set holds it"]
    return [
        f"if rejected  {one.examples} lines of training set {one.set_key[:12]} fall"
        + (f", and {', '.join(one.models)} learnt them" if one.models else "")
        for one in falls
    ]


def _set_lines(frozen: TrainingSet) -> list[str]:
    free = "label-free" if frozen.label_free else "with decisions of a person"
    return [
        f"training set {frozen.key}",
        f"             {frozen.examples:,} lines of {frozen.questions:,} questions, threshold "
        f"{frozen.threshold}, cap {frozen.cap}, {', '.join(frozen.formats)}, {frozen.weighting}, "
        f"{free}",
    ]


def _model_lines(found: provenance.Ancestry) -> list[str]:
    model = found.model
    lines = [f"{model.name}  {model.stage}, weights {model.sha256[:12]}"]
    if found.base:
        lines.append(f"trained from {found.base.name}, weights {found.base.sha256[:12]}")
    if found.frozen is None or found.run is None or found.sampler is None:
        return [*lines, "no training set is behind it: it was brought along"]
    lines += _set_lines(found.frozen)
    lines.append(
        f"decisions    {found.triage:,} in triage, {found.audits:,} audits stand in its run"
    )
    lines += _run_lines(found.run, found.engines, found.sampler)
    if found.siblings:
        lines.append(f"also trained on this set: {', '.join(found.siblings)}")
    return lines


def _rebuild(project: Project, frozen: TrainingSet) -> provenance.Rebuilt:
    with connect(project.database, read_only=True, training=True) as conn:
        return provenance.rebuild(project, conn, frozen)


def _rebuilt(again: provenance.Rebuilt) -> str:
    if again.same:
        return "rebuilt      from the store: the same hash, byte for byte"
    return (
        f"rebuilt      with today's readers, settings and questions it comes out as "
        f"{(again.key or 'nothing')[:12]}"
    )

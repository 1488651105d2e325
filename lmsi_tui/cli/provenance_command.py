"""`lmsi-tui why`: trace a training example or a model to its sources, and what depends on it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from engine.sampling.runs import ends_after_answer
from engine.training_data import provenance
from engine.training_data.selection import describe_weights
from lmsi_tui.cli.output import emit, say
from lmsi_tui.cli.status_commands import opened
from lmsi_tui.formatting.numbers import percent
from lmsi_tui.formatting.sanitize import snippet
from store.connection import connect
from store.counted import counted
from store.records import Example, Model, Question, TrainingSet

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Sequence

    from engine.project.folder import Project
    from store.records import Review, Run, Vote

WIDTH = 100
"""Characters shown of a text."""


def why(args: argparse.Namespace) -> None:
    """Print where something came from, and what depends on it."""
    with opened(args) as (project, conn):
        target = provenance.find(conn, args.target)
        if args.json:
            emit({"event": "why", "target": args.target, **_as_json(project, conn, target)})
            return
        for line in _lines(project, conn, target):
            say(args, line)


def _lines(
    project: Project, conn: sqlite3.Connection, target: Example | Model | TrainingSet | Question
) -> list[str]:
    match target:
        case Example():
            return _example_lines(provenance.of_example(conn, target))
        case Model():
            return _model_lines(provenance.of_model(conn, target))
        case TrainingSet():
            return [*_set_lines(target), _rebuilt(_rebuild(project, target))]
        case Question():
            return [
                f"question {target.key}  {snippet(target.text, WIDTH)}",
                *_falls(provenance.dependents_of(conn, target.id)),
            ]


def _as_json(
    project: Project, conn: sqlite3.Connection, target: Example | Model | TrainingSet | Question
) -> dict[str, object]:
    match target:
        case Example():
            return {"example": _plain(provenance.of_example(conn, target))}
        case Model():
            return {"model": _plain(provenance.of_model(conn, target))}
        case TrainingSet():
            rebuilt = _rebuild(project, target)
            return {"set": _plain(target), "rebuilt": rebuilt.key, "same": rebuilt.same}
        case Question():
            dependents = [
                _plain(dependent) for dependent in provenance.dependents_of(conn, target.id)
            ]
            return {"question": _plain(target), "falls": dependents}


def _plain(record: object) -> dict[str, object]:
    assert dataclasses.is_dataclass(record)
    assert not isinstance(record, type)
    return dataclasses.asdict(record)


def _example_lines(origin: provenance.ExampleProvenance) -> list[str]:
    example, path = origin.example, origin.path
    lines = [
        f"example {example.position} of training set {example.set_key[:12]}: "
        f"{example.prompt_format}, weight {example.weight:g}"
        f"{', held out for validation' if example.validation else ''}",
        f"teaches      {_beginning(example)}{snippet(example.completion, WIDTH)}",
        f"question     {origin.question.key}  {snippet(origin.question.text, WIDTH)}",
        f"             number {origin.question.position + 1} of {origin.question.source}, "
        f"task {origin.question.task}",
    ]
    if path and origin.reading:
        lines.append(
            f"path         {path.index} of the question, {counted(len(path.token_ids), 'token')}, "
            f"ended by {path.end}; {origin.reading.reader} extracts {origin.reading.answer}"
        )
    else:
        lines.append("path         none: a direct answer, the same for every kept path")
    if origin.vote:
        lines.append(f"vote         {_vote(origin.vote)}")
    lines += [
        f"review       {review.queue}: {' '.join(_review_words(review))} (review {review.id})"
        for review in origin.reviews
    ] or ["review       none: accepted by the vote alone"]
    lines += _run_lines(origin.run, origin.engines, origin.sampler)
    return [*lines, *_falls(origin.falls)]


def _beginning(example: Example) -> str:
    """How much of the completion is taught, if not all of it."""
    count = example.first_tokens
    return "" if count is None else f"the first {count} tokens, and at most half, of: "


def _review_words(review: Review) -> list[str]:
    words = [str(review.verdict), *([snippet(review.answer, 20)] if review.answer else [])]
    if review.winner is not None:
        words.append(f"when {snippet(review.winner, 20)} led")
    return words


def _vote(vote: Vote) -> str:
    counts = ", ".join(f"{snippet(answer, 20)}: {count}" for answer, count in vote.tally[:4])
    return (
        f"{counts}; {vote.abstained} abstained; {vote.drawn} of {counted(vote.m, 'path')}, "
        f"agreement {percent(vote.agreement)} %, {vote.decision}, extracted by {vote.reader}"
    )


def _run_lines(run: Run, engines: str, sampler: Model) -> list[str]:
    return [
        f"sampled by   {sampler.name}, weights {sampler.sha256[:12]}, run {run.key[:12]}, "
        f"engine {engines}",
        f"             {run.prompt_format} ({run.prompt_style}), prompts {run.prompt_sha256[:12]}, "
        f"m {run.m}, temperature {run.temperature:g}, top-p {run.top_p:g}, top-k {run.top_k}, "
        f"min-p {run.min_p:g}, {counted(run.max_tokens, 'token')}, seed {run.seed}"
        + (", ended after the answer" if ends_after_answer(run, sampler) else ""),
    ]


def _falls(dependents: Sequence[provenance.DependentSet]) -> list[str]:
    if not dependents:
        return ["if rejected  no training set contains it"]
    return [
        f"if rejected  {counted(dependent.examples, 'example leaves', 'examples leave')} training "
        f"set {dependent.set_key[:12]}"
        + (f"; trained on them: {', '.join(dependent.models)}" if dependent.models else "")
        for dependent in dependents
    ]


def _set_lines(frozen: TrainingSet) -> list[str]:
    free = "label-free" if frozen.label_free else "with your decisions"
    return [
        f"training set {frozen.key}",
        f"             {counted(frozen.examples, 'example')} from "
        f"{counted(frozen.questions, 'question')}, threshold {frozen.threshold}, cap {frozen.cap}, "
        f"{', '.join(frozen.formats)}, {describe_weights(frozen)}, {free}",
    ]


def _model_lines(ancestry: provenance.ModelProvenance) -> list[str]:
    model = ancestry.model
    lines = [f"{model.name}  {model.stage}, weights {model.sha256[:12]}"]
    if ancestry.base:
        lines.append(f"trained from {ancestry.base.name}, weights {ancestry.base.sha256[:12]}")
    if ancestry.frozen is None or ancestry.run is None or ancestry.sampler is None:
        return [*lines, "not trained here: it was imported"]
    lines += _set_lines(ancestry.frozen)
    lines.append(
        f"decisions    {ancestry.triage:,} in triage and {ancestry.audits:,} audits in its run"
    )
    lines += _run_lines(ancestry.run, ancestry.engines, ancestry.sampler)
    if ancestry.siblings:
        lines.append(f"also trained on this set: {', '.join(ancestry.siblings)}")
    return lines


def _rebuild(project: Project, frozen: TrainingSet) -> provenance.RebuiltSet:
    with connect(project.database, read_only=True, training=True) as conn:
        return provenance.rebuild(project, conn, frozen)


def _rebuilt(rebuilt: provenance.RebuiltSet) -> str:
    if rebuilt.same:
        return "rebuilt      from the database: identical, with the same hash"
    return (
        f"rebuilt      with the current readers, settings and questions: "
        f"{(rebuilt.key or 'nothing')[:12]}"
    )

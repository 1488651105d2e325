"""`lmsi-tui questions`: list, remove, restore and replace imported questions."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.answers.forms.normalization import LETTERS
from engine.evaluation.accuracy import score_again
from engine.importing.labels.known_answers import known_answers
from engine.importing.labels.label_numbering import NO_NUMBERS
from engine.importing.labels.options import Options
from engine.project.folder import open_project
from lmsi_tui.cli.output import emit, say
from lmsi_tui.formatting.sanitize import snippet
from store import examples, jobs, questions
from store.connection import connect, transaction
from store.counted import counted
from store.enums import JobState, Split
from store.errors import BadInput
from store.records import question_key
from store.schema import ensure_schema

if TYPE_CHECKING:
    import argparse
    import sqlite3

    from store.records import Question

SHOWN_KEY = 12
"""Characters of a key that are listed; fewer are enough if no other key begins with them."""
LONGEST_SHOWN = 90


def manage(args: argparse.Namespace) -> None:
    """List the questions, or change which of them are used."""
    changes = bool(args.remove or args.restore or args.replace)
    if bool(args.remove) + bool(args.restore) + bool(args.replace) > 1:
        raise BadInput("Give one of --remove, --restore and --replace.")
    if (args.text or args.answer) and not args.replace:
        raise BadInput("--text and --answer say what --replace KEY puts in place: give it, too.")
    project = open_project(args.project)
    ensure_schema(project.database)
    with connect(project.database, read_only=not changes) as conn:
        if not changes:
            _list(args, conn)
            return
        running = [job for job in jobs.unfinished(conn) if job.state in _AT_WORK]
        if running:
            raise BadInput(
                f"Job {running[0].id} ({running[0].kind}) is using the questions: pause it first "
                f"with `lmsi-tui jobs --pause {running[0].id}`."
            )
        with transaction(conn):
            if args.remove:
                _remove(args, conn, [_named(conn, key) for key in args.remove])
            elif args.restore:
                _restore(args, conn, [_named(conn, key) for key in args.restore])
            else:
                _replace(args, conn, _named(conn, args.replace))


_AT_WORK = {JobState.RUNNING, JobState.PAUSING, JobState.CANCELLING}


def _named(conn: sqlite3.Connection, key: str) -> Question:
    """The question whose key begins with `key`.

    Raises:
        BadInput: there is none, or more than one.
    """
    found = questions.beginning_with(conn, key)
    if len(found) != 1:
        problem = (
            f"{len(found)} questions have keys that begin" if found else "No question's key begins"
        )
        raise BadInput(f"{problem} with {key!r}: `lmsi-tui questions` lists the keys.")
    return found[0]


def _list(args: argparse.Namespace, conn: sqlite3.Connection) -> None:
    listed = (
        questions.removed(conn)
        if args.removed
        else [question for split in Split for question in questions.by_split(conn, split)]
    )
    words = (args.words or "").lower().split()
    listed = [
        question
        for question in listed
        if args.split in (None, question.split)
        and all(word in f"{question.text} {question.passage}".lower() for word in words)
    ]
    for question in listed[: args.limit]:
        if args.json:
            emit(_as_json("question", question))
        else:
            source, text = snippet(question.source, 16), snippet(question.text, LONGEST_SHOWN)
            print(f"{question.key[:SHOWN_KEY]}  {question.split:4}  {source:16}  {text}")
    removed = len(questions.removed(conn))
    rest = len(listed) - len(listed[: args.limit])
    say(
        args,
        f"{counted(len(listed), 'question')}"
        + (f", {rest:,} more than shown (--limit)" if rest else "")
        + ("" if args.removed or not removed else f"; {removed:,} removed (--removed lists them)")
        + ".",
    )


def _as_json(event: str, question: Question) -> dict[str, object]:
    return {
        "event": event,
        "key": question.key,
        "split": question.split,
        "set": question.source,
        "task": question.task,
        "text": question.text,
        "options": list(question.options),
        "passage": question.passage,
    }


def _remove(args: argparse.Namespace, conn: sqlite3.Connection, gone: list[Question]) -> None:
    ids = [question.id for question in gone]
    questions.remove(conn, ids)
    scored = score_again(conn, ids)
    sets = {key for id_ in ids for key in examples.of_question(conn, id_)}
    if args.json:
        for question in gone:
            emit(_as_json("removed", question))
        emit({"event": "scored", "evaluations": scored, "training_sets": sorted(sets)})
        return
    say(
        args,
        f"Removed {counted(len(gone), 'question')}. Their paths and reviews are kept; --restore "
        "undoes it.",
    )
    if scored:
        say(args, f"{scored:,} evaluations now leave them out.")
    if sets:
        say(
            args,
            f"{len(sets)} training sets hold them and are frozen: run `lmsi-tui curate` for a set "
            "without them.",
        )


def _restore(args: argparse.Namespace, conn: sqlite3.Connection, back: list[Question]) -> None:
    questions.restore(conn, [question.id for question in back])
    if args.json:
        for question in back:
            emit(_as_json("restored", question))
        return
    say(args, f"Restored {counted(len(back), 'question')}.")
    if any(question.split is Split.POOL for question in back):
        say(args, "Run `lmsi-tui vote` to count the votes on their stored paths again.")
    if any(question.split is not Split.POOL for question in back):
        say(args, "Run `lmsi-tui evaluate` to include them in the evaluations again.")


def _replace(args: argparse.Namespace, conn: sqlite3.Connection, old: Question) -> None:
    if not (args.text or args.answer):
        raise BadInput(
            "--replace KEY needs --text, --answer or both: the new text, the right answer."
        )
    if args.answer and old.split is Split.POOL:
        raise BadInput(f"{old.key[:SHOWN_KEY]} is a pool question: it has no known answer.")
    gold = (
        questions.gold_for(conn, old.split).get(old.id, ()) if old.split is not Split.POOL else ()
    )
    answers = _answers(old, args.answer) if args.answer else gold
    new = old
    if args.text and args.text.strip() != old.text:
        text = args.text.strip()
        key = question_key(old.task, text, old.options, old.passage)
        new = replace(old, key=key, text=text)
        added = questions.add(conn, [new], {new.key: answers} if answers else {})
        if not added.added:
            raise BadInput(
                "The project has a question with this text already: remove the other one."
            )
        questions.remove(conn, [old.id])
    elif gold:
        questions.change_gold(conn, {old.id: answers})
    else:
        questions.add(conn, [old], {old.key: answers})
    scored = score_again(conn, [old.id])
    if args.json:
        emit(_as_json("replaced", new) | {"old_key": old.key, "evaluations": scored})
        return
    if new is old:
        say(args, f"The known answer is now {' or '.join(answers)}.")
        say(args, f"{scored:,} evaluations changed with it.")
        return
    say(
        args,
        f"Replaced {old.key[:SHOWN_KEY]} by {new.key[:SHOWN_KEY]}. The old paths are kept unused.",
    )
    stage = "sample" if new.split is Split.POOL else "evaluate"
    say(args, f"Run `lmsi-tui {stage}` to sample the new question.")


def _answers(question: Question, written: str) -> tuple[str, ...]:
    """The canonical forms of an answer that the user typed.

    Raises:
        BadInput: it is not of the question's type.
    """
    answers = known_answers(
        question.answer_type,
        written,
        task=question.task,
        options=Options(question.options, tuple(LETTERS[: len(question.options)])),
        numbering=NO_NUMBERS,
    )
    if not answers:
        raise BadInput(
            f"--answer {written} cannot be read as {question.answer_type}: give "
            + ("the letter of an option." if question.options else "the answer alone.")
        )
    return answers

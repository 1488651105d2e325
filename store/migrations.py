"""The migrations, oldest first.

The tables enforce what must hold whatever the code does: paths and reviews cannot be changed or
deleted, a question is in one split only, pool questions have no known answer, and only pool
questions become training examples.

A released migration is never edited; a change is a new one, and raises `SCHEMA_VERSION`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from store.backups import before_migration
from store.connection import APPLICATION_ID, SCHEMA_VERSION, transaction
from store.initial_schema import INITIAL

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

    from sqlite_utils import Database


def migrate(conn: sqlite3.Connection, path: Path) -> None:
    """Apply the missing migrations to the database at `path`, all or none.

    An existing database is copied to `backups/` first.

    Raises:
        WorkFailed: the backup cannot be written; nothing was changed.
    """
    # It takes half a second to import, and only new or old databases need it.
    from sqlite_utils import Database, Migrations  # noqa: PLC0415

    migrations = Migrations("lmsi")
    for step in STEPS:
        migrations()(step)
    # One write lock around checking, copying and applying: nothing is committed in between.
    # sqlite-utils nests its own transactions as savepoints.
    with transaction(conn):
        ((version,),) = conn.execute("PRAGMA user_version")
        if 0 < version < SCHEMA_VERSION:
            before_migration(path)
        migrations.apply(Database(conn))
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        conn.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def m001_initial(db: Database) -> None:
    """The tables of version 1."""
    _execute(db, INITIAL)


def m002_queue_and_encoding(db: Database) -> None:
    """Version 2: an index for the review queue, and token counts of training sets."""
    _execute(db, _QUEUE_AND_ENCODING)


def m003_engines_and_rounds(db: Database) -> None:
    """Version 3: inference sessions, custom rules, rounds, and top-k teacher logits."""
    _execute(db, _ENGINES_AND_ROUNDS)


def m004_job_phase(db: Database) -> None:
    """Version 4: what a job is doing, and with which run and model."""
    _execute(db, _JOB_PHASE)


def m005_changed_questions(db: Database) -> None:
    """Version 5: changed known answers, and questions that were removed."""
    _execute(db, _CHANGED_QUESTIONS)


def m006_contrast(db: Database) -> None:
    """Version 6: the losing paths of training sets."""
    _execute(db, _CONTRAST)


def m007_confidence(db: Database) -> None:
    """Version 7: how sure the model was of each path, and how a training set counts paths."""
    _execute(db, _CONFIDENCE)


def m008_study_arms(db: Database) -> None:
    """Version 8: training sets of the arms of a study."""
    _execute(db, _STUDY_ARMS)


def _execute(db: Database, statements: str) -> None:
    """Execute statements that are separated by blank lines, because triggers contain semicolons."""
    for statement in statements.strip().split("\n\n"):
        db.execute(statement)


STEPS = (
    m001_initial,
    m002_queue_and_encoding,
    m003_engines_and_rounds,
    m004_job_phase,
    m005_changed_questions,
    m006_contrast,
    m007_confidence,
    m008_study_arms,
)
"""Oldest first; sqlite-utils records each by its name."""

# The counts of the two leading answers, so that a hundred thousand votes can be sorted or counted
# for a histogram from an index alone. The other index covers what queries need of examples, so that
# they need not read the long prompts.
_QUEUE_AND_ENCODING = """
ALTER TABLE vote ADD COLUMN first INTEGER
    GENERATED ALWAYS AS (coalesce(json_extract(tally, '$[0][1]'), 0)) VIRTUAL

ALTER TABLE vote ADD COLUMN second INTEGER
    GENERATED ALWAYS AS (coalesce(json_extract(tally, '$[1][1]'), 0)) VIRTUAL

CREATE INDEX vote_counts ON vote (run_id, decision, first, second, drawn, m, abstained)

CREATE TABLE encoding (
    set_key TEXT NOT NULL REFERENCES training_set (key),
    tokenizer_sha256 TEXT NOT NULL,
    position INTEGER NOT NULL CHECK (position >= 0),
    prompt_tokens INTEGER NOT NULL CHECK (prompt_tokens >= 1),
    completion_tokens INTEGER NOT NULL CHECK (completion_tokens >= 1),
    pieces BLOB,
    PRIMARY KEY (set_key, tokenizer_sha256, position)
) STRICT, WITHOUT ROWID

CREATE INDEX example_kinds ON example (set_key, prompt_format, position, validation, weight)
"""

_ENGINES_AND_ROUNDS = """
CREATE TABLE sitting (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run (id),
    engine TEXT NOT NULL,
    engine_version TEXT NOT NULL,
    details TEXT NOT NULL,
    started_at REAL NOT NULL
) STRICT

CREATE INDEX sitting_run ON sitting (run_id)

CREATE TABLE teacher_top (
    path_id INTEGER PRIMARY KEY REFERENCES path (id),
    k INTEGER NOT NULL CHECK (k >= 1),
    token_ids BLOB NOT NULL CHECK (length(token_ids) % (4 * k) = 0),
    logprobs BLOB NOT NULL CHECK (length(logprobs) * 4 * k = length(token_ids) * 2 * (k + 1))
) STRICT

CREATE TABLE reader_rules (
    id INTEGER PRIMARY KEY,
    answer_type TEXT NOT NULL
        CHECK (answer_type IN ('number', 'choice', 'yes-no', 'nli', 'span', 'math')),
    rules TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT

CREATE TRIGGER reader_rules_are_not_changed BEFORE UPDATE ON reader_rules
BEGIN SELECT RAISE(ABORT, 'rules are not changed: newer ones are a later row'); END

CREATE TRIGGER reader_rules_are_not_deleted BEFORE DELETE ON reader_rules
BEGIN SELECT RAISE(ABORT, 'rules are not deleted: newer ones are a later row'); END

CREATE TABLE round (
    number INTEGER PRIMARY KEY CHECK (number >= 1),
    job_id INTEGER NOT NULL REFERENCES job (id),
    sampled_id INTEGER NOT NULL REFERENCES model (id),
    trained_id INTEGER NOT NULL REFERENCES model (id),
    verdict TEXT NOT NULL CHECK (verdict IN ('accept', 'reject', 'undecided')),
    details TEXT NOT NULL,
    decided_at REAL NOT NULL
) STRICT

CREATE TRIGGER round_is_not_changed BEFORE UPDATE ON round
BEGIN SELECT RAISE(ABORT, 'a round is not changed: a person decides by a later row'); END

CREATE TRIGGER round_is_not_deleted BEFORE DELETE ON round
BEGIN SELECT RAISE(ABORT, 'a round is not deleted: a person decides by a later row'); END

CREATE TABLE round_decision (
    id INTEGER PRIMARY KEY,
    number INTEGER NOT NULL REFERENCES round (number),
    verdict TEXT NOT NULL CHECK (verdict IN ('accept', 'reject', 'undecided')),
    decided_at REAL NOT NULL
) STRICT

CREATE TRIGGER round_decision_is_not_changed BEFORE UPDATE ON round_decision
BEGIN SELECT RAISE(ABORT, 'a decision is not changed: a newer one is a later row'); END

CREATE TRIGGER round_decision_is_not_deleted BEFORE DELETE ON round_decision
BEGIN SELECT RAISE(ABORT, 'a decision is not deleted: a newer one is a later row'); END

ALTER TABLE training_set ADD COLUMN m INTEGER

ALTER TABLE training_set ADD COLUMN validation_share REAL

ALTER TABLE review ADD COLUMN winner TEXT
"""

# Finished jobs name their run and model in their results. A job that ended otherwise named them in
# a message for the user only, and keeps NULL.
_JOB_PHASE = """
ALTER TABLE job ADD COLUMN phase TEXT CHECK (phase IN ('sampling', 'extraction', 'curation',
    'scoring', 'training', 'conversion', 'measuring'))

ALTER TABLE job ADD COLUMN run_id INTEGER REFERENCES run (id)

ALTER TABLE job ADD COLUMN model_id INTEGER REFERENCES model (id)

UPDATE job SET run_id = (SELECT id FROM run WHERE key = json_extract(result, '$.run'))
WHERE kind IN ('sample', 'vote') AND state = 'done'

UPDATE job SET model_id = CASE kind
    WHEN 'finetune' THEN
        (SELECT id FROM model WHERE name = json_extract(result, '$.model'))
    WHEN 'distill' THEN
        (SELECT model.id FROM json_each(result) AS student
         JOIN model ON model.name = json_extract(student.value, '$.model')
         WHERE student.type = 'object' ORDER BY student.id DESC LIMIT 1)
    WHEN 'evaluate' THEN
        (SELECT id FROM model WHERE name = json_extract(result, '$.evaluations[#-1].model'))
    ELSE (SELECT model_id FROM run WHERE run.id = job.run_id)
END
WHERE state = 'done'
"""

# The newest change of a question counts; `gold` keeps what was imported first. A removed question
# keeps its paths, reviews and examples, but is not sampled, trained on or measured any more.
_CHANGED_QUESTIONS = """
CREATE TABLE gold_change (
    id INTEGER PRIMARY KEY,
    question_id INTEGER NOT NULL REFERENCES gold (question_id),
    answers TEXT NOT NULL CHECK (json_array_length(answers) >= 1),
    created_at REAL NOT NULL
) STRICT

CREATE INDEX gold_change_question ON gold_change (question_id)

CREATE TRIGGER gold_change_is_not_changed BEFORE UPDATE ON gold_change
BEGIN SELECT RAISE(ABORT, 'known answers are not changed: newer ones are a later row'); END

CREATE TRIGGER gold_change_is_not_deleted BEFORE DELETE ON gold_change
BEGIN SELECT RAISE(ABORT, 'known answers are not deleted: newer ones are a later row'); END

CREATE TABLE removal (
    question_id INTEGER PRIMARY KEY REFERENCES question (id),
    removed_at REAL NOT NULL
) STRICT
"""

# Beside the set and not part of its key: sets of older versions get their rows when they are first
# trained with a contrast.
_CONTRAST = """
CREATE TABLE contrast_question (
    set_key TEXT NOT NULL REFERENCES training_set (key),
    question_id INTEGER NOT NULL REFERENCES question (id),
    margin REAL NOT NULL CHECK (margin BETWEEN 0 AND 1),
    PRIMARY KEY (set_key, question_id)
) STRICT, WITHOUT ROWID

CREATE TABLE losing_path (
    set_key TEXT NOT NULL,
    path_id INTEGER NOT NULL REFERENCES path (id),
    question_id INTEGER NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (set_key, path_id),
    FOREIGN KEY (set_key, question_id) REFERENCES contrast_question (set_key, question_id)
) STRICT, WITHOUT ROWID

CREATE INDEX losing_path_question ON losing_path (set_key, question_id)

CREATE TRIGGER contrast_question_only_from_the_pool BEFORE INSERT ON contrast_question
WHEN (SELECT split FROM question WHERE id = NEW.question_id) <> 'pool'
BEGIN SELECT RAISE(ABORT, 'only pool questions become training examples'); END

CREATE TRIGGER contrast_question_is_not_changed BEFORE UPDATE ON contrast_question
BEGIN SELECT RAISE(ABORT, 'a training set is frozen'); END

CREATE TRIGGER contrast_question_is_not_deleted BEFORE DELETE ON contrast_question
BEGIN SELECT RAISE(ABORT, 'a training set is frozen'); END

CREATE TRIGGER losing_path_only_of_its_question BEFORE INSERT ON losing_path
WHEN (SELECT question_id FROM path WHERE id = NEW.path_id) IS NOT NEW.question_id
BEGIN SELECT RAISE(ABORT, 'a losing path belongs to its question'); END

CREATE TRIGGER losing_path_is_not_changed BEFORE UPDATE ON losing_path
BEGIN SELECT RAISE(ABORT, 'a training set is frozen'); END

CREATE TRIGGER losing_path_is_not_deleted BEFORE DELETE ON losing_path
BEGIN SELECT RAISE(ABORT, 'a training set is frozen'); END
"""

# Apart from `path`, whose long rows would be read whenever a vote counts these numbers. Older paths
# have no row; older sets were counted plainly.
_CONFIDENCE = """
CREATE TABLE path_confidence (
    path_id INTEGER PRIMARY KEY REFERENCES path (id),
    mean_logprob REAL NOT NULL CHECK (mean_logprob <= 0),
    window_logprob REAL NOT NULL CHECK (window_logprob <= 0),
    tail_logprob REAL NOT NULL CHECK (tail_logprob <= 0),
    entropy REAL CHECK (entropy >= 0)
) STRICT

CREATE TRIGGER path_confidence_is_not_changed BEFORE UPDATE ON path_confidence
BEGIN SELECT RAISE(ABORT, 'a path stays as it came'); END

CREATE TRIGGER path_confidence_is_not_deleted BEFORE DELETE ON path_confidence
BEGIN SELECT RAISE(ABORT, 'a path stays as it came'); END

ALTER TABLE training_set ADD COLUMN counting TEXT
    CHECK (counting IN ('plain', 'weighted', 'soft'))

ALTER TABLE training_set ADD COLUMN confidence_temperature REAL
"""

# A set of a study is a control for the set that it names. Ordinary sets and examples keep NULL, so
# their keys are what they were.
_STUDY_ARMS = """
ALTER TABLE training_set ADD COLUMN arm TEXT
    CHECK (arm IN ('voted', 'unvoted', 'first-tokens', 'random'))

ALTER TABLE training_set ADD COLUMN voted_set TEXT REFERENCES training_set (key)

ALTER TABLE example ADD COLUMN first_tokens INTEGER CHECK (first_tokens >= 1)
"""

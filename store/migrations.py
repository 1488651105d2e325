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
    for statement in _INITIAL.strip().split("\n\n"):
        db.execute(statement)


def m002_queue_and_encoding(db: Database) -> None:
    """Version 2: an index for the review queue, and token counts of training sets."""
    for statement in _QUEUE_AND_ENCODING.strip().split("\n\n"):
        db.execute(statement)


def m003_engines_and_rounds(db: Database) -> None:
    """Version 3: inference sessions, custom rules, rounds, and top-k teacher logits."""
    for statement in _ENGINES_AND_ROUNDS.strip().split("\n\n"):
        db.execute(statement)


def m004_job_phase(db: Database) -> None:
    """Version 4: what a job is doing, and with which run and model."""
    for statement in _JOB_PHASE.strip().split("\n\n"):
        db.execute(statement)


def m005_changed_questions(db: Database) -> None:
    """Version 5: changed known answers, and questions that were removed."""
    for statement in _CHANGED_QUESTIONS.strip().split("\n\n"):
        db.execute(statement)


STEPS = (
    m001_initial,
    m002_queue_and_encoding,
    m003_engines_and_rounds,
    m004_job_phase,
    m005_changed_questions,
)
"""Oldest first; sqlite-utils records each by its name."""

# Statements are separated by blank lines, because triggers contain semicolons.
_INITIAL = """
CREATE TABLE question (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    split TEXT NOT NULL CHECK (split IN ('pool', 'eval', 'ood')),
    source TEXT NOT NULL,
    position INTEGER NOT NULL CHECK (position >= 0),
    task TEXT NOT NULL,
    answer_type TEXT NOT NULL
        CHECK (answer_type IN ('number', 'choice', 'yes-no', 'nli', 'span', 'math')),
    text TEXT NOT NULL,
    options TEXT NOT NULL,
    passage TEXT NOT NULL
) STRICT

CREATE INDEX question_split ON question (split, source, task)

CREATE TABLE gold (
    question_id INTEGER PRIMARY KEY REFERENCES question (id),
    answers TEXT NOT NULL CHECK (json_array_length(answers) >= 1)
) STRICT

CREATE TRIGGER gold_never_of_the_pool BEFORE INSERT ON gold
WHEN (SELECT split FROM question WHERE id = NEW.question_id) = 'pool'
BEGIN SELECT RAISE(ABORT, 'a pool question cannot have a known answer'); END

CREATE TRIGGER gold_is_not_changed BEFORE UPDATE ON gold
BEGIN SELECT RAISE(ABORT, 'known answers are not changed'); END

CREATE TRIGGER gold_is_not_deleted BEFORE DELETE ON gold
BEGIN SELECT RAISE(ABORT, 'known answers are not deleted'); END

CREATE TRIGGER question_keeps_its_split BEFORE UPDATE OF id, key, split ON question
BEGIN SELECT RAISE(ABORT, 'a question stays in its split'); END

CREATE TABLE model (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    stage TEXT NOT NULL CHECK (stage IN ('base', 'lmsi', 'distilled', 'control')),
    location TEXT NOT NULL,
    gguf TEXT,
    adapter TEXT,
    adapter_gguf TEXT,
    sha256 TEXT NOT NULL,
    tokenizer_sha256 TEXT NOT NULL,
    base_id INTEGER REFERENCES model (id),
    training_set TEXT,
    parameters INTEGER CHECK (parameters >= 0),
    created_at REAL NOT NULL
) STRICT

CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    model_id INTEGER NOT NULL REFERENCES model (id),
    split TEXT NOT NULL CHECK (split IN ('pool', 'eval', 'ood')),
    prompt_format TEXT NOT NULL CHECK (prompt_format IN
        ('few-shot-cot', 'few-shot-direct', 'zero-shot-cot', 'zero-shot-direct')),
    prompt_style TEXT NOT NULL CHECK (prompt_style IN ('base', 'chat')),
    prompt_sha256 TEXT NOT NULL,
    m INTEGER NOT NULL CHECK (m >= 1),
    temperature REAL NOT NULL CHECK (temperature >= 0),
    top_p REAL NOT NULL CHECK (top_p > 0 AND top_p <= 1),
    top_k INTEGER NOT NULL CHECK (top_k >= 0),
    min_p REAL NOT NULL CHECK (min_p >= 0 AND min_p < 1),
    max_tokens INTEGER NOT NULL CHECK (max_tokens >= 1),
    seed INTEGER NOT NULL,
    early_stop TEXT NOT NULL CHECK (early_stop IN ('off', 'exact', 'fast')),
    epsilon REAL NOT NULL CHECK (epsilon >= 0 AND epsilon < 1),
    threshold TEXT NOT NULL,
    cap INTEGER NOT NULL CHECK (cap >= 0),
    engine TEXT NOT NULL,
    engine_version TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT

CREATE TABLE path (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run (id),
    question_id INTEGER NOT NULL REFERENCES question (id),
    "index" INTEGER NOT NULL CHECK ("index" >= 0),
    text TEXT NOT NULL,
    token_ids BLOB NOT NULL CHECK (length(token_ids) % 4 = 0),
    "end" TEXT NOT NULL CHECK ("end" IN ('end', 'stop', 'length')),
    finished_at REAL NOT NULL,
    tokens INTEGER NOT NULL GENERATED ALWAYS AS (length(token_ids) / 4) STORED,
    UNIQUE (run_id, question_id, "index")
) STRICT

CREATE INDEX path_counts ON path (run_id, "end", tokens)

CREATE TRIGGER path_is_not_changed BEFORE UPDATE ON path
BEGIN SELECT RAISE(ABORT, 'a path stays as it came'); END

CREATE TRIGGER path_is_not_deleted BEFORE DELETE ON path
BEGIN SELECT RAISE(ABORT, 'a path stays as it came'); END

CREATE TABLE reading (
    path_id INTEGER PRIMARY KEY REFERENCES path (id),
    reader TEXT NOT NULL,
    answer TEXT,
    shown TEXT,
    abstention TEXT CHECK (abstention IN ('truncated', 'no-answer', 'empty')),
    CHECK ((answer IS NULL) = (abstention IS NOT NULL))
) STRICT

CREATE INDEX reading_abstained ON reading (path_id) WHERE answer IS NULL

CREATE TABLE vote (
    run_id INTEGER NOT NULL REFERENCES run (id),
    question_id INTEGER NOT NULL REFERENCES question (id),
    m INTEGER NOT NULL CHECK (m >= 1),
    drawn INTEGER NOT NULL CHECK (drawn BETWEEN 0 AND m),
    tally TEXT NOT NULL,
    abstained INTEGER NOT NULL CHECK (abstained BETWEEN 0 AND drawn),
    winner TEXT,
    decision TEXT NOT NULL CHECK (decision IN ('keep', 'reject', 'open')),
    reader TEXT NOT NULL,
    PRIMARY KEY (run_id, question_id)
) STRICT, WITHOUT ROWID

CREATE TABLE review (
    id INTEGER PRIMARY KEY,
    question_id INTEGER NOT NULL REFERENCES question (id),
    run_id INTEGER NOT NULL REFERENCES run (id),
    queue TEXT NOT NULL CHECK (queue IN ('triage', 'audit')),
    verdict TEXT NOT NULL CHECK (verdict IN
        ('answer', 'majority', 'typed', 'none', 'skip', 'same', 'undo')),
    answer TEXT,
    other TEXT,
    undoes INTEGER REFERENCES review (id),
    seconds REAL NOT NULL CHECK (seconds >= 0),
    created_at REAL NOT NULL,
    CHECK (verdict NOT IN ('answer', 'typed', 'same') OR answer IS NOT NULL),
    CHECK ((verdict = 'same') = (other IS NOT NULL)),
    CHECK ((verdict = 'undo') = (undoes IS NOT NULL))
) STRICT

CREATE INDEX review_question ON review (run_id, question_id)

CREATE TRIGGER review_is_not_changed BEFORE UPDATE ON review
BEGIN SELECT RAISE(ABORT, 'a review is not changed: an undo is a later row'); END

CREATE TRIGGER review_is_not_deleted BEFORE DELETE ON review
BEGIN SELECT RAISE(ABORT, 'a review is not deleted: an undo is a later row'); END

CREATE TRIGGER review_undoes_its_own_question BEFORE INSERT ON review
WHEN NEW.undoes IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM review
    WHERE id = NEW.undoes AND run_id = NEW.run_id AND question_id = NEW.question_id)
BEGIN SELECT RAISE(ABORT, 'an undo names an earlier review of the same question'); END

CREATE TABLE training_set (
    key TEXT PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run (id),
    threshold TEXT NOT NULL,
    cap INTEGER NOT NULL CHECK (cap >= 0),
    formats TEXT NOT NULL,
    weighting TEXT NOT NULL CHECK (weighting IN ('per-path', 'per-question', 'by-agreement')),
    label_free INTEGER NOT NULL CHECK (label_free IN (0, 1)),
    tokenizer_sha256 TEXT NOT NULL,
    questions INTEGER NOT NULL CHECK (questions >= 0),
    examples INTEGER NOT NULL CHECK (examples >= 0),
    created_at REAL NOT NULL
) STRICT

CREATE TABLE example (
    id INTEGER PRIMARY KEY,
    set_key TEXT NOT NULL REFERENCES training_set (key),
    position INTEGER NOT NULL CHECK (position >= 0),
    question_id INTEGER NOT NULL REFERENCES question (id),
    path_id INTEGER REFERENCES path (id),
    prompt_format TEXT NOT NULL CHECK (prompt_format IN
        ('few-shot-cot', 'few-shot-direct', 'zero-shot-cot', 'zero-shot-direct')),
    prompt TEXT NOT NULL,
    shared INTEGER NOT NULL CHECK (shared >= 0),
    completion TEXT NOT NULL,
    token_ids BLOB NOT NULL CHECK (length(token_ids) % 4 = 0),
    weight REAL NOT NULL CHECK (weight >= 0),
    validation INTEGER NOT NULL CHECK (validation IN (0, 1)),
    UNIQUE (set_key, position)
) STRICT

CREATE TRIGGER example_only_from_the_pool BEFORE INSERT ON example
WHEN (SELECT split FROM question WHERE id = NEW.question_id) <> 'pool'
BEGIN SELECT RAISE(ABORT, 'only pool questions become training examples'); END

CREATE TRIGGER example_is_not_changed BEFORE UPDATE ON example
BEGIN SELECT RAISE(ABORT, 'a training set is frozen'); END

CREATE TRIGGER example_is_not_deleted BEFORE DELETE ON example
BEGIN SELECT RAISE(ABORT, 'a training set is frozen'); END

CREATE TABLE evaluation (
    id INTEGER PRIMARY KEY,
    model_id INTEGER NOT NULL REFERENCES model (id),
    split TEXT NOT NULL CHECK (split IN ('eval', 'ood')),
    method TEXT NOT NULL CHECK (method IN ('direct', 'cot', 'single', 'sc')),
    k INTEGER NOT NULL CHECK (k >= 1),
    run_id INTEGER NOT NULL REFERENCES run (id),
    n INTEGER NOT NULL CHECK (n >= 1),
    correct INTEGER NOT NULL CHECK (correct BETWEEN 0 AND n),
    low REAL NOT NULL,
    high REAL NOT NULL CHECK (low <= high),
    abstained INTEGER NOT NULL CHECK (abstained BETWEEN 0 AND n),
    created_at REAL NOT NULL,
    UNIQUE (run_id, method, k)
) STRICT

CREATE TABLE evaluation_answer (
    evaluation_id INTEGER NOT NULL REFERENCES evaluation (id),
    question_id INTEGER NOT NULL REFERENCES question (id),
    answer TEXT,
    "right" INTEGER NOT NULL CHECK ("right" IN (0, 1)),
    PRIMARY KEY (evaluation_id, question_id)
) STRICT, WITHOUT ROWID

CREATE TABLE job (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('sample', 'vote', 'curate', 'finetune', 'distill',
        'evaluate', 'export', 'round')),
    params TEXT NOT NULL,
    key TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'pausing', 'paused', 'cancelling',
        'cancelled', 'done', 'failed')),
    done INTEGER NOT NULL DEFAULT 0 CHECK (done >= 0),
    total INTEGER NOT NULL DEFAULT 0 CHECK (total >= 0),
    message TEXT NOT NULL DEFAULT '',
    error TEXT,
    result TEXT NOT NULL DEFAULT '{}',
    pid INTEGER,
    started_ticks INTEGER,
    created_at REAL NOT NULL,
    started_at REAL,
    heartbeat_at REAL,
    finished_at REAL,
    CHECK ((state = 'failed') = (error IS NOT NULL))
) STRICT

CREATE UNIQUE INDEX job_asked_once ON job (key)
WHERE state IN ('queued', 'running', 'pausing', 'paused')

CREATE INDEX job_state ON job (state)

CREATE TABLE metric (
    id INTEGER PRIMARY KEY,
    job_id INTEGER NOT NULL REFERENCES job (id),
    step INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL,
    created_at REAL NOT NULL
) STRICT

CREATE INDEX metric_job ON metric (job_id)
"""

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

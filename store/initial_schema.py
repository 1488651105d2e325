"""The tables of the first version; `store.migrations` brings them to the current one."""

from __future__ import annotations

# Statements are separated by blank lines, because triggers contain semicolons.
INITIAL = """
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

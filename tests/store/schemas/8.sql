BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'lmsi','m001_initial','2026-01-01 00:00:00+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'lmsi','m002_queue_and_encoding','2026-11-24 00:00:00+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'lmsi','m003_engines_and_rounds','2026-11-25 00:00:00+00:00');
INSERT INTO "_sqlite_migrations" VALUES(4,'lmsi','m004_job_phase','2026-11-29 00:00:00+00:00');
INSERT INTO "_sqlite_migrations" VALUES(5,'lmsi','m005_changed_questions','2026-11-29 00:00:00+00:00');
INSERT INTO "_sqlite_migrations" VALUES(6,'lmsi','m006_contrast','2026-11-29 00:00:00+00:00');
INSERT INTO "_sqlite_migrations" VALUES(7,'lmsi','m007_confidence','2026-11-29 00:00:00+00:00');
INSERT INTO "_sqlite_migrations" VALUES(8,'lmsi','m008_study_arms','2026-11-29 00:00:00+00:00');
CREATE TABLE contrast_question (
    set_key TEXT NOT NULL REFERENCES training_set (key),
    question_id INTEGER NOT NULL REFERENCES question (id),
    margin REAL NOT NULL CHECK (margin BETWEEN 0 AND 1),
    PRIMARY KEY (set_key, question_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "contrast_question" VALUES('set',1,0.5);
CREATE TABLE encoding (
    set_key TEXT NOT NULL REFERENCES training_set (key),
    tokenizer_sha256 TEXT NOT NULL,
    position INTEGER NOT NULL CHECK (position >= 0),
    prompt_tokens INTEGER NOT NULL CHECK (prompt_tokens >= 1),
    completion_tokens INTEGER NOT NULL CHECK (completion_tokens >= 1),
    pieces BLOB,
    PRIMARY KEY (set_key, tokenizer_sha256, position)
) STRICT, WITHOUT ROWID;
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
) STRICT;
INSERT INTO "evaluation" VALUES(1,1,'eval','cot',1,2,2,1,0.09,0.91,1,11.5);
CREATE TABLE evaluation_answer (
    evaluation_id INTEGER NOT NULL REFERENCES evaluation (id),
    question_id INTEGER NOT NULL REFERENCES question (id),
    answer TEXT,
    "right" INTEGER NOT NULL CHECK ("right" IN (0, 1)),
    PRIMARY KEY (evaluation_id, question_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "evaluation_answer" VALUES(1,4,'1',1);
INSERT INTO "evaluation_answer" VALUES(1,5,NULL,0);
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
    validation INTEGER NOT NULL CHECK (validation IN (0, 1)), first_tokens INTEGER CHECK (first_tokens >= 1),
    UNIQUE (set_key, position)
) STRICT;
INSERT INTO "example" VALUES(1,'set',0,1,1,'few-shot-cot','Q: What?
A:',3,' The answer is 7.',X'010000000200000003000000',1.0,0,NULL);
CREATE TABLE gold (
    question_id INTEGER PRIMARY KEY REFERENCES question (id),
    answers TEXT NOT NULL CHECK (json_array_length(answers) >= 1)
) STRICT;
INSERT INTO "gold" VALUES(4,'["1"]');
INSERT INTO "gold" VALUES(5,'["1"]');
CREATE TABLE gold_change (
    id INTEGER PRIMARY KEY,
    question_id INTEGER NOT NULL REFERENCES gold (question_id),
    answers TEXT NOT NULL CHECK (json_array_length(answers) >= 1),
    created_at REAL NOT NULL
) STRICT;
INSERT INTO "gold_change" VALUES(1,4,'["99"]',20.5);
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
    finished_at REAL, phase TEXT CHECK (phase IN ('sampling', 'extraction', 'curation',
    'scoring', 'training', 'conversion', 'measuring')), run_id INTEGER REFERENCES run (id), model_id INTEGER REFERENCES model (id),
    CHECK ((state = 'failed') = (error IS NOT NULL))
) STRICT;
INSERT INTO "job" VALUES(1,'sample','{"settings": {}}','aa4b1762ce43e90137ac8274440daf930cd637e37a29ec4a5d22674e8d341b74','queued',0,0,'waiting',NULL,'{}',NULL,NULL,4.5,NULL,NULL,NULL,'sampling',1,1);
CREATE TABLE losing_path (
    set_key TEXT NOT NULL,
    path_id INTEGER NOT NULL REFERENCES path (id),
    question_id INTEGER NOT NULL,
    answer TEXT NOT NULL,
    PRIMARY KEY (set_key, path_id),
    FOREIGN KEY (set_key, question_id) REFERENCES contrast_question (set_key, question_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "losing_path" VALUES('set',2,1,'8');
CREATE TABLE metric (
    id INTEGER PRIMARY KEY,
    job_id INTEGER NOT NULL REFERENCES job (id),
    step INTEGER NOT NULL,
    name TEXT NOT NULL,
    value REAL,
    created_at REAL NOT NULL
) STRICT;
INSERT INTO "metric" VALUES(1,1,1,'loss',2.5,5.5);
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
) STRICT;
INSERT INTO "model" VALUES(1,'small/base','base','models/small',NULL,NULL,NULL,'weights','tokenizer',NULL,NULL,1000000,1.5);
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
) STRICT;
INSERT INTO "path" VALUES(1,1,1,0,'One more is 1. The answer is 7.',X'0500000000000000FFFFFFFF','end',3.5);
INSERT INTO "path" VALUES(2,1,1,1,'One more is 1. The answer is 7.',X'0500000000000000FFFFFFFF','end',3.5);
CREATE TABLE path_confidence (
    path_id INTEGER PRIMARY KEY REFERENCES path (id),
    mean_logprob REAL NOT NULL CHECK (mean_logprob <= 0),
    window_logprob REAL NOT NULL CHECK (window_logprob <= 0),
    tail_logprob REAL NOT NULL CHECK (tail_logprob <= 0),
    entropy REAL CHECK (entropy >= 0)
) STRICT;
INSERT INTO "path_confidence" VALUES(2,-0.25,-1.5,-0.125,0.5);
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
) STRICT;
INSERT INTO "question" VALUES(1,'6a742fb11bab879e','pool','sums',0,'sums','number','What is 0 + 1?','[]','');
INSERT INTO "question" VALUES(2,'1e3ad88f6b003bdb','pool','sums',1,'sums','number','What is 1 + 1?','[]','');
INSERT INTO "question" VALUES(3,'c079f4d14b73faf9','pool','sums',2,'sums','number','What is 2 + 1?','[]','');
INSERT INTO "question" VALUES(4,'abd7057da5f4a027','eval','sums',100,'sums','number','What is 100 + 1?','[]','');
INSERT INTO "question" VALUES(5,'5febb2408f90f137','eval','sums',101,'sums','number','What is 101 + 1?','[]','');
CREATE TABLE reader_rules (
    id INTEGER PRIMARY KEY,
    answer_type TEXT NOT NULL
        CHECK (answer_type IN ('number', 'choice', 'yes-no', 'nli', 'span', 'math')),
    rules TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;
INSERT INTO "reader_rules" VALUES(1,'number','{"units": ["km"]}',6.5);
CREATE TABLE reading (
    path_id INTEGER PRIMARY KEY REFERENCES path (id),
    reader TEXT NOT NULL,
    answer TEXT,
    shown TEXT,
    abstention TEXT CHECK (abstention IN ('truncated', 'no-answer', 'empty')),
    CHECK ((answer IS NULL) = (abstention IS NOT NULL))
) STRICT;
INSERT INTO "reading" VALUES(1,'number/1','7','7',NULL);
INSERT INTO "reading" VALUES(2,'number/1',NULL,NULL,'empty');
CREATE TABLE removal (
    question_id INTEGER PRIMARY KEY REFERENCES question (id),
    removed_at REAL NOT NULL
) STRICT;
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
    created_at REAL NOT NULL, winner TEXT,
    CHECK (verdict NOT IN ('answer', 'typed', 'same') OR answer IS NOT NULL),
    CHECK ((verdict = 'same') = (other IS NOT NULL)),
    CHECK ((verdict = 'undo') = (undoes IS NOT NULL))
) STRICT;
INSERT INTO "review" VALUES(1,1,1,'triage','none',NULL,NULL,NULL,2.25,12.5,NULL);
CREATE TABLE round (
    number INTEGER PRIMARY KEY CHECK (number >= 1),
    job_id INTEGER NOT NULL REFERENCES job (id),
    sampled_id INTEGER NOT NULL REFERENCES model (id),
    trained_id INTEGER NOT NULL REFERENCES model (id),
    verdict TEXT NOT NULL CHECK (verdict IN ('accept', 'reject', 'undecided')),
    details TEXT NOT NULL,
    decided_at REAL NOT NULL
) STRICT;
INSERT INTO "round" VALUES(1,1,1,1,'undecided','{}',13.5);
CREATE TABLE round_decision (
    id INTEGER PRIMARY KEY,
    number INTEGER NOT NULL REFERENCES round (number),
    verdict TEXT NOT NULL CHECK (verdict IN ('accept', 'reject', 'undecided')),
    decided_at REAL NOT NULL
) STRICT;
INSERT INTO "round_decision" VALUES(1,1,'accept',14.5);
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
) STRICT;
INSERT INTO "run" VALUES(1,'pool run',1,'pool','few-shot-cot','base','prompt',4,0.7,1.0,0,0.0,64,4611686018427387905,'exact',0.0,'3/5',8,'scripted','1',2.5);
INSERT INTO "run" VALUES(2,'eval run',1,'eval','few-shot-cot','base','prompt',4,0.7,1.0,0,0.0,64,4611686018427387905,'exact',0.0,'3/5',8,'scripted','1',2.5);
CREATE TABLE sitting (
    id INTEGER PRIMARY KEY,
    run_id INTEGER NOT NULL REFERENCES run (id),
    engine TEXT NOT NULL,
    engine_version TEXT NOT NULL,
    details TEXT NOT NULL,
    started_at REAL NOT NULL
) STRICT;
INSERT INTO "sitting" VALUES(1,1,'scripted','1','{"width": 4}',2.75);
CREATE TABLE teacher_top (
    path_id INTEGER PRIMARY KEY REFERENCES path (id),
    k INTEGER NOT NULL CHECK (k >= 1),
    token_ids BLOB NOT NULL CHECK (length(token_ids) % (4 * k) = 0),
    logprobs BLOB NOT NULL CHECK (length(logprobs) * 4 * k = length(token_ids) * 2 * (k + 1))
) STRICT;
INSERT INTO "teacher_top" VALUES(1,1,X'0500000000000000FFFFFFFF',X'000000000000000000000000');
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
, m INTEGER, validation_share REAL, counting TEXT
    CHECK (counting IN ('plain', 'weighted', 'soft')), confidence_temperature REAL, arm TEXT
    CHECK (arm IN ('voted', 'unvoted', 'first-tokens', 'random')), voted_set TEXT REFERENCES training_set (key)) STRICT;
INSERT INTO "training_set" VALUES('set',1,'3/5',8,'["zero-shot-cot", "few-shot-direct"]','per-question',0,'tokenizer',1,2,9.5,NULL,NULL,'weighted',0.25,NULL,NULL);
CREATE TABLE vote (
    run_id INTEGER NOT NULL REFERENCES run (id),
    question_id INTEGER NOT NULL REFERENCES question (id),
    m INTEGER NOT NULL CHECK (m >= 1),
    drawn INTEGER NOT NULL CHECK (drawn BETWEEN 0 AND m),
    tally TEXT NOT NULL,
    abstained INTEGER NOT NULL CHECK (abstained BETWEEN 0 AND drawn),
    winner TEXT,
    decision TEXT NOT NULL CHECK (decision IN ('keep', 'reject', 'open')),
    reader TEXT NOT NULL, first INTEGER
    GENERATED ALWAYS AS (coalesce(json_extract(tally, '$[0][1]'), 0)) VIRTUAL, second INTEGER
    GENERATED ALWAYS AS (coalesce(json_extract(tally, '$[1][1]'), 0)) VIRTUAL,
    PRIMARY KEY (run_id, question_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "vote" VALUES(1,1,4,2,'[["7", 1]]',1,'7','open','number/1');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX question_split ON question (split, source, task);
CREATE TRIGGER gold_never_of_the_pool BEFORE INSERT ON gold
WHEN (SELECT split FROM question WHERE id = NEW.question_id) = 'pool'
BEGIN SELECT RAISE(ABORT, 'a pool question cannot have a known answer'); END;
CREATE TRIGGER gold_is_not_changed BEFORE UPDATE ON gold
BEGIN SELECT RAISE(ABORT, 'known answers are not changed'); END;
CREATE TRIGGER gold_is_not_deleted BEFORE DELETE ON gold
BEGIN SELECT RAISE(ABORT, 'known answers are not deleted'); END;
CREATE TRIGGER question_keeps_its_split BEFORE UPDATE OF id, key, split ON question
BEGIN SELECT RAISE(ABORT, 'a question stays in its split'); END;
CREATE INDEX path_counts ON path (run_id, "end", tokens);
CREATE TRIGGER path_is_not_changed BEFORE UPDATE ON path
BEGIN SELECT RAISE(ABORT, 'a path stays as it came'); END;
CREATE TRIGGER path_is_not_deleted BEFORE DELETE ON path
BEGIN SELECT RAISE(ABORT, 'a path stays as it came'); END;
CREATE INDEX reading_abstained ON reading (path_id) WHERE answer IS NULL;
CREATE INDEX review_question ON review (run_id, question_id);
CREATE TRIGGER review_is_not_changed BEFORE UPDATE ON review
BEGIN SELECT RAISE(ABORT, 'a review is not changed: an undo is a later row'); END;
CREATE TRIGGER review_is_not_deleted BEFORE DELETE ON review
BEGIN SELECT RAISE(ABORT, 'a review is not deleted: an undo is a later row'); END;
CREATE TRIGGER review_undoes_its_own_question BEFORE INSERT ON review
WHEN NEW.undoes IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM review
    WHERE id = NEW.undoes AND run_id = NEW.run_id AND question_id = NEW.question_id)
BEGIN SELECT RAISE(ABORT, 'an undo names an earlier review of the same question'); END;
CREATE TRIGGER example_only_from_the_pool BEFORE INSERT ON example
WHEN (SELECT split FROM question WHERE id = NEW.question_id) <> 'pool'
BEGIN SELECT RAISE(ABORT, 'only pool questions become training examples'); END;
CREATE TRIGGER example_is_not_changed BEFORE UPDATE ON example
BEGIN SELECT RAISE(ABORT, 'a training set is frozen'); END;
CREATE TRIGGER example_is_not_deleted BEFORE DELETE ON example
BEGIN SELECT RAISE(ABORT, 'a training set is frozen'); END;
CREATE UNIQUE INDEX job_asked_once ON job (key)
WHERE state IN ('queued', 'running', 'pausing', 'paused');
CREATE INDEX job_state ON job (state);
CREATE INDEX metric_job ON metric (job_id);
CREATE INDEX vote_counts ON vote (run_id, decision, first, second, drawn, m, abstained);
CREATE INDEX example_kinds ON example (set_key, prompt_format, position, validation, weight);
CREATE INDEX sitting_run ON sitting (run_id);
CREATE TRIGGER reader_rules_are_not_changed BEFORE UPDATE ON reader_rules
BEGIN SELECT RAISE(ABORT, 'rules are not changed: newer ones are a later row'); END;
CREATE TRIGGER reader_rules_are_not_deleted BEFORE DELETE ON reader_rules
BEGIN SELECT RAISE(ABORT, 'rules are not deleted: newer ones are a later row'); END;
CREATE TRIGGER round_is_not_changed BEFORE UPDATE ON round
BEGIN SELECT RAISE(ABORT, 'a round is not changed: a person decides by a later row'); END;
CREATE TRIGGER round_is_not_deleted BEFORE DELETE ON round
BEGIN SELECT RAISE(ABORT, 'a round is not deleted: a person decides by a later row'); END;
CREATE TRIGGER round_decision_is_not_changed BEFORE UPDATE ON round_decision
BEGIN SELECT RAISE(ABORT, 'a decision is not changed: a newer one is a later row'); END;
CREATE TRIGGER round_decision_is_not_deleted BEFORE DELETE ON round_decision
BEGIN SELECT RAISE(ABORT, 'a decision is not deleted: a newer one is a later row'); END;
CREATE INDEX gold_change_question ON gold_change (question_id);
CREATE TRIGGER gold_change_is_not_changed BEFORE UPDATE ON gold_change
BEGIN SELECT RAISE(ABORT, 'known answers are not changed: newer ones are a later row'); END;
CREATE TRIGGER gold_change_is_not_deleted BEFORE DELETE ON gold_change
BEGIN SELECT RAISE(ABORT, 'known answers are not deleted: newer ones are a later row'); END;
CREATE INDEX losing_path_question ON losing_path (set_key, question_id);
CREATE TRIGGER contrast_question_only_from_the_pool BEFORE INSERT ON contrast_question
WHEN (SELECT split FROM question WHERE id = NEW.question_id) <> 'pool'
BEGIN SELECT RAISE(ABORT, 'only pool questions become training examples'); END;
CREATE TRIGGER contrast_question_is_not_changed BEFORE UPDATE ON contrast_question
BEGIN SELECT RAISE(ABORT, 'a training set is frozen'); END;
CREATE TRIGGER contrast_question_is_not_deleted BEFORE DELETE ON contrast_question
BEGIN SELECT RAISE(ABORT, 'a training set is frozen'); END;
CREATE TRIGGER losing_path_only_of_its_question BEFORE INSERT ON losing_path
WHEN (SELECT question_id FROM path WHERE id = NEW.path_id) IS NOT NEW.question_id
BEGIN SELECT RAISE(ABORT, 'a losing path belongs to its question'); END;
CREATE TRIGGER losing_path_is_not_changed BEFORE UPDATE ON losing_path
BEGIN SELECT RAISE(ABORT, 'a training set is frozen'); END;
CREATE TRIGGER losing_path_is_not_deleted BEFORE DELETE ON losing_path
BEGIN SELECT RAISE(ABORT, 'a training set is frozen'); END;
CREATE TRIGGER path_confidence_is_not_changed BEFORE UPDATE ON path_confidence
BEGIN SELECT RAISE(ABORT, 'a path stays as it came'); END;
CREATE TRIGGER path_confidence_is_not_deleted BEFORE DELETE ON path_confidence
BEGIN SELECT RAISE(ABORT, 'a path stays as it came'); END;
COMMIT;
PRAGMA application_id = 1819112297;
PRAGMA user_version = 8;

"""One frozen dataclass for each table; rows map to them one to one.

Generated text is stored verbatim and never changed. The answer extracted from it is stored beside
it, in a `Reading`, so that a better reader can extract it again. Times are seconds since the epoch,
UTC. A `key` is a hash of content, the same in every project; an `id` is a row number and valid in
one database only.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from store.enums import (  # noqa: TC001 - `get_type_hints` of a record resolves them
    Abstention,
    AnswerType,
    Arm,
    Counting,
    Decision,
    EarlyStop,
    EndReason,
    JobKind,
    JobState,
    Method,
    Outcome,
    Phase,
    PromptFormat,
    PromptStyle,
    Queue,
    Split,
    Stage,
    Verdict,
    Weighting,
)


def content_hash(value: object) -> str:
    """SHA-256 (hex) of the canonical JSON of `value`: keys sorted, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def question_key(task: str, text: str, options: tuple[str, ...], passage: str) -> str:
    """Sixteen hex digits that identify a question by its content, the same in every project."""
    return content_hash([task, text, list(options), passage])[:16]


@dataclass(frozen=True, slots=True)
class Question:
    """An imported question, without its answer."""

    id: int
    """Row number; 0 before it is stored."""
    key: str
    """Content hash from `question_key`; unique within a split."""
    split: Split
    source: str
    """Name of the imported set, such as `gsm8k`."""
    position: int
    """Zero-based position in that set."""
    task: str
    """Task preset, such as `gsm8k` or `arc-challenge`: exemplars, columns and limits."""
    answer_type: AnswerType
    text: str
    options: tuple[str, ...] = ()
    """Texts of the choices in order; the answer is a letter. Empty unless `CHOICE`."""
    passage: str = ""
    """The text that the question is about (DROP's paragraph, NLI's premise); may be empty."""


@dataclass(frozen=True, slots=True)
class Gold:
    """The known answers of an evaluation question; pool questions cannot have one."""

    question_id: int
    answers: tuple[str, ...]
    """Canonical forms, each of which counts as correct; at least one."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be sampled: a base model, or a base model with an adapter."""

    id: int
    name: str
    """Unique in the project, such as `pebble-l/base`."""
    stage: Stage
    location: str
    """Folder, GGUF file or server URL of the (base) weights; relative if inside the project."""
    gguf: str | None
    """The same weights as GGUF, if there are both."""
    adapter: str | None
    """Folder of the LoRA adapter; `None` without one."""
    adapter_gguf: str | None
    sha256: str
    """Hash of the weights and of the adapter, if any."""
    tokenizer_sha256: str
    """Hash of the tokenizer: two models share token ids only if these are equal."""
    base_id: int | None
    """The model that it was trained from; `None` if it was not trained here."""
    training_set: str | None
    """Key of the training set; `None` if it was not trained here."""
    parameters: int | None
    """Number of parameters without the adapter; `None` if unknown (a server)."""
    created_at: float


@dataclass(frozen=True, slots=True)
class Run:
    """One distribution of paths: a model, a prompt and the sampling settings."""

    id: int
    key: str
    """Hash of what the distribution depends on: the same settings continue the same run."""
    model_id: int
    split: Split
    prompt_format: PromptFormat
    prompt_style: PromptStyle
    prompt_sha256: str
    """Hash of the template and exemplars."""
    m: int
    """Paths per question, ≥ 1."""
    temperature: float
    """≥ 0; 0 is greedy."""
    top_p: float
    """In (0, 1]; 1 is off."""
    top_k: int
    """0 is off."""
    min_p: float
    """In [0, 1); 0 is off."""
    max_tokens: int
    seed: int
    early_stop: EarlyStop
    epsilon: float
    """Probability of a changed decision that `FAST` accepts at each check; else 0."""
    threshold: str
    """Least agreement to keep a question, as an exact decimal or fraction, such as `0.6`."""
    cap: int
    """Most kept paths per question; 0 is no cap."""
    engine: str
    engine_version: str
    created_at: float


@dataclass(frozen=True, slots=True)
class ReasoningPath:
    """One sampled chain of thought, verbatim."""

    id: int
    run_id: int
    question_id: int
    index: int
    """0 ≤ index < m; votes are counted in this order."""
    text: str
    """The generated text, up to the end token or stop string."""
    token_ids: tuple[int, ...]
    """As sampled, the end token included; with `STOP`, every token that begins before the stop
    string. Empty for imported paths."""
    end: EndReason
    finished_at: float


@dataclass(frozen=True, slots=True)
class Reading:
    """The answer that a reader extracted from a path, or why there is none."""

    path_id: int
    reader: str
    """Name and version of the reader, such as `number/1`."""
    answer: str | None
    """Canonical form; `None` when the path abstains."""
    shown: str | None
    """The answer as it appears in the path."""
    abstention: Abstention | None


@dataclass(frozen=True, slots=True)
class Vote:
    """The majority vote on one question in one run."""

    run_id: int
    question_id: int
    m: int
    """Denominator of the agreement: the run's m."""
    drawn: int
    """Paths counted, in index order; < m if sampling stopped early."""
    tally: tuple[tuple[str, int], ...]
    """(answer, paths), most first; ties in order of first appearance."""
    abstained: int
    winner: str | None
    """`None` if there is no answer, or a tie for the most paths."""
    decision: Decision
    """At the run's threshold and cap."""
    reader: str

    @property
    def top(self) -> int:
        """Paths of the leading answer; 0 if all abstained."""
        return self.tally[0][1] if self.tally else 0

    @property
    def agreement(self) -> float:
        """Share of the leading answer, in [0, 1]; a lower bound if `drawn < m`."""
        return self.top / self.m

    @property
    def second(self) -> int:
        """Votes of the second most frequent answer; 0 if there is none."""
        return self.tally[1][1] if len(self.tally) > 1 else 0


@dataclass(frozen=True, slots=True)
class Review:
    """A reviewer's decision. Rows are only added: an undo is a later row."""

    id: int
    question_id: int
    run_id: int
    queue: Queue
    verdict: Verdict
    answer: str | None
    """Canonical answer for `ANSWER`, `TYPED`, `SAME` (and in audits); else `None`."""
    other: str | None
    """The second answer of `SAME`."""
    undoes: int | None
    """The review that an `UNDO` reverts."""
    seconds: float
    """From showing the question to the decision."""
    created_at: float
    winner: str | None = None
    """The vote's winner at that time; `None` without one, and in rows older than this column."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Examples, frozen under the hash of their content and of the settings that chose them."""

    key: str
    run_id: int
    threshold: str
    cap: int
    formats: tuple[PromptFormat, ...]
    weighting: Weighting
    label_free: bool
    """False if any example depends on a review, or reviews removed questions."""
    tokenizer_sha256: str
    questions: int
    examples: int
    created_at: float
    m: int | None = None
    """Paths per question of its votes; `None` in rows older than this column."""
    validation_share: float | None = None
    """Share of the questions held out, in [0, 0.5]; `None` in rows older than this column."""
    counting: Counting | None = None
    """`None` in rows older than this column, whose paths had one vote each."""
    confidence_temperature: float | None = None
    """Of the weights; `None` if every path had one vote."""
    arm: Arm | None = None
    """The arm of a study that trains on it; `None` for an ordinary set."""
    voted_set: str | None = None
    """Key of the ordinary set that an arm is compared with."""


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and the completion to learn."""

    id: int
    set_key: str
    position: int
    """Position in the set, from 0."""
    question_id: int
    path_id: int | None
    """The path that is the completion; `None` for direct answers."""
    prompt_format: PromptFormat
    prompt: str
    """Text of the whole prompt, as rendered."""
    shared: int
    """Length in characters of the few-shot prefix of `prompt`; 0 without one."""
    completion: str
    """Text of the completion without the end token."""
    token_ids: tuple[int, ...]
    """The completion as sampled; empty if it must be tokenized (direct answers, imports)."""
    weight: float
    """≥ 0; a direct answer that replaces k paths has the sum of their weights."""
    validation: bool
    """Whether it is held out (by question) to choose the checkpoint."""
    first_tokens: int | None = None
    """Only so many tokens of the completion are learned, and at most half of it, so that it has
    neither an answer nor an end token; `None` learns all."""


@dataclass(frozen=True, slots=True)
class ContrastQuestion:
    """A question of a training set, as a contrast of its paths sees it."""

    set_key: str
    question_id: int
    margin: float
    """Lead of the kept answer as a share of the counted paths, in [0, 1]; 1 if a review decided."""


@dataclass(frozen=True, slots=True)
class LosingPath:
    """A complete path of a training set's question with another answer than the kept one."""

    set_key: str
    path_id: int
    question_id: int
    answer: str
    """As it was counted in the vote."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """An example as the tokens that a training sees, for one tokenizer."""

    set_key: str
    tokenizer_sha256: str
    position: int
    """Of the example in its set."""
    prompt_tokens: int
    """≥ 1; tokens without loss."""
    completion_tokens: int
    """≥ 1, the end token included; tokens with loss."""
    pieces: tuple[str, ...] | None
    """The text of each token, prompt first; a character that several tokens encode belongs to the
    last of them. `None` if only the counts are stored."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model's accuracy by one method on one split, with its 95 % interval."""

    id: int
    model_id: int
    split: Split
    method: Method
    k: int
    """Paths behind each answer; 1 except for `SC`."""
    run_id: int
    n: int
    correct: int
    low: float
    """Lower end of the 95 % Wilson interval of the accuracy, in [0, 1]."""
    high: float
    abstained: int
    """Questions without an answer (all paths abstained, or a tie); counted as wrong."""
    created_at: float

    @property
    def accuracy(self) -> float:
        """Share of the n questions that were answered correctly, in [0, 1]."""
        return self.correct / self.n


@dataclass(frozen=True, slots=True)
class Round:
    """A round: one model was sampled, another one trained, and the test decided about it."""

    number: int
    """From 1, in the order of the decisions."""
    job_id: int
    sampled_id: int
    """The model that was sampled."""
    trained_id: int
    """The model that was trained on the votes, from its base."""
    verdict: Outcome
    """Of the acceptance test; your own decision is a later `RoundDecision`."""
    details: dict[str, object]
    """Tests, alarms and evaluation sets, as JSON."""
    decided_at: float


@dataclass(frozen=True, slots=True)
class RoundDecision:
    """A user's decision about a round, after the test. Rows are only added."""

    id: int
    number: int
    """Of the round."""
    verdict: Outcome
    decided_at: float


@dataclass(frozen=True, slots=True)
class ReaderRules:
    """Custom rules for the reader of an answer type. The newest row of a type is in force."""

    id: int
    answer_type: AnswerType
    rules: dict[str, object]
    """As JSON; empty restores the built-in reader."""
    created_at: float


@dataclass(frozen=True, slots=True)
class Job:
    """A job: requested by the app or the command line, run by the worker."""

    id: int
    kind: JobKind
    params: dict[str, object]
    """Settings and arguments, as JSON."""
    key: str
    """Hash of kind and params: the same request attaches to an unfinished job."""
    state: JobState
    done: int
    total: int
    """In the units of `done`; 0 if unknown."""
    message: str
    """What it is doing, or how it ended; for the user."""
    error: str | None
    """One sentence for the user; `None` unless `FAILED`."""
    result: dict[str, object]
    pid: int | None
    started_ticks: int | None
    """Start time of the process: it distinguishes the worker from a later process with its pid."""
    created_at: float
    started_at: float | None
    heartbeat_at: float | None
    finished_at: float | None
    phase: Phase | None = None
    """What it is doing, or did last; `None` before it begins and in rows older than this column."""
    run_id: int | None = None
    """The run that the phase samples or reads; `None` if it has none."""
    model_id: int | None = None
    """The model that the phase samples, trains or measures; `None` if it has none."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A number that a job measured at a step, for its chart."""

    job_id: int
    step: int
    name: str
    value: float
    created_at: float

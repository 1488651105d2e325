"""One frozen dataclass for each thing the program knows; rows map to them one to one.

Text that a model wrote is stored as it came and is never changed. What is read out of it (the
answer) lives beside it, in a `Reading`, so that a better reader can read it again. Times are
seconds since the epoch, UTC. Identifiers named `key` are hashes of content, the same in every
project; identifiers named `id` are row numbers and mean nothing outside one database.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from store.enums import (  # noqa: TC001 - `get_type_hints` of a record resolves them
    Abstention,
    AnswerType,
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
    """Sixteen hex digits that name a question by its content, in every project the same."""
    return content_hash([task, text, list(options), passage])[:16]


@dataclass(frozen=True, slots=True)
class Question:
    """A question as it was imported, without its answer."""

    id: int
    """Row number; 0 before it is stored."""
    key: str
    """Content hash from `question_key`; unique within a split."""
    split: Split
    source: str
    """Name of the imported set, such as `gsm8k`."""
    position: int
    """Zero-based place in that set."""
    task: str
    """Preset that asks it, such as `gsm8k` or `arc-challenge`: its exemplars, fields and limits."""
    answer_type: AnswerType
    text: str
    options: tuple[str, ...] = ()
    """Texts of the choices in order; the answer is their letter. Empty unless `CHOICE`."""
    passage: str = ""
    """What the question is asked about (DROP's paragraph, NLI's premise); may be empty."""


@dataclass(frozen=True, slots=True)
class Gold:
    """The known answers of an evaluation question; pool questions cannot have one."""

    question_id: int
    answers: tuple[str, ...]
    """Canonical forms that all count as right, at least one."""


@dataclass(frozen=True, slots=True)
class Model:
    """Something that can be sampled: a base model, or a base model with an adapter."""

    id: int
    name: str
    """Unique in the project, such as `pebble-l/base`."""
    stage: Stage
    location: str
    """Folder, GGUF file or server URL of the (base) weights; relative to the project if inside."""
    gguf: str | None
    """The same weights as GGUF, where there are both forms."""
    adapter: str | None
    """Folder of the LoRA adapter; `None` when the weights stand alone."""
    adapter_gguf: str | None
    sha256: str
    """Hash of the weights, and of the adapter where there is one."""
    tokenizer_sha256: str
    """Hash of the tokenizer: token ids move between two models only when these are equal."""
    base_id: int | None
    """The model that it was trained from; `None` for one that was brought along."""
    training_set: str | None
    """Key of the training set behind it; `None` for one that was brought along."""
    parameters: int | None
    """Number of weights, without the adapter; `None` when it is not known (a server)."""
    created_at: float


@dataclass(frozen=True, slots=True)
class Run:
    """One way of sampling one model: everything that a path's distribution depends on."""

    id: int
    key: str
    """Hash of the settings below: the same settings again continue the same run."""
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
    """Chance of another decision that `FAST` accepts at one look; 0 otherwise."""
    threshold: str
    """Share that the decision is about, as an exact decimal or fraction, such as `0.6`."""
    cap: int
    """Kept paths per question that the decision is about; 0 is no cap."""
    engine: str
    engine_version: str
    created_at: float


@dataclass(frozen=True, slots=True)
class ReasoningPath:
    """One sampled chain of thought, as it came."""

    id: int
    run_id: int
    question_id: int
    index: int
    """0 ≤ index < m; votes are counted in this order."""
    text: str
    """What the model wrote, up to the end token or stop string."""
    token_ids: tuple[int, ...]
    """As sampled: the end token included when there was one; with `STOP`, every token that
    begins before the stop string. Empty for paths sampled elsewhere."""
    end: EndReason
    finished_at: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader took from a path: an answer, or why there is none."""

    path_id: int
    reader: str
    """Name and version of the reader, such as `number/1`."""
    answer: str | None
    """Canonical form; `None` when the path abstains."""
    shown: str | None
    """The answer as the path wrote it."""
    abstention: Abstention | None


@dataclass(frozen=True, slots=True)
class Vote:
    """The count of one question's paths in one run."""

    run_id: int
    question_id: int
    m: int
    """Denominator of the agreement, always the run's m."""
    drawn: int
    """Paths counted, in index order; < m when the vote stopped early."""
    tally: tuple[tuple[str, int], ...]
    """(answer, paths), most first, ties in order of first appearance."""
    abstained: int
    winner: str | None
    """`None` when there is no answer or a tie for the first place."""
    decision: Decision
    """At the run's threshold and cap."""
    reader: str

    @property
    def top(self) -> int:
        """Paths of the leading answer; 0 when all abstained."""
        return self.tally[0][1] if self.tally else 0

    @property
    def agreement(self) -> float:
        """Lower bound of the leader's share, in [0, 1]; exact when `drawn == m`."""
        return self.top / self.m

    @property
    def second(self) -> int:
        """Votes of the second most frequent answer; 0 if there is none."""
        return self.tally[1][1] if len(self.tally) > 1 else 0


@dataclass(frozen=True, slots=True)
class Review:
    """A person's decision. Rows are only ever added: an undo is a later row."""

    id: int
    question_id: int
    run_id: int
    queue: Queue
    verdict: Verdict
    answer: str | None
    """Canonical answer for `ANSWER`, `TYPED`, `SAME` (and what an audit says); else `None`."""
    other: str | None
    """The second answer of `SAME`."""
    undoes: int | None
    """The review that an `UNDO` takes back."""
    seconds: float
    """Time from showing the question to the decision."""
    created_at: float
    winner: str | None = None
    """The vote's leading answer when the decision was made; `None` where two led, where there was
    none, and in decisions that are older than this field."""


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """Examples frozen under the hash of their content and of the settings that chose them."""

    key: str
    run_id: int
    threshold: str
    cap: int
    formats: tuple[PromptFormat, ...]
    weighting: Weighting
    label_free: bool
    """False when any example rests on a person's decision, or a person took questions out."""
    tokenizer_sha256: str
    questions: int
    examples: int
    created_at: float
    m: int | None = None
    """Paths per question of its votes; `None` in sets older than this field."""
    validation_share: float | None = None
    """Share of the questions held out, in [0, 0.5]; `None` in older sets."""


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with the completion that the model is to learn."""

    id: int
    set_key: str
    position: int
    """Order within the set, from 0."""
    question_id: int
    path_id: int | None
    """The path that is the completion; `None` for direct answers."""
    prompt_format: PromptFormat
    prompt: str
    """Text of the whole prompt, as the engine renders it."""
    shared: int
    """Characters at the start of `prompt` that are the few-shot prefix; 0 without one."""
    completion: str
    """Text of the completion without its end."""
    token_ids: tuple[int, ...]
    """Completion as it was sampled; empty where it must be tokenised (direct answers, imports)."""
    weight: float
    """≥ 0; a direct answer that stands for k paths has their summed weight."""
    validation: bool
    """Held out, by question, to choose the checkpoint."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """An example as the tokens of one tokenizer, as a training meets them."""

    set_key: str
    tokenizer_sha256: str
    position: int
    """Of the example in its set."""
    prompt_tokens: int
    """≥ 1; these carry no loss."""
    completion_tokens: int
    """≥ 1, the end token included; these carry the loss."""
    pieces: tuple[str, ...] | None
    """What each token writes, prompt first; a token that ends within a character writes nothing,
    and the one that completes it writes it. `None` where only the counts are kept."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How often a model was right, asked in one way, with its 95 % interval."""

    id: int
    model_id: int
    split: Split
    method: Method
    k: int
    """Paths per question behind each answer: 1 but for `SC`."""
    run_id: int
    n: int
    correct: int
    low: float
    """Lower end of the 95 % interval of the accuracy (Wilson), a share."""
    high: float
    abstained: int
    """Questions without an answer (all paths abstained, or a tie); they count as wrong."""
    created_at: float

    @property
    def accuracy(self) -> float:
        """Share of the n questions that were answered right."""
        return self.correct / self.n


@dataclass(frozen=True, slots=True)
class Round:
    """A model that was trained on the votes of one before, and what the guard said of it."""

    number: int
    """From 1, in the order of the decisions."""
    job_id: int
    sampled_id: int
    """The model whose paths voted."""
    trained_id: int
    """The model that was trained on them, from its base."""
    verdict: Outcome
    """The guard's; what a person decides is a later `RoundDecision`."""
    details: dict[str, object]
    """Tests, alarms and the sets that were measured, as the engine writes them."""
    decided_at: float


@dataclass(frozen=True, slots=True)
class RoundDecision:
    """What a person decided of a round after the guard. Rows are only ever added."""

    id: int
    number: int
    """Of the round."""
    verdict: Outcome
    decided_at: float


@dataclass(frozen=True, slots=True)
class ReaderRules:
    """What a person added to the reader of a type. The newest row of a type is in force."""

    id: int
    answer_type: AnswerType
    rules: dict[str, object]
    """As the engine writes them; empty brings the built-in reader back."""
    created_at: float


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of work: asked for by the screen or the command line, done by the worker."""

    id: int
    kind: JobKind
    params: dict[str, object]
    """What was asked, as JSON."""
    key: str
    """Hash of kind and params: asking again for an unfinished job attaches to it."""
    state: JobState
    done: int
    total: int
    """Units of work, the same as `done`; 0 when not known yet."""
    message: str
    """What it is doing now, or how it ended."""
    error: str | None
    """One sentence for a person; `None` unless `FAILED`."""
    result: dict[str, object]
    pid: int | None
    started_ticks: int | None
    """Start time of that process as the kernel tells it: a reused pid is not our worker."""
    created_at: float
    started_at: float | None
    heartbeat_at: float | None
    finished_at: float | None
    phase: Phase | None = None
    """What it is doing, or did last; `None` before it begins, and in jobs older than this field."""
    run_id: int | None = None
    """The run that the phase samples or reads; `None` if it has none."""
    model_id: int | None = None
    """The model that the phase samples, trains or measures; `None` if it has none."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of a job at one step, for its chart."""

    job_id: int
    step: int
    name: str
    value: float
    created_at: float

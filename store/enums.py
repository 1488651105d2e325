"""The closed sets of values that columns hold.

The values are stored, hashed and printed: they never change. A new member needs a migration that
widens the column's CHECK.
"""

from __future__ import annotations

from enum import StrEnum


class Split(StrEnum):
    """What a question is used for. Only `POOL` questions can become training data."""

    POOL = "pool"
    EVAL = "eval"
    OOD = "ood"


class AnswerType(StrEnum):
    """The kind of a question's answer; it decides reader, canonical form and equality."""

    NUMBER = "number"
    CHOICE = "choice"
    YES_NO = "yes-no"
    NLI = "nli"
    SPAN = "span"
    MATH = "math"


class PromptFormat(StrEnum):
    """The four prompt formats (Huang et al. 2022, Table 2), in the paper's order."""

    FEW_SHOT_COT = "few-shot-cot"
    FEW_SHOT_DIRECT = "few-shot-direct"
    ZERO_SHOT_COT = "zero-shot-cot"
    ZERO_SHOT_DIRECT = "zero-shot-direct"

    @property
    def reasons(self) -> bool:
        """Whether the model is asked to reason before it answers."""
        return self in (PromptFormat.FEW_SHOT_COT, PromptFormat.ZERO_SHOT_COT)

    @property
    def few_shot(self) -> bool:
        """Whether worked examples precede the question."""
        return self in (PromptFormat.FEW_SHOT_COT, PromptFormat.FEW_SHOT_DIRECT)


class PromptStyle(StrEnum):
    """`BASE` is plain text to continue; `CHAT` uses the model's chat template."""

    BASE = "base"
    CHAT = "chat"


class EndReason(StrEnum):
    """Why a path ended. `END` and `STOP` are complete; `LENGTH` is truncated and abstains."""

    END = "end"
    """The model wrote an end-of-generation token."""
    STOP = "stop"
    """A stop string was generated, such as the next question of a few-shot prompt."""
    LENGTH = "length"
    """The token limit was reached."""


class Abstention(StrEnum):
    """Why a path has no vote. It still counts in the denominator of the agreement."""

    TRUNCATED = "truncated"
    NO_ANSWER = "no-answer"
    EMPTY = "empty"


class EarlyStop(StrEnum):
    """When to stop sampling a question. `EXACT` never changes the decision of the full m paths."""

    OFF = "off"
    EXACT = "exact"
    FAST = "fast"


class Decision(StrEnum):
    """What a vote means for training, at a threshold."""

    KEEP = "keep"
    REJECT = "reject"
    OPEN = "open"


class Weighting(StrEnum):
    """The weight of each kept path in the loss."""

    PER_PATH = "per-path"
    """As in the paper: 1 for each path, so easy questions weigh more."""
    PER_QUESTION = "per-question"
    """1 for each question, shared among its paths."""
    BY_AGREEMENT = "by-agreement"
    """The agreement of the question, shared among its paths."""


class Counting(StrEnum):
    """How a training set counts the paths of a question."""

    PLAIN = "plain"
    """One vote for each path, as in the paper."""
    WEIGHTED = "weighted"
    """Each path by its confidence, compared with the other paths of the question."""
    SOFT = "soft"
    """The same, and the share of the answer is the weight of the question, without a threshold."""


class Verdict(StrEnum):
    """A reviewer's decision about a question."""

    ANSWER = "answer"
    """This answer, given by some path, is right."""
    MAJORITY = "majority"
    TYPED = "typed"
    NONE = "none"
    SKIP = "skip"
    SAME = "same"
    """Two answers of this question are equivalent."""
    UNDO = "undo"


class Queue(StrEnum):
    """Why a question was shown: it was doubtful (a biased sample), or sampled at random."""

    TRIAGE = "triage"
    AUDIT = "audit"


class Study(StrEnum):
    """What `lmsi-tui study` compares; a job that runs one names it in its parameters."""

    ARMS = "arms"
    """Trainings on voted paths and on controls for them: see `Arm`."""


class Stage(StrEnum):
    """How a model was made."""

    BASE = "base"
    LMSI = "lmsi"
    DISTILLED = "distilled"
    CONTROL = "control"


class Arm(StrEnum):
    """What one arm of a study trains on, from the same stored paths."""

    VOTED = "voted"
    """The kept paths: the set that the votes chose, which is an ordinary set."""
    UNVOTED = "unvoted"
    """As many paths of random questions, each with its own answer."""
    FIRST_TOKENS = "first-tokens"
    """The beginnings of the kept paths, without an answer."""
    RANDOM = "random"
    """Paths of the kept questions that lead to a random one of their answers."""


class Outcome(StrEnum):
    """The decision about a round."""

    ACCEPT = "accept"
    """Significantly better on the evaluation set, and not significantly worse out of domain."""
    REJECT = "reject"
    """Significantly worse on one of them: the model in use stays as it was."""
    UNDECIDED = "undecided"
    """Neither is significant with this number of questions; the rounds stop."""

    @property
    def word(self) -> str:
        """As an adjective: accepted, rejected or undecided."""
        return {Outcome.ACCEPT: "accepted", Outcome.REJECT: "rejected"}.get(self, "undecided")


class Method(StrEnum):
    """How a model's answers are obtained for an evaluation."""

    DIRECT = "direct"
    """Greedy decoding, the answer without reasoning."""
    COT = "cot"
    """Greedy decoding, chain of thought."""
    SINGLE = "single"
    """One sampled chain of thought."""
    SC = "sc"
    """Self-consistency: the majority vote of k sampled paths."""


class JobKind(StrEnum):
    """The stages that run as jobs."""

    SAMPLE = "sample"
    VOTE = "vote"
    CURATE = "curate"
    FINETUNE = "finetune"
    DISTILL = "distill"
    EVALUATE = "evaluate"
    EXPORT = "export"
    ROUND = "round"


class JobState(StrEnum):
    """A job's life: queued → running → done | failed | paused | cancelled.

    `PAUSING` and `CANCELLING` are requests that the worker follows at the next safe point. A
    running job whose worker died becomes `QUEUED` again.
    """

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"
    DONE = "done"
    FAILED = "failed"


class Phase(StrEnum):
    """What a running job is doing. A round goes through all of them."""

    SAMPLING = "sampling"
    """Paths for the pool."""
    EXTRACTION = "extraction"
    """Reading the answers of stored paths again."""
    CURATION = "curation"
    """Choosing a training set and counting its tokens."""
    SCORING = "scoring"
    """Computing the teacher's logits for distillation."""
    TRAINING = "training"
    CONVERSION = "conversion"
    """Between GGUF and Hugging Face, before or after a training."""
    MEASURING = "measuring"
    """Paths for evaluation questions, and their accuracy."""

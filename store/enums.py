"""The closed sets of values that columns hold.

The values are stored, hashed and printed: they never change. A new member needs a migration that
widens the column's CHECK.
"""

from __future__ import annotations

from enum import StrEnum


class Split(StrEnum):
    """What a question is for. Only `POOL` questions can become training data."""

    POOL = "pool"
    EVAL = "eval"
    OOD = "ood"


class AnswerType(StrEnum):
    """What kind of answer a question has; decides its reader, canonical form and equality."""

    NUMBER = "number"
    CHOICE = "choice"
    YES_NO = "yes-no"
    NLI = "nli"
    SPAN = "span"
    MATH = "math"


class PromptFormat(StrEnum):
    """The four ways of asking (Huang et al. 2022, Table 2), in the paper's order."""

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
        """Whether worked examples stand before the question."""
        return self in (PromptFormat.FEW_SHOT_COT, PromptFormat.FEW_SHOT_DIRECT)


class PromptStyle(StrEnum):
    """`BASE` continues plain text; `CHAT` fills the model's own chat template."""

    BASE = "base"
    CHAT = "chat"


class EndReason(StrEnum):
    """Why a path ended. Only `END` and `STOP` are whole; `LENGTH` was cut and abstains."""

    END = "end"
    """The model wrote an end-of-generation token."""
    STOP = "stop"
    """A stop string appeared, such as the next question of a few-shot run."""
    LENGTH = "length"
    """The token limit came first."""


class Abstention(StrEnum):
    """Why a path has no vote. It still counts in the denominator of the agreement."""

    TRUNCATED = "truncated"
    NO_ANSWER = "no-answer"
    EMPTY = "empty"


class EarlyStop(StrEnum):
    """When to stop drawing paths for a question; `EXACT` keeps every decision of the full m."""

    OFF = "off"
    EXACT = "exact"
    FAST = "fast"


class Decision(StrEnum):
    """What a vote means for training at a threshold."""

    KEEP = "keep"
    REJECT = "reject"
    OPEN = "open"


class Weighting(StrEnum):
    """How much each kept path counts in the loss."""

    PER_PATH = "per-path"
    """The paper: every kept path counts once, so easy questions count more."""
    PER_QUESTION = "per-question"
    """Every kept question counts once, shared among its paths."""
    BY_AGREEMENT = "by-agreement"
    """Every kept question counts its agreement, shared among its paths."""


class Verdict(StrEnum):
    """What a person decided about a question."""

    ANSWER = "answer"
    """This answer, which paths gave, is right."""
    MAJORITY = "majority"
    TYPED = "typed"
    NONE = "none"
    SKIP = "skip"
    SAME = "same"
    """Two answers of this question are the same answer."""
    UNDO = "undo"


class Queue(StrEnum):
    """Why a question was shown: doubtful (biased sample) or drawn at random (unbiased)."""

    TRIAGE = "triage"
    AUDIT = "audit"


class Stage(StrEnum):
    """Where a model stands in the method."""

    BASE = "base"
    LMSI = "lmsi"
    DISTILLED = "distilled"
    CONTROL = "control"


class Outcome(StrEnum):
    """What becomes of a round."""

    ACCEPT = "accept"
    """Surely better on the frozen set, and not surely worse out of domain."""
    REJECT = "reject"
    """Surely worse on one of the two: back to the round before."""
    UNDECIDED = "undecided"
    """Neither is shown at this number of questions; it is not a reason to go on."""

    @property
    def word(self) -> str:
        """What the round is called then."""
        return {Outcome.ACCEPT: "accepted", Outcome.REJECT: "rejected"}.get(self, "undecided")


class Method(StrEnum):
    """How a model is asked when it is measured."""

    DIRECT = "direct"
    """Greedy, the answer without reasoning."""
    COT = "cot"
    """Greedy chain of thought."""
    SINGLE = "single"
    """One chain of thought at the sampling temperature."""
    SC = "sc"
    """Self-consistency: the majority of k paths."""


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

    `PAUSING` and `CANCELLING` are wishes that the worker answers at the next safe point. A running
    job whose worker died becomes `QUEUED` again.
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

"""Where a gain comes from: the arms of the newest finished study, compared with its base.

All differences are paired on the same questions. That of the base and the voted arm is the sum of
two: what training on unvoted paths gives, and what the vote adds.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from engine.evaluation.accuracy import are_comparable, compare
from store import evaluations, examples, jobs, models
from store.enums import Arm, Method, Split, Study

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from engine.evaluation.accuracy import Comparison
    from engine.statistics.intervals import Paired
    from store.records import Evaluation, Model

METHODS = (Method.COT, Method.SINGLE, Method.SC, Method.DIRECT)
"""In the order in which they are reported; the headline is the first."""


@dataclass(frozen=True, slots=True)
class TrainedArm:
    """An arm with its model."""

    arm: Arm
    model: str
    questions: int
    """In its training set."""
    examples: int
    voted_labels: int | None = None
    """Number of questions whose random label is the voted one; None for other arms."""


@dataclass(frozen=True, slots=True)
class ArmGains:
    """The arms by one method on one split."""

    split: Split
    method: Method
    k: int
    """Paths behind each answer; 1 except for `SC`."""
    base: float
    """Accuracy of the base, in [0, 1]."""
    gains: Mapping[Arm, Paired]
    """Of each measured arm over the base; `won` and `lost` count the questions that changed."""
    vote: Paired | None
    """Of the voted arm over the unvoted one: what the vote adds. None without both."""


@dataclass(frozen=True, slots=True)
class ArmStudy:
    """The newest finished study of arms."""

    base: str
    first_tokens: int
    """Of a path, that the arm `first-tokens` learned."""
    arms: tuple[TrainedArm, ...]
    gains: tuple[ArmGains, ...]
    """By split, then by method."""

    def of(self, split: Split, method: Method) -> ArmGains | None:
        """The gains by one method on one split, if they were measured."""
        found = (each for each in self.gains if (each.split, each.method) == (split, method))
        return next(found, None)


def sentence(gains: ArmGains) -> str:
    """Where the gain of the voted arm comes from, in percentage points with a 95 % interval."""
    total = gains.gains[Arm.VOTED].gain
    ways = {Method.SC: f"majority of {gains.k} paths", Method.SINGLE: "one path"}
    way = ways.get(gains.method, "greedy" if gains.method is Method.COT else "direct answer")
    start = f"Of {100 * total:+.1f} points ({way})"
    unvoted = gains.gains.get(Arm.UNVOTED)
    if unvoted is None or gains.vote is None:
        return f"{start}, it is not known what the vote adds: the arm unvoted was not trained."
    low, high = gains.vote.low, gains.vote.high
    doubt = ", not shown to differ from 0" if low <= 0 <= high else ""
    return (
        f"{start}, unvoted training alone gives {100 * unvoted.gain:+.1f}, and the vote adds "
        f"{100 * gains.vote.gain:+.1f} ({100 * low:+.1f} to {100 * high:+.1f}){doubt}."
    )


def label_sentence(study: ArmStudy) -> str:
    """How random the labels of the arm `random` are; empty without it."""
    for trained in study.arms:
        if trained.voted_labels is not None:
            return (
                f"The random label is the voted one in {trained.voted_labels:,} of "
                f"{trained.questions:,} questions."
            )
    return ""


def read(conn: sqlite3.Connection) -> ArmStudy | None:
    """The newest finished study; None if there is none, or its models are not measured."""
    result = jobs.newest_study(conn, Study.ARMS)
    if result is None:
        return None
    base = models.by_name(conn, str(result["base"]))
    listed = result["arms"]
    assert isinstance(listed, list)
    of_arms: dict[Arm, Model] = {}
    trained: list[TrainedArm] = []
    for each in listed:
        model = models.by_name(conn, each["model"])
        frozen = examples.get_set(conn, each["training_set"])
        if model is not None and frozen is not None:
            arm = Arm(each["arm"])
            of_arms[arm] = model
            size = (frozen.questions, frozen.examples)
            trained.append(TrainedArm(arm, model.name, *size, each.get("voted_labels")))
    if base is None:
        return None
    gains = gains_of(conn, base, of_arms)
    if not gains:
        return None
    return ArmStudy(base.name, int(result["first_tokens"]), tuple(trained), tuple(gains))


def gains_of(conn: sqlite3.Connection, base: Model, of_arms: Mapping[Arm, Model]) -> list[ArmGains]:
    """The models of arms compared with their base, by split and method."""
    # By weights: two arms with the same examples make the same model, which is measured once.
    weights = {model.id: model.sha256 for model in models.all_of(conn)}
    newest = {
        (weights[model_id], split, method): evaluation
        for (model_id, split, method), evaluation in evaluations.newest(conn).items()
    }

    def difference(before: Evaluation | None, after: Evaluation | None) -> Paired | None:
        if before is None or after is None or not are_comparable(conn, before, after):
            return None
        comparison: Comparison | None = compare(conn, before, after)
        return comparison.result if comparison else None

    gains = []
    for split in (Split.EVAL, Split.OOD):
        for method in METHODS:
            start = newest.get((base.sha256, split, method))
            ends = {
                arm: newest.get((model.sha256, split, method)) for arm, model in of_arms.items()
            }
            over_base = {arm: gain for arm, end in ends.items() if (gain := difference(start, end))}
            if start is None or Arm.VOTED not in over_base:
                continue
            vote = difference(ends.get(Arm.UNVOTED), ends[Arm.VOTED])
            gains.append(ArmGains(split, method, start.k, start.accuracy, over_base, vote))
    return gains


def as_json(study: ArmStudy) -> dict[str, object]:
    """The study as JSON; gains are shares in [-1, 1]."""
    return asdict(study) | {
        "says": [sentence(gains) for gains in study.gains if gains.split is Split.EVAL]
    }

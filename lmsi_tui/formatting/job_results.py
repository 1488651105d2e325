"""The result of a job as a person would tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmsi_tui.formatting.numbers import duration
from store.enums import JobKind

if TYPE_CHECKING:
    from store.records import Job


_ROUND = (JobKind.SAMPLE, JobKind.CURATE, JobKind.FINETUNE, JobKind.DISTILL)
"""Stages of the whole loop that leave a result of their own."""


def sentence(kind: JobKind, result: dict[str, Any]) -> str:  # noqa: PLR0911 - one for each kind
    """What came of a job that is done."""
    match kind:
        case JobKind.SAMPLE | JobKind.VOTE:
            return (
                f"{result['questions']:,} questions settled, {result['kept_questions']:,} of them "
                f"kept at an agreement of {result['threshold']}. {result['paths']:,} paths "
                f"({result['drawn_share']:.0%} of the full vote), of which "
                f"{result['ended_properly']:,} ended by themselves and {result['abstained']:,} "
                f"gave no answer.{_changes(result)}"
            )
        case JobKind.CURATE:
            free = "label-free" if result["label_free"] else "with decisions of a person"
            # Sets that were frozen before the leak guard do not say how many leaked.
            leaked = result.get("leaked", 0)
            left_out = (
                f" {leaked:,} pool questions are nearly evaluation questions and were left out: "
                "`lmsi-tui leaks` shows them."
                if leaked
                else ""
            )
            return (
                f"Training set {result['training_set'][:12]}: {result['examples']:,} examples from "
                f"{result['questions']:,} questions, {free}.{left_out}"
            )
        case JobKind.FINETUNE:
            return _trained(result)
        case JobKind.DISTILL:
            return "\n".join(_trained(one) for one in result.values())
        case JobKind.EVALUATE:
            named = len({one["model"] for one in result["evaluations"]})
            models = "1 model" if named == 1 else f"{named} models"
            return f"{len(result['evaluations'])} measurements of {models}."
        case JobKind.ROUND:
            done = [one for one in _ROUND if one in result]
            told = [sentence(one, result[one]) for one in done]
            # Rounds that were made before the guard have none.
            if result.get("rounds"):
                told.append(_round(result["rounds"][-1]))
            return " ".join(told)
        case _:
            return ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in result.items())


def _round(one: dict[str, Any]) -> str:
    alarms = f" Alarms: {' '.join(one['alarms'])}" if one["alarms"] else ""
    return f"Round {one['round']}: {one['verdict']}. {one['reason']}{alarms}"


def _changes(result: dict[str, Any]) -> str:
    """What `fast` is known to have changed; nothing for the other rules."""
    if "change_rate" not in result:
        return ""
    return (
        f" Early stop fast at ε {result['epsilon']:g}: the share of decisions that it changed is "
        f"{result['change_rate']}."
    )


def _trained(result: dict[str, Any]) -> str:
    if result["trained_before"]:
        return f"{result['model']} was trained in this way before."
    before, after = result["first_validation_loss"], result["validation_loss"]
    learnt = f"; validation loss {before:.3f} to {after:.3f}" if after is not None else ""
    left_out = result.get("left_out", 0)
    without = f" {left_out:,} examples did not fit and were left out." if left_out else ""
    return (
        f"{result['model']}: {result['steps']:,} steps in {duration(result['seconds'])}{learnt}."
        f"{without}"
    )


def last_word(job: Job) -> str:
    """What a job says now: its error, its result, or what it is doing."""
    if job.error:
        return job.error
    try:
        return sentence(job.kind, job.result) or job.message if job.result else job.message
    except (KeyError, TypeError, ValueError, AttributeError):
        return job.message  # a result that another version of the program wrote

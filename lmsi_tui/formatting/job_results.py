"""The result of a job as one or more sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.evaluation import dial
from lmsi_tui.formatting.dial_text import chosen
from lmsi_tui.formatting.numbers import duration
from lmsi_tui.formatting.sanitize import snippet
from store.counted import counted
from store.enums import JobKind

if TYPE_CHECKING:
    from store.records import Job


_ROUND = (JobKind.SAMPLE, JobKind.CURATE, JobKind.FINETUNE, JobKind.DISTILL)
"""Stages of a round that have a result of their own."""


def sentence(kind: JobKind, result: dict[str, Any]) -> str:  # noqa: PLR0911 - one for each kind
    """The result of a finished job in sentences."""
    match kind:
        case JobKind.SAMPLE | JobKind.VOTE:
            return (
                f"{counted(result['questions'], 'question')} settled, {result['kept_questions']:,} "
                f"of them kept at threshold {result['threshold']}. "
                f"{counted(result['paths'], 'path')} "
                f"({result['drawn_share']:.0%} of the full votes): "
                f"{result['ended_properly']:,} ended before the token limit, "
                f"{result['abstained']:,} gave no answer.{_changes(result)}{reread(result)}"
            )
        case JobKind.CURATE:
            free = "label-free" if result["label_free"] else "with your decisions"
            # Older versions did not check for contamination.
            leaked = result.get("leaked", 0)
            near = counted(leaked, "pool question nearly matches", "pool questions nearly match")
            left_out = (
                f" {near} evaluation questions, left out: `lmsi-tui leaks` lists them."
                if leaked
                else ""
            )
            return (
                f"Training set {result['training_set'][:12]}: "
                f"{counted(result['examples'], 'example')} from "
                f"{counted(result['questions'], 'question')}, {free}.{left_out}{reread(result)}"
            )
        case JobKind.FINETUNE:
            return _study(result) if "study" in result else _trained(result)
        case JobKind.DISTILL:
            return "\n".join(_trained(student) for student in result.values())
        case JobKind.EVALUATE if dial.PARAM in result:
            return chosen(dial.from_json(result[dial.PARAM]))
        case JobKind.EVALUATE:
            count = len({row["model"] for row in result["evaluations"]})
            models = counted(count, "model")
            measurements = counted(len(result["evaluations"]), "measurement")
            return f"{measurements} of {models}.{reread(result)}"
        case JobKind.ROUND:
            sentences = [sentence(stage, result[stage]) for stage in _ROUND if stage in result]
            # Older versions had no acceptance test.
            if result.get("rounds"):
                sentences.append(_round(result["rounds"][-1]))
            return " ".join(sentences)
        case JobKind.EXPORT:
            model = result.get("model")
            strength = result.get("strength") or 1
            at = f", at strength {strength:g}" if strength != 1 else ""
            return (
                f"{f'{model} is' if model else 'The training set is'} in {result['written']}{at}."
            )
        case _:
            return ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in result.items())


def _round(result: dict[str, Any]) -> str:
    alarms = f" Alarms: {' '.join(result['alarms'])}" if result["alarms"] else ""
    return f"Round {result['round']}: {result['verdict']}. {result['reason']}{alarms}"


def _changes(result: dict[str, Any]) -> str:
    """The share of decisions that `fast` changed; empty for the other rules."""
    if "change_rate" not in result:
        return ""
    return (
        f" Early stop fast at ε {result['epsilon']:g} changed this share of the decisions: "
        f"{result['change_rate']}."
    )


def reread(result: dict[str, Any]) -> str:
    """What reading the stored paths again has changed; empty if no reader was outdated."""
    if not result.get("readers") and not result.get("changed_winners"):
        return ""
    changed = result["changed_winners"]
    by = ", ".join(f"{now} (before: {before})" for before, now in result.get("readers", ()))
    count = f"{counted(changed, 'winner')} changed"
    return f" The stored paths were read again{f' by {by}' if by else ''}: {count}."


def winner_text(answer: str | None, width: int = 24) -> str:
    """A winner, or `no winner`."""
    return "no winner" if answer is None else snippet(answer, width)


def winner_lines(result: dict[str, Any], shown: int) -> list[str]:
    """The changed winners, one per line: the answer before and after, and the question."""
    changes = result.get("winner_changes", [])
    lines = [
        f"  {winner_text(change['before'])} -> {winner_text(change['after'])}  "
        f"{snippet(change['text'], 60)}"
        for change in changes[:shown]
    ]
    more = result.get("changed_winners", 0) - len(lines)
    return [*lines, *([f"  and {more:,} more (--json lists up to 1,000)"] if more else [])]


def _trained(result: dict[str, Any]) -> str:
    if result["trained_before"]:
        return f"{result['model']} was already trained with these settings."
    before, after = result["first_validation_loss"], result["validation_loss"]
    loss = f"; validation loss {before:.3f} to {after:.3f}" if after is not None else ""
    left_out = result.get("left_out", 0)
    skipped = (
        f" {counted(left_out, 'example was', 'examples were')} too long and left out."
        if left_out
        else ""
    )
    return (
        f"{result['model']}: {counted(result['steps'], 'step')} in "
        f"{duration(result['seconds'])}{loss}."
        f"{_winners(result)}{skipped}{_loss_warning(before, after)}"
    )


def _study(result: dict[str, Any]) -> str:
    """What a study has trained; its report says what was gained."""
    trained = [f"{each['arm']} ({each['model']})" for each in result["arms"]]
    new = sum(not each["trained_before"] for each in result["arms"])
    return f"Arms of {result['base']}: {', '.join(trained)}; {new} of them newly trained."


def _winners(result: dict[str, Any]) -> str:
    """How likely winning paths were before and after a contrast; empty without one."""
    before, after = result.get("first_winner_logp"), result.get("winner_logp")
    if before is None or after is None:
        return ""
    return f" Log-probability of winning paths per token: {before:.3f} to {after:.3f}."


def _loss_warning(before: float | None, after: float | None) -> str:
    if before is None or after is None or after < before:
        return ""
    return (
        " The validation loss never fell, so the model has hardly learned from these examples: "
        "lower learning_rate, or keep more questions."
    )


def job_text(job: Job) -> str:
    """A job's error, result or current message."""
    if job.error:
        return job.error
    try:
        return sentence(job.kind, job.result) or job.message if job.result else job.message
    except (KeyError, TypeError, ValueError, AttributeError):
        return job.message  # a result written by another version

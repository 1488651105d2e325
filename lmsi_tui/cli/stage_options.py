"""The commands that enqueue a job: the stages of the loop, and export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from engine.project.objectives import FIRST_TOKENS
from lmsi_tui.cli.options import (
    add_command,
    add_json,
    add_project,
    add_settings,
    positive,
    strength,
    strengths,
)
from store.enums import Arm, EarlyStop, JobKind, Study

if TYPE_CHECKING:
    import argparse

    from lmsi_tui.cli.options import Commands

STAGES = {
    JobKind.SAMPLE: "sample paths for the pool until every vote is settled",
    JobKind.VOTE: "extract answers from the stored paths again and recount every vote",
    JobKind.CURATE: "build and freeze the training set from the kept paths",
    JobKind.FINETUNE: "train a LoRA adapter on the training set",
    JobKind.DISTILL: "train the students on the teacher's kept paths",
    JobKind.EVALUATE: "measure models on the evaluation questions",
    JobKind.ROUND: "run the whole loop and decide whether to accept the new model",
}


def add_stages(commands: Commands) -> None:
    """Commands that enqueue a job and follow it."""
    for kind, title in STAGES.items():
        stage = add_command(commands, kind, "lmsi_tui.cli.stage_commands:stage", title)
        stage.set_defaults(kind=kind)
        add_project(stage)
        if kind is JobKind.EVALUATE:
            stage.add_argument(
                "--model",
                action="append",
                default=[],
                help="measure only this model; repeatable (default: all that no round rejected)",
            )
        if kind is JobKind.VOTE:
            _replay_options(stage)
        if kind is JobKind.ROUND:
            _round_options(stage)
        if kind in (JobKind.FINETUNE, JobKind.DISTILL):
            _plan_option(stage)
        add_settings(stage)
        stage.add_argument("--detach", action="store_true", help="do not wait for the job")
        add_json(stage)

    teach = add_command(
        commands,
        "teach",
        "lmsi_tui.cli.stage_commands:teach",
        "train the model where it disagreed with its own majority",
        "Fine-tune the model along its losing paths, towards what it predicts itself with a kept "
        "path of the question in its prompt. The same as finetune with finetune.objective=teach.",
    )
    teach.set_defaults(kind=JobKind.FINETUNE)
    add_project(teach)
    _plan_option(teach)
    add_settings(teach)
    teach.add_argument("--detach", action="store_true", help="do not wait for the job")
    add_json(teach)

    export = add_command(
        commands,
        "export",
        "lmsi_tui.cli.stage_commands:export",
        "export an adapter or a training set for other programs",
    )
    export.add_argument("what", choices=["adapter", "training-set"], help="what to export")
    add_project(export)
    export.add_argument(
        "--model",
        help="the model whose adapter to export (default: the newest that no round "
        "rejected or left undecided)",
    )
    export.add_argument(
        "--out", type=Path, metavar="DIR", help="output folder (default: exports/ in the project)"
    )
    export.add_argument(
        "--strength",
        type=strength,
        metavar="S",
        help="multiply what the adapter adds by S (default: as `dial` chose, or else 1)",
    )
    add_json(export)

    dial = add_command(
        commands,
        "dial",
        "lmsi_tui.cli.dial_command:run_dial",
        "measure an adapter at several strengths, and choose one for its export",
        "Measure a trained adapter at several strengths on half of the evaluation questions, and "
        "choose the one with which it is exported: 1, unless another one is shown to be better.",
    )
    add_project(dial)
    dial.add_argument(
        "--model", help="the model whose adapter to measure (default: the one that is exported)"
    )
    dial.add_argument(
        "--strengths",
        type=strengths,
        metavar="S,S",
        help="strengths to compare with 1 (default: 0.25,0.5,0.75,1,1.25)",
    )
    add_settings(dial)
    dial.add_argument("--detach", action="store_true", help="do not wait for the job")
    add_json(dial)


def _plan_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plan",
        action="store_true",
        help="show tokenized examples, which examples do not fit, and the expected time and "
        "memory; train nothing",
    )


def add_study(commands: Commands) -> None:
    """The command that compares trainings."""
    study = add_command(
        commands,
        "study",
        "lmsi_tui.cli.study_command:study",
        "find out where the gain comes from: train controls and compare them",
        "arms: train on voted paths, on as many unvoted ones, on first tokens only and on random "
        "labels, all from the same stored paths; measure each model and report what the vote adds. "
        "What is finished is reused: the same command continues a study.",
    )
    study.add_argument("name", metavar="NAME", type=Study, choices=list(Study), help="arms")
    add_project(study)
    study.add_argument(
        "--arms",
        metavar="LIST",
        help=f"train only these, separated by commas: {', '.join(Arm)} (default: all; voted is "
        "always one of them)",
    )
    study.add_argument(
        "--first-tokens",
        type=positive,
        default=FIRST_TOKENS,
        metavar="N",
        help=f"tokens of a path that the arm first-tokens learns (default: {FIRST_TOKENS})",
    )
    study.add_argument(
        "--plan",
        action="store_true",
        help="show what would be trained and measured, and the expected time; train nothing",
    )
    add_settings(study)
    study.add_argument("--detach", action="store_true", help="do not wait for the job")
    add_json(study)


def _round_options(parser: argparse.ArgumentParser) -> None:
    """How many rounds to run, and the user's own decision about a round."""
    parser.add_argument(
        "--rounds",
        type=positive,
        metavar="N",
        help="continue until there are N rounds or a model is not accepted (default: one more)",
    )
    parser.add_argument(
        "--past-undecided",
        action="store_true",
        help="also continue after an undecided round, sampling with its model",
    )
    decision = parser.add_mutually_exclusive_group()
    decision.add_argument(
        "--accept", type=positive, metavar="ROUND", help="accept the model of this round"
    )
    decision.add_argument(
        "--reject", type=positive, metavar="ROUND", help="reject the model of this round"
    )


def _replay_options(vote: argparse.ArgumentParser) -> None:
    """What other settings would have sampled and decided; changes nothing."""
    vote.add_argument(
        "--replay",
        action="store_true",
        help="compare other early-stop rules, thresholds and ways to count on the stored paths; "
        "change nothing",
    )
    vote.add_argument(
        "--rule",
        action="append",
        type=EarlyStop,
        choices=list(EarlyStop),
        help="early-stop rule to replay; repeatable (default: all)",
    )
    vote.add_argument("--threshold", action="append", help="threshold to replay; repeatable")
    vote.add_argument("--m", type=positive, help="number of paths of a full vote in the replay")

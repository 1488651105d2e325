"""The grammar of the command line: every command with its arguments.

Each command is named as `module:function` and imported when it runs, so that `--help` and the app
start quickly.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from store.enums import AnswerType, EarlyStop, JobKind, Split

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

OPEN = "open"
"""The command that runs when none is given; not listed in the help."""

STAGES = {
    JobKind.SAMPLE: "draw paths for the pool until every vote stands",
    JobKind.VOTE: "read the stored paths again and count every vote again",
    JobKind.CURATE: "freeze the training set",
    JobKind.FINETUNE: "train a LoRA adapter on the training set",
    JobKind.DISTILL: "train the students on the teacher's kept paths",
    JobKind.EVALUATE: "measure models on the evaluation questions",
    JobKind.ROUND: "the whole loop, and whether its model is accepted",
}


def build_parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    parser = argparse.ArgumentParser(
        prog="lmsi-tui",
        usage="lmsi-tui [PROJECT]\n       lmsi-tui COMMAND ...",
        description="Make a local language model better at your questions, without labels. "
        "Without a command it opens the app: on PROJECT, else on the current folder where that "
        "is a project, else with a welcome.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(
        metavar="COMMAND", title="commands", prog=parser.prog, dest="named", required=True
    )
    _app(commands)
    _projects(commands)
    _stages(commands)
    _reading(commands)
    _telling(commands)
    return parser


class _Version(argparse.Action):
    """Looked up only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(parser.prog, version(parser.prog))
        parser.exit()


def _app(commands: Commands) -> None:
    """Commands that open the app."""
    # Not listed: it is what happens without a command.
    shown = commands.add_parser(OPEN, description="Open the app.")
    shown.set_defaults(command="lmsi_tui.cli.open_app:open_app")
    shown.add_argument("project", metavar="PROJECT", nargs="?", type=Path, help="default: here")
    review = _add(
        commands, "review", "lmsi_tui.cli.open_app:review", "open the app on the questions in doubt"
    )
    _project(review)


def _projects(commands: Commands) -> None:
    """Commands that make a project and fill it."""
    demo = _add(
        commands,
        "demo",
        "lmsi_tui.cli.demo_command:demo",
        "the whole loop on the embedded models and questions",
    )
    demo.add_argument("project", metavar="DIR", nargs="?", type=Path, default=Path("lmsi-demo"))
    demo.add_argument("--headless", action="store_true", help="no app: run the loop and report")
    demo.add_argument("--only-make", action="store_true", help="make the project and run nothing")
    demo.add_argument(
        "--seed", type=_natural, default=0, help="draws other questions and other paths"
    )
    demo.add_argument("--pool", type=_positive, help="questions without answers to draw")
    demo.add_argument(
        "--eval", type=_positive, dest="evaluation", help="evaluation questions to draw"
    )
    _settings(demo)
    _json(demo)

    init = _add(
        commands, "init", "lmsi_tui.cli.import_commands:init", "make a project on your own model"
    )
    init.add_argument("project", metavar="DIR", type=Path)
    init.add_argument(
        "--model",
        required=True,
        help="GGUF file, Hugging Face folder, or server (http://host:port/v1; several with commas)",
    )
    init.add_argument("--gguf", type=Path, help="the same model as GGUF, beside its folder")
    init.add_argument("--student", action="append", default=[], help="a smaller model; repeatable")
    init.add_argument("--name", help="what to call the model (default: its file name)")
    _settings(init)
    _preview(init)
    _json(init)

    load = _add(
        commands, "import", "lmsi_tui.cli.import_commands:load", "read questions from a file"
    )
    load.add_argument("file", type=Path)
    load.add_argument("--split", type=Split, choices=list(Split), default=Split.POOL)
    load.add_argument(
        "--task", help="a preset or an answer type, see docs/tasks.md (default: guessed and said)"
    )
    load.add_argument("--name", help="what to call the set (default: the file's name)")
    load.add_argument("--limit", type=_positive, help="read at most so many questions")
    load.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="MEANING=COLUMN",
        help="which column holds question, answer, options, passage; repeatable",
    )
    load.add_argument("--project", metavar="DIR", type=Path, default=Path())
    _preview(load)
    _json(load)

    sampled = _add(
        commands,
        "import-paths",
        "lmsi_tui.cli.import_commands:load_paths",
        "vote on paths sampled elsewhere",
    )
    sampled.add_argument("file", type=Path)
    sampled.add_argument("--task", required=True, help="a preset or an answer type")
    _json(sampled)


def _stages(commands: Commands) -> None:
    """Commands that enqueue a job and follow it."""
    for kind, title in STAGES.items():
        stage = _add(commands, kind, "lmsi_tui.cli.stage_commands:stage", title)
        stage.set_defaults(kind=kind)
        _project(stage)
        if kind is JobKind.EVALUATE:
            stage.add_argument(
                "--model", action="append", default=[], help="repeatable; default all"
            )
        if kind is JobKind.VOTE:
            _replay(stage)
        if kind is JobKind.ROUND:
            _guard(stage)
        if kind in (JobKind.FINETUNE, JobKind.DISTILL):
            stage.add_argument(
                "--plan",
                action="store_true",
                help="show examples as tokens, what does not fit, time and memory; do nothing",
            )
        _settings(stage)
        stage.add_argument("--detach", action="store_true", help="do not wait for the job")
        _json(stage)

    export = _add(
        commands,
        "export",
        "lmsi_tui.cli.stage_commands:export",
        "write an adapter or training set for other programs",
    )
    export.add_argument("what", choices=["adapter", "training-set"])
    _project(export)
    export.add_argument(
        "--model", help="whose adapter (default: the newest that no round left out)"
    )
    export.add_argument("--out", type=Path, help="folder (default: exports/ of the project)")
    _json(export)


def _guard(parser: argparse.ArgumentParser) -> None:
    """How many rounds, and what a person decides of one."""
    parser.add_argument(
        "--rounds",
        type=_positive,
        metavar="N",
        help="go on until there are N rounds or the guard says stop (default: one more)",
    )
    parser.add_argument(
        "--past-undecided",
        action="store_true",
        help="go on after an undecided round, too: the next one samples with its model",
    )
    decision = parser.add_mutually_exclusive_group()
    decision.add_argument(
        "--accept", type=_positive, metavar="ROUND", help="use the model of this round from now on"
    )
    decision.add_argument(
        "--reject", type=_positive, metavar="ROUND", help="do not use the model of this round"
    )


def _replay(vote: argparse.ArgumentParser) -> None:
    """What would have been drawn and decided otherwise; changes nothing."""
    vote.add_argument(
        "--replay", action="store_true", help="what other rules would have done; changes nothing"
    )
    vote.add_argument(
        "--rule",
        action="append",
        type=EarlyStop,
        choices=list(EarlyStop),
        help="of the replay; repeatable (default: all)",
    )
    vote.add_argument("--threshold", action="append", help="of the replay; repeatable")
    vote.add_argument("--m", type=_positive, help="paths of a full vote in the replay")


def _reading(commands: Commands) -> None:
    """Commands that tell what is there."""
    jobs = _add(commands, "jobs", "lmsi_tui.cli.status_commands:jobs", "what runs and what ran")
    _project(jobs)
    jobs.add_argument("--pause", type=int, metavar="JOB")
    jobs.add_argument("--cancel", type=int, metavar="JOB")
    jobs.add_argument("--log", type=int, metavar="JOB", help="print the job's log")
    _json(jobs)

    for name, command, title in (
        ("status", "lmsi_tui.cli.status_commands:status", "what stands"),
        (
            "settings",
            "lmsi_tui.cli.status_commands:settings",
            "every setting, its value and what it means",
        ),
        ("report", "lmsi_tui.cli.status_commands:report", "what it is worth"),
        (
            "doctor",
            "lmsi_tui.cli.status_commands:doctor",
            "what is wrong with this machine or project",
        ),
    ):
        parser = _add(commands, name, command, title)
        _project(parser)
        _json(parser)
        if name == "report":
            parser.add_argument(
                "--format",
                choices=["md", "html", "json"],
                help="the whole report as one document; html holds the plots",
            )
            parser.add_argument("--out", type=Path, help="write the document to this file")

    prompt = _add(
        commands,
        "prompt",
        "lmsi_tui.cli.status_commands:prompt",
        "print the prompt of a question verbatim",
    )
    _project(prompt)
    prompt.add_argument("--split", type=Split, choices=list(Split), default=Split.POOL)
    prompt.add_argument("--number", type=_positive, default=1, help="which question, from 1")
    prompt.add_argument("--format", help="one of the paper's four (default: the project's)")
    _settings(prompt)


def _telling(commands: Commands) -> None:
    """Commands that tell what the numbers are worth."""
    pilot = _add(
        commands,
        "pilot",
        "lmsi_tui.cli.trust_commands:pilot",
        "whether LMSI may help here, on few known questions",
    )
    _project(pilot)
    pilot.add_argument(
        "--questions",
        type=_positive,
        metavar="N",
        help="measure at least so many, as far as there are (default: 80)",
    )
    _settings(pilot)
    _json(pilot)

    audit = _add(
        commands,
        "audit",
        "lmsi_tui.cli.trust_commands:audit",
        "how precise the accepted labels are, and what is next",
    )
    _project(audit)
    audit.add_argument("--precision", default="0.95", help="to certify (default: 0.95)")
    audit.add_argument("--confidence", default="0.95", help="of a certificate (default: 0.95)")
    audit.add_argument(
        "--planned",
        type=_positive,
        metavar="N",
        help="you fixed N audits before the first: show the exact interval for it too",
    )
    _json(audit)

    calibration = _add(
        commands,
        "calibration",
        "lmsi_tui.cli.trust_commands:calibration",
        "what an agreement is worth here",
    )
    _project(calibration)
    _json(calibration)

    reader = _add(
        commands,
        "reader",
        "lmsi_tui.cli.reader_command:reader",
        "how answers are read: try other rules on the stored paths",
    )
    _project(reader)
    _rules(reader)
    _json(reader)

    leaks = _add(
        commands,
        "leaks",
        "lmsi_tui.cli.trust_commands:leaks",
        "pool questions that are nearly evaluation questions",
    )
    _project(leaks)
    _json(leaks)

    lineage = _add(
        commands,
        "why",
        "lmsi_tui.cli.provenance_command:why",
        "where a training line or a model came from",
    )
    lineage.add_argument(
        "target",
        metavar="EXAMPLE|ADAPTER",
        help="SET:POSITION or a row number, a model's name, a training set's or question's key",
    )
    _project(lineage)
    _json(lineage)


def _rules(reader: argparse.ArgumentParser) -> None:
    """Rules that are added to those in force, and what to do with them."""
    reader.add_argument("--type", type=AnswerType, choices=list(AnswerType), help="whose reader")
    for name, meaning in (
        ("pattern", "regular expression with the answer in a group, tried before the reader"),
        ("fallback", "the same, tried where the reader finds no answer"),
    ):
        reader.add_argument(
            f"--{name}", action="append", default=[], metavar="REGEX", help=f"{meaning}; repeatable"
        )
    reader.add_argument(
        "--unit",
        action="append",
        default=[],
        help="words dropped right before and after a number; repeatable",
    )
    reader.add_argument(
        "--same",
        action="append",
        nargs=2,
        default=[],
        metavar=("A", "B"),
        help="two answers that are one; repeatable",
    )
    does = reader.add_mutually_exclusive_group()
    does.add_argument(
        "--try",
        action="store_true",
        dest="try_rules",
        help="say what would change, and change nothing (default where rules are given)",
    )
    does.add_argument(
        "--accept", action="store_true", help="put the rules in force and count every vote again"
    )
    reader.add_argument(
        "--rules", metavar="JSON", help="in place of those in force, as --json shows them"
    )
    reader.add_argument("--reset", action="store_true", help="bring the built-in reader back")
    reader.add_argument("--detach", action="store_true", help="do not wait for the vote job")


def _add(commands: Commands, name: str, command: str, title: str) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=title, description=title[0].upper() + title[1:] + ".")
    parser.set_defaults(command=command, json=False)
    return parser


def _project(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "project", metavar="PROJECT", nargs="?", type=Path, default=Path(), help="default: here"
    )


def _preview(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preview", action="store_true", help="say what is understood, and write nothing"
    )


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object per line on stdout")


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="named settings: `paper` samples and selects as the paper does; --set overrides them",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.NAME=VALUE",
        help="a setting for this time, such as sample.m=16; repeatable",
    )


def _natural(text: str) -> int:
    number = int(text) if text.isdecimal() else -1
    if not 0 <= number < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2147483647")
    return number


def _positive(text: str) -> int:
    number = _natural(text)
    if number == 0:
        raise argparse.ArgumentTypeError("it must be 1 or more")
    return number

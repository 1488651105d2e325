"""The grammar of the command line: every command with its arguments.

Each command is named as `module:function` and imported when it runs, so that `--help` and the app
start quickly.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lmsi_tui.cli.options import (
    add_command,
    add_json,
    add_preview,
    add_project,
    add_settings,
    natural,
    positive,
)
from lmsi_tui.cli.stage_options import add_stages, add_study
from lmsi_tui.cli.trust_options import add_trust
from store.enums import Split

if TYPE_CHECKING:
    from lmsi_tui.cli.options import Commands

OPEN = "open"
"""The command that runs when none is given; not listed in the help."""


def build_parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    parser = argparse.ArgumentParser(
        prog="lmsi-tui",
        usage="lmsi-tui [PROJECT]\n       lmsi-tui COMMAND ...",
        description="Improve a local language model on your own questions, without labels. "
        "Without a command, lmsi-tui opens the app: on PROJECT, on the current folder if that is "
        "a project, or on the welcome screen.",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(
        metavar="COMMAND", title="commands", prog=parser.prog, dest="named", required=True
    )
    _add_app(commands)
    _add_projects(commands)
    _add_imports(commands)
    add_stages(commands)
    add_study(commands)
    _add_status(commands)
    add_trust(commands)
    return parser


class _Version(argparse.Action):
    """Looks up the version only when it is asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(parser.prog, version(parser.prog))
        parser.exit()


def _add_app(commands: Commands) -> None:
    """Commands that open the app."""
    # Without `help`, the command is not listed: it is what happens without a command.
    app = commands.add_parser(OPEN, description="Open the app.")
    app.set_defaults(command="lmsi_tui.cli.open_app:open_app")
    app.add_argument(
        "project",
        metavar="PROJECT",
        nargs="?",
        type=Path,
        help="folder of the project (default: the current folder)",
    )
    review = add_command(
        commands,
        "review",
        "lmsi_tui.cli.open_app:review",
        "open the app at the questions to review",
    )
    add_project(review)


def _add_projects(commands: Commands) -> None:
    """Commands that make a project and fill it."""
    demo = add_command(
        commands,
        "demo",
        "lmsi_tui.cli.demo_command:demo",
        "run the whole loop on the included small models",
        "Make a project with the included models and questions, and open the app on it. "
        "Without a terminal, or with --headless, run the whole loop and print the report.",
    )
    demo.add_argument(
        "project",
        metavar="DIR",
        nargs="?",
        type=Path,
        default=Path("lmsi-demo"),
        help="folder to make the project in (default: lmsi-demo)",
    )
    demo.add_argument(
        "--headless", action="store_true", help="run the loop without the app and print the report"
    )
    demo.add_argument("--only-make", action="store_true", help="make the project and run nothing")
    demo.add_argument(
        "--seed",
        type=natural,
        default=0,
        metavar="N",
        help="seed of the questions and of the sampling (default: 0)",
    )
    demo.add_argument(
        "--pool", type=positive, metavar="N", help="number of questions without answers"
    )
    demo.add_argument(
        "--eval",
        type=positive,
        dest="evaluation",
        metavar="N",
        help="number of evaluation questions",
    )
    add_settings(demo)
    add_json(demo)

    init = add_command(
        commands, "init", "lmsi_tui.cli.import_commands:init", "make a project for your model"
    )
    init.add_argument("project", metavar="DIR", type=Path, help="folder to make the project in")
    init.add_argument(
        "--model",
        required=True,
        help="the teacher: a GGUF file, a Hugging Face folder, or a server "
        "(http://host:port/v1; separate several with commas)",
    )
    init.add_argument(
        "--gguf", type=Path, metavar="FILE", help="the same model as GGUF, for faster sampling"
    )
    init.add_argument(
        "--student",
        action="append",
        default=[],
        metavar="MODEL",
        help="a smaller model to distill into; repeatable",
    )
    init.add_argument("--name", help="name of the model (default: its file name)")
    init.add_argument(
        "--new-database",
        action="store_true",
        help="start a project with an empty database whose own is gone; its settings are kept",
    )
    add_settings(init)
    add_preview(init)
    add_json(init)


def _add_imports(commands: Commands) -> None:
    """Commands that import questions and paths, and change imported questions."""
    load = add_command(
        commands, "import", "lmsi_tui.cli.import_commands:load", "import questions from a file"
    )
    load.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="JSONL, JSON, CSV, TSV, Parquet or text file, also compressed; or a folder of shards",
    )
    load.add_argument(
        "--split",
        type=Split,
        choices=list(Split),
        default=Split.POOL,
        help="what the questions are for: pool is trained on, eval is measured on, ood is measured "
        "on as out-of-domain (default: pool)",
    )
    load.add_argument(
        "--task", help="a preset or an answer type, see docs/tasks.md (default: detected)"
    )
    load.add_argument("--name", help="name of the data set (default: the file name)")
    load.add_argument("--limit", type=positive, metavar="N", help="import at most N questions")
    load.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="MEANING=COLUMN",
        help="the column that holds the question, answer, options or passage, or a path such as "
        "messages.0.content; repeatable",
    )
    _add_labels_from(load)
    load.add_argument(
        "--project",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="folder of the project (default: the current folder)",
    )
    decision = load.add_mutually_exclusive_group()
    decision.add_argument(
        "--replace-answers",
        action="store_true",
        help="take the known answers of the file for questions that have others in the project",
    )
    decision.add_argument(
        "--keep-answers",
        action="store_true",
        help="keep the known answers of the project for questions that have others in the file",
    )
    add_preview(load)
    add_json(load)

    asked = add_command(
        commands,
        "questions",
        "lmsi_tui.cli.question_commands:manage",
        "list, remove, restore and replace questions",
        "List the imported questions with their keys, or change which of them are used. A removed "
        "question is not sampled, trained on or measured any more; its paths are kept.",
    )
    add_project(asked)
    asked.add_argument("--split", type=Split, choices=list(Split), help="list only this split")
    asked.add_argument("--words", metavar="TEXT", help="list only questions with these words")
    asked.add_argument("--removed", action="store_true", help="list the removed questions")
    asked.add_argument(
        "--limit", type=positive, default=50, metavar="N", help="list at most N (default: 50)"
    )
    asked.add_argument(
        "--remove", metavar="KEY", nargs="+", help="leave these questions out from now on"
    )
    asked.add_argument("--restore", metavar="KEY", nargs="+", help="use removed questions again")
    asked.add_argument(
        "--replace", metavar="KEY", help="put --text or --answer in place of what is stored"
    )
    asked.add_argument("--text", help="the new text of the question; it is sampled anew")
    asked.add_argument("--answer", help="the right answer of an evaluation question")
    add_json(asked)

    sampled = add_command(
        commands,
        "import-paths",
        "lmsi_tui.cli.import_commands:load_paths",
        "vote on paths sampled by another program",
        "Extract answers from paths sampled by another program, vote on them and print the "
        "statistics. Needs no project and writes nothing.",
    )
    sampled.add_argument(
        "file",
        metavar="FILE",
        type=Path,
        help="file with the samples of one question per row",
    )
    sampled.add_argument("--task", required=True, help="a preset or an answer type")
    _add_labels_from(sampled)
    add_json(sampled)


def _add_labels_from(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--labels-from",
        type=int,
        choices=[0, 1],
        help="the number of the first option, if answers are numbers and the file does not show "
        "it (default: decided from the whole file)",
    )


def _add_status(commands: Commands) -> None:
    """Commands that show what is in a project."""
    jobs = add_command(
        commands, "jobs", "lmsi_tui.cli.status_commands:list_jobs", "list, pause and cancel jobs"
    )
    add_project(jobs)
    jobs.add_argument("--pause", type=int, metavar="JOB", help="pause this job")
    jobs.add_argument("--cancel", type=int, metavar="JOB", help="cancel this job")
    jobs.add_argument("--log", type=int, metavar="JOB", help="print the log of this job")
    add_json(jobs)

    for name, command, title in (
        (
            "status",
            "lmsi_tui.cli.status_commands:show_status",
            "show questions, runs, votes, training sets and models",
        ),
        (
            "settings",
            "lmsi_tui.cli.status_commands:show_settings",
            "list every setting with its value and meaning",
        ),
        (
            "report",
            "lmsi_tui.cli.status_commands:show_report",
            "show accuracies and gains with their intervals",
        ),
        (
            "doctor",
            "lmsi_tui.cli.status_commands:run_doctor",
            "check this machine and the project for problems",
        ),
    ):
        parser = add_command(commands, name, command, title)
        add_project(parser)
        add_json(parser)
        if name == "report":
            parser.add_argument(
                "--format",
                choices=["md", "html", "json"],
                help="write the full report as one document; html includes the charts",
            )
            parser.add_argument(
                "--out",
                type=Path,
                metavar="FILE",
                help="write the document to this file (default: stdout)",
            )

    stored_models = add_command(
        commands,
        "models",
        "lmsi_tui.cli.models_command:list_models",
        "list the models and where they are; say where one was moved",
        "List the models of a project and whether their files are there. With --moved, store where "
        "the files of a model are now, if they are the same files.",
    )
    add_project(stored_models)
    stored_models.add_argument(
        "--moved",
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="the model's folder or GGUF file is now at PATH; repeatable",
    )
    add_json(stored_models)

    restore = add_command(
        commands,
        "restore",
        "lmsi_tui.cli.restore_command:restore",
        "list the backups of a project, or put one back",
        "List the backups of a project. With BACKUP, put it back: a backup of the whole database "
        "replaces it (what it replaced is kept as another backup); a backup of decisions adds "
        "those that the project does not have.",
    )
    add_project(restore)
    restore.add_argument(
        "backup", metavar="BACKUP", nargs="?", type=Path, help="name of a backup, or a file"
    )
    add_json(restore)

    prompt = add_command(
        commands,
        "prompt",
        "lmsi_tui.cli.status_commands:show_prompt",
        "print the exact prompt of a question",
    )
    add_project(prompt)
    prompt.add_argument(
        "--split",
        type=Split,
        choices=list(Split),
        default=Split.POOL,
        help="split of the question (default: pool)",
    )
    prompt.add_argument(
        "--number",
        type=positive,
        default=1,
        metavar="N",
        help="position of the question in its split, from 1 (default: 1)",
    )
    prompt.add_argument(
        "--format", help="one of the paper's four prompt formats (default: the project's)"
    )
    add_settings(prompt)

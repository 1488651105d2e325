"""The command line: every action of the app is also a subcommand.

Exit codes: 0 done, 1 the work failed, 2 bad usage or input, 130 interrupted (the same command goes
on). With `--json`, stdout holds one JSON object per line and nothing else.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from store.errors import BadInput, LmsiError
from store.records import JobKind, Split

Command = Callable[[argparse.Namespace], None]


def run(argv: Sequence[str]) -> int:
    """Parse, do, and turn every expected failure into one sentence and an exit code."""
    from lmsi_tui.text import printable

    parser = build_parser()
    asked = parser.parse_args(argv)
    try:
        asked.command(asked)
    except LmsiError as failure:
        print(f"lmsi-tui: {printable(str(failure))}", file=sys.stderr)
        return failure.exit_code
    except sqlite3.OperationalError as failure:
        print(f"lmsi-tui: the database cannot be used: {failure}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The whole grammar of the command line."""
    parser = argparse.ArgumentParser(
        prog="lmsi-tui",
        description="Make a local language model better at your questions, without labels.",
    )
    parser.set_defaults(command=_overview, project=Path())
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")

    demo = _add(commands, "demo", _demo, "the whole loop on the embedded models and questions")
    demo.add_argument("project", metavar="DIR", nargs="?", type=Path, default=Path("lmsi-demo"))
    demo.add_argument("--headless", action="store_true", help="no app: run the loop and report")
    demo.add_argument("--seed", type=int, default=0, help="draws other questions and other paths")
    demo.add_argument("--pool", type=int, help="questions without answers to draw")
    demo.add_argument("--eval", type=int, dest="evaluation", help="evaluation questions to draw")
    _settings(demo)
    _json(demo)

    init = _add(commands, "init", _init, "make a project on your own model")
    init.add_argument("project", metavar="DIR", type=Path)
    init.add_argument("--model", required=True, help="GGUF file or Hugging Face folder")
    init.add_argument("--gguf", type=Path, help="the same model as GGUF, beside its folder")
    init.add_argument("--student", action="append", default=[], help="a smaller model; repeatable")
    init.add_argument("--name", help="what to call the model (default: its file name)")
    _settings(init)

    load = _add(commands, "import", _import, "read questions from a file")
    load.add_argument("file", type=Path)
    load.add_argument("--split", type=Split, choices=list(Split), default=Split.POOL)
    load.add_argument("--task", required=True, help="a preset or an answer type; see docs/tasks.md")
    load.add_argument("--name", help="what to call the set (default: the file's name)")
    load.add_argument("--limit", type=int, help="read at most so many questions")
    load.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="MEANING=COLUMN",
        help="which column holds question, answer, options, passage; repeatable",
    )
    _project_option(load)
    _json(load)

    sampled = _add(commands, "import-paths", _import_paths, "vote on paths sampled elsewhere")
    sampled.add_argument("file", type=Path)
    sampled.add_argument("--task", required=True)
    _json(sampled)

    for kind, title in (
        (JobKind.SAMPLE, "draw paths for the pool until every vote stands"),
        (JobKind.VOTE, "read the stored paths again and count every vote again"),
        (JobKind.CURATE, "freeze the training set"),
        (JobKind.FINETUNE, "train a LoRA adapter on the training set"),
        (JobKind.DISTILL, "train the students on the teacher's kept paths"),
        (JobKind.EVALUATE, "measure models on the evaluation questions"),
        (JobKind.ROUND, "the whole loop once"),
    ):
        stage = _add(commands, kind, _stage(kind), title)
        _project_argument(stage)
        if kind is JobKind.EVALUATE:
            stage.add_argument("--model", action="append", default=[], help="repeatable; default all")
        _settings(stage)
        stage.add_argument("--detach", action="store_true", help="do not wait for the job")
        _json(stage)

    export = _add(commands, "export", _export, "write an adapter or training set for other programs")
    export.add_argument("what", choices=["adapter", "training-set"])
    _project_argument(export)
    export.add_argument("--model", help="whose adapter (default: the newest)")
    export.add_argument("--out", type=Path, help="folder (default: exports/ of the project)")
    _json(export)

    for name, command, title in (
        ("jobs", _jobs, "what runs and what ran"),
        ("status", _status, "what stands"),
        ("report", _report, "what it is worth"),
        ("doctor", _doctor, "what is wrong with this machine or project"),
    ):
        reading = _add(commands, name, command, title)
        _project_argument(reading)
        _json(reading)
        if name == "jobs":
            reading.add_argument("--pause", type=int, metavar="JOB")
            reading.add_argument("--cancel", type=int, metavar="JOB")
            reading.add_argument("--log", type=int, metavar="JOB", help="print the job's log")

    prompt = _add(commands, "prompt", _prompt, "print the prompt of a question verbatim")
    _project_argument(prompt)
    prompt.add_argument("--split", type=Split, choices=list(Split), default=Split.POOL)
    prompt.add_argument("--number", type=int, default=1, help="which question, from 1")
    prompt.add_argument("--format", default="few-shot-cot")
    _settings(prompt)
    return parser


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    command: Command,
    title: str,
) -> argparse.ArgumentParser:
    parser = commands.add_parser(name, help=title, description=title[0].upper() + title[1:] + ".")
    parser.set_defaults(command=command, json=False)
    return parser


def _project_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("project", metavar="PROJECT", nargs="?", type=Path, default=Path())


def _project_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--project", metavar="DIR", type=Path, default=Path())


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="one JSON object per line on stdout")


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.NAME=VALUE",
        help="a setting for this time, such as sample.m=16; repeatable",
    )


def settings_from(asked: argparse.Namespace) -> dict[str, dict[str, object]]:
    """The `--set` options as sections; values are read as TOML, and as text where they are none.

    Raises:
        BadInput: not of the form SECTION.NAME=VALUE.
    """
    import tomllib

    sections: dict[str, dict[str, object]] = {}
    for option in asked.set:
        name, equals, value = option.partition("=")
        section, dot, key = name.partition(".")
        if not (equals and dot and section and key):
            raise BadInput(f"--set {option} is not understood: write SECTION.NAME=VALUE.")
        try:
            read = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            read = value
        sections.setdefault(section, {})[key] = read
    return sections


# Commands that ask for work.


def _stage(kind: JobKind) -> Command:
    def command(asked: argparse.Namespace) -> None:
        from engine.project import changed, open_project
        from lmsi_tui import follow
        from store.schema import ensure_schema

        project = open_project(asked.project)
        ensure_schema(project.database)
        changes = settings_from(asked)
        changed(project.settings, changes)
        params: dict[str, object] = {"settings": changes}
        if kind is JobKind.EVALUATE and asked.model:
            params["models"] = asked.model
        job = follow.start(project, kind, params, detach=asked.detach, as_json=asked.json)
        if asked.detach:
            _say(asked, f"Job {job.id} ({kind}) is queued; watch it with `lmsi-tui jobs`.")
        elif kind in (JobKind.ROUND, JobKind.EVALUATE):
            _print_report(asked)
        else:
            _say(asked, _sentence(job.result))

    return command


def _sentence(result: dict[str, object]) -> str:
    """A job's result as one line of words."""
    shown = []
    for name, value in result.items():
        if isinstance(value, dict):
            shown.append(f"{name}: {_sentence(value)}")
        elif isinstance(value, float):
            shown.append(f"{name.replace('_', ' ')} {value:.3g}")
        elif value is not None:
            text = str(value)
            shown.append(f"{name.replace('_', ' ')} {text[:12] if len(text) == 64 else text}")
    return ", ".join(shown)


def _demo(asked: argparse.Namespace) -> None:
    from engine.demo.project import make_demo
    from lmsi_tui import follow

    project = make_demo(
        asked.project,
        seed=asked.seed,
        pool=asked.pool,
        evaluation=asked.evaluation,
        changes=settings_from(asked),
    )
    params: dict[str, object] = {"settings": {}}
    follow.start(project, JobKind.ROUND, params, detach=False, as_json=asked.json)
    _print_report(asked)


def _export(asked: argparse.Namespace) -> None:
    from engine.project import open_project
    from lmsi_tui import follow

    project = open_project(asked.project)
    params: dict[str, object] = {
        "what": asked.what,
        "model": asked.model,
        "out": str(asked.out.resolve()) if asked.out else None,
    }
    job = follow.start(project, JobKind.EXPORT, params, detach=False, as_json=asked.json)
    _say(asked, _sentence(job.result))


# Commands that only read and write rows.


def _overview(asked: argparse.Namespace) -> None:
    raise BadInput(
        "Name a command: `lmsi-tui demo` runs everything on the embedded models, "
        "`lmsi-tui --help` lists the rest."
    )


def _init(asked: argparse.Namespace) -> None:
    from engine.models import base_model
    from engine.project import Settings, changed, create_project
    from store import models
    from store.connection import connect, transaction
    from store.schema import ensure_schema

    wanted = [(asked.name or _model_name(asked.model), Path(asked.model).expanduser())]
    wanted += [(_model_name(one), Path(one).expanduser()) for one in asked.student]
    names = [f"{name}/base" for name, _ in wanted]
    if len(set(names)) < len(names):
        raise BadInput(f"Two models would be called {names[0]}: give the first one another --name.")
    for _, location in wanted:
        if str(location).startswith(("http:", "https:")):
            raise BadInput(
                f"{location} is a server: sampling from servers is not in this version; "
                "give a GGUF file or a Hugging Face folder."
            )
        if not location.exists():
            raise BadInput(f"There is no model at {location}: give a folder or a .gguf file.")
    changes = settings_from(asked)
    changes.setdefault("model", {}).update({"teacher": names[0], "students": names[1:]})
    if (asked.project / "lmsi.toml").exists():
        raise BadInput(f"{asked.project} is a project already: edit its lmsi.toml, or give another.")
    settings = changed(Settings(), changes)
    # Everything is read before anything is written: a broken model leaves no half project.
    from engine.project import Project

    planned = Project(asked.project, settings)
    records = [
        base_model(planned, name, location.resolve(), asked.gguf if number == 0 else None)
        for number, (name, (_, location)) in enumerate(zip(names, wanted, strict=True))
    ]
    project = create_project(asked.project, settings)
    ensure_schema(project.database)
    with connect(project.database) as conn, transaction(conn):
        for record in records:
            models.add(conn, record)
    _say(
        asked,
        f"Made {project.folder}. Next: `lmsi-tui import FILE --split pool --task TYPE "
        f"--project {project.folder}`.",
    )


def _model_name(location: str) -> str:
    name = Path(location).expanduser().resolve().name
    return name.removesuffix(".gguf")


def _import(asked: argparse.Namespace) -> None:
    from engine.importing import read_questions
    from engine.project import open_project
    from lmsi_tui import follow
    from lmsi_tui.text import snippet
    from store import questions
    from store.connection import connect, transaction
    from store.schema import ensure_schema

    project = open_project(asked.project)
    fields = {}
    for option in asked.field:
        meaning, equals, column = option.partition("=")
        if not (equals and meaning and column):
            raise BadInput(f"--field {option} is not understood: write MEANING=COLUMN.")
        fields[meaning] = column
    found = read_questions(
        asked.file,
        task=asked.task,
        split=asked.split,
        name=asked.name,
        limit=asked.limit,
        fields=fields,
    )
    ensure_schema(project.database)
    with connect(project.database) as conn, transaction(conn):
        added = questions.add(conn, found.questions, found.gold)
    if asked.json:
        follow.emit(
            {
                "event": "imported",
                "file": str(asked.file),
                "split": asked.split,
                "read": len(found.questions),
                "added": added.added,
                "known": added.known,
                "duplicates": found.duplicates,
                "with_gold": len(found.gold),
                "left_out": [[line, reason] for line, reason in found.left_out],
                "understood": dict(found.understood),
            }
        )
        return
    print(
        f"{len(found.questions):,} questions read from {asked.file}, {added.added:,} new, "
        f"{added.known:,} known before; {len(found.left_out):,} lines left out."
    )
    taken = ", ".join(f"{meaning} from {column}" for meaning, column in found.understood.items())
    print(f"Understood: {taken}.")
    for line, reason in found.left_out[:5]:
        print(f"  line {line}: {snippet(reason, 100)}")
    if found.questions:
        print(f"First question: {snippet(found.questions[0].text, 160)}")


def _import_paths(asked: argparse.Namespace) -> None:
    from engine.importing import read_sampled, sampled_report
    from lmsi_tui import follow
    from lmsi_tui.format import percent

    report = sampled_report(read_sampled(asked.file, asked.task))
    if asked.json:
        follow.emit({"event": "import-paths", "file": str(asked.file), **report})
        return
    for name, value in report.items():
        shown = value
        if isinstance(value, float):
            shown = f"{percent(value)} %"
        elif isinstance(value, list):
            shown = " ".join("–" if one is None else percent(one) for one in value)
        print(f"{name.replace('_', ' '):24} {shown}")


def _jobs(asked: argparse.Namespace) -> None:
    from engine.launch import ensure_worker
    from engine.project import open_project
    from lmsi_tui import follow
    from lmsi_tui.text import printable
    from store import jobs
    from store.connection import connect, transaction
    from store.records import JobState
    from store.schema import ensure_schema

    project = open_project(asked.project)
    ensure_schema(project.database)
    if asked.log is not None:
        path = project.folder / "logs" / f"job-{asked.log}.log"
        if not path.exists():
            raise BadInput(f"There is no log of job {asked.log} in {project.folder}.")
        print(printable(path.read_text(encoding="utf-8", errors="replace")), end="")
        return
    with connect(project.database) as conn:
        for number, state in ((asked.pause, JobState.PAUSING), (asked.cancel, JobState.CANCELLING)):
            if number is not None:
                if number not in {job.id for job in jobs.all_of(conn)}:
                    raise BadInput(f"There is no job {number}; `lmsi-tui jobs` lists them.")
                with transaction(conn):
                    jobs.wish(conn, number, state)
                ensure_worker(project.folder)
        known = jobs.all_of(conn)
    for job in known:
        if asked.json:
            follow.emit(
                {
                    "event": "job",
                    "job": job.id,
                    "kind": job.kind,
                    "state": job.state,
                    "done": job.done,
                    "total": job.total,
                    "message": job.message,
                    "error": job.error,
                }
            )
        else:
            end = printable(job.error or job.message)
            print(f"{job.id:4}  {job.kind:9} {job.state:10} {job.done:7}/{job.total:<7} {end}")
    if not known and not asked.json:
        print("No jobs yet: `lmsi-tui sample` starts one.")


def _status(asked: argparse.Namespace) -> None:
    from engine.report import as_event, status
    from lmsi_tui import follow

    with _reading(asked) as conn:
        if asked.json:
            event = as_event(conn)
            follow.emit(event | {"event": "status"})
            return
        for section, rows in status(conn).items():
            print(section.replace("_", " "))
            assert isinstance(rows, list)
            for row in rows:
                print("  " + ", ".join(f"{name} {value}" for name, value in row.items()))
            if not rows:
                print("  none yet")


def _report(asked: argparse.Namespace) -> None:
    _print_report(asked)


def _print_report(asked: argparse.Namespace) -> None:
    from rich.console import Console

    from engine.report import as_event, build
    from lmsi_tui import follow
    from lmsi_tui.tables import print_report

    with _reading(asked) as conn:
        if asked.json:
            follow.emit(as_event(conn, getattr(asked, "seed", None)))
        else:
            console = Console()
            if not console.is_terminal:
                console = Console(width=140)
            print_report(console, build(conn))


def _prompt(asked: argparse.Namespace) -> None:
    from engine.project import changed, open_project
    from engine.prompts import render
    from engine.stages import exemplars_for
    from lmsi_tui.text import printable
    from store import questions
    from store.records import PromptFormat

    project = open_project(asked.project)
    settings = changed(project.settings, settings_from(asked)).sample
    try:
        prompt_format = PromptFormat(asked.format)
    except ValueError:
        raise BadInput(f"--format is {asked.format!r}: one of {', '.join(PromptFormat)}.") from None
    with _reading(asked) as conn:
        found = questions.by_split(conn, asked.split)
    if not 1 <= asked.number <= len(found):
        raise BadInput(f"--number is {asked.number}: {asked.split} holds {len(found)} questions.")
    question = found[asked.number - 1]
    exemplars = exemplars_for(project, settings, question.task)
    print(printable(render(question, prompt_format, settings.style, exemplars).text), end="")


def _doctor(asked: argparse.Namespace) -> None:
    from lmsi_tui import doctor, follow

    found = doctor.examine(asked.project)
    if asked.json:
        follow.emit({"event": "doctor", "checks": [check.as_json() for check in found]})
    else:
        for check in found:
            print(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.says}")
    if not all(check.ok for check in found):
        raise BadInput("Some checks failed; each line above says what to do.")


def _reading(asked: argparse.Namespace):  # type: ignore[no-untyped-def]
    """A read-only connection to the asked project."""
    from engine.project import open_project
    from store.connection import connect
    from store.schema import ensure_schema

    project = open_project(asked.project)
    ensure_schema(project.database)
    return connect(project.database, read_only=True)


def _say(asked: argparse.Namespace, sentence: str) -> None:
    """A sentence for a person; nothing where stdout is for programs."""
    from lmsi_tui.text import printable

    if not getattr(asked, "json", False):
        print(printable(sentence))

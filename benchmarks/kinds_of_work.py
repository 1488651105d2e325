"""Every kind of work that a user can start, as commands that can be started again and again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.hunted_project import HuntedProject

IMPORTED = 3000
"""Questions of one import."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of work, and how to start it."""

    name: str
    arguments: Callable[[HuntedProject, int], Sequence[str]]
    """Of the command for the n-th piece of work; the first is the one that is compared."""
    weight: float = 1.0
    """Its share of the kills."""
    scripted: bool = False
    """Whether it works on the project with the scripted model."""
    worker: bool = True
    """Whether a worker does the work."""
    app: str = ""
    """The keys to press if it opens the app; a space is a pause."""


def _seeded(command: str, setting: str) -> Callable[[HuntedProject, int], Sequence[str]]:
    """A command on the project, whose later pieces of work differ by a setting."""

    def arguments(project: HuntedProject, n: int) -> Sequence[str]:
        value = 0.05 + n / 1000 if setting == "curate.validation_share" else 1000 + n
        changes = ["--set", f"{setting}={value}"] if n else []
        return [command, str(project.folder), *changes]

    return arguments


def _import(project: HuntedProject, n: int) -> Sequence[str]:
    file = project.outside / f"questions-{n}.jsonl"
    if not file.exists():
        lines = [
            json.dumps({"question": f"What is {number} plus {n}?", "answer": str(number + n)})
            for number in range(IMPORTED)
        ]
        file.write_text("\n".join(lines) + "\n")
    # Nothing is measured on them, so they do not change the other work.
    split = ("--split", "ood", "--task", "gsm8k", "--name", f"sums-{n}")
    return ["import", str(file), *split, "--project", str(project.folder)]


def _import_paths(project: HuntedProject, _: int) -> Sequence[str]:
    file = project.outside / "paths.jsonl"
    if not file.exists():
        samples = [f"Count. The answer is {number}." for number in (4, 4, 5, 4)]
        lines = [
            json.dumps({"question": f"What is 2 plus {number}?", "samples": samples})
            for number in range(IMPORTED)
        ]
        file.write_text("\n".join(lines) + "\n")
    return ["import-paths", str(file), "--task", "gsm8k"]


def _export(what: str, *options: str) -> Callable[[HuntedProject, int], Sequence[str]]:
    def arguments(project: HuntedProject, n: int) -> Sequence[str]:
        out = project.folder.with_name(f"{project.folder.name}-out") / f"{what}-{n}"
        return ["export", what, str(project.folder), *options, "--out", str(out)]

    return arguments


def _round(project: HuntedProject, n: int) -> Sequence[str]:
    seeds = [f"{name}.seed={700 + n}" for name in ("sample", "finetune", "distill")]
    changes = [part for seed in seeds for part in ("--set", seed)]
    return ["round", str(project.folder), *changes]


def _app_work(project: HuntedProject, n: int) -> Sequence[str]:
    return ["sample", str(project.folder), "--set", f"sample.seed={2000 + n}"]


def _on_project(command: str) -> Callable[[HuntedProject, int], Sequence[str]]:
    return lambda project, _: [command, str(project.folder)]


KINDS = (
    Kind("import", _import, worker=False),
    Kind("import-paths", _import_paths, 0.3, worker=False),
    Kind("sample", _seeded("sample", "sample.seed"), 1.5),
    Kind("sample, scripted", _seeded("sample", "sample.seed"), 1.5, scripted=True),
    Kind("vote, math", _on_project("vote"), scripted=True),
    Kind("vote", _on_project("vote"), 0.7),
    Kind("curate", _seeded("curate", "curate.validation_share")),
    Kind("finetune", _seeded("finetune", "finetune.seed"), 1.5),
    Kind("evaluate", _seeded("evaluate", "evaluate.seed"), 1.5),
    Kind("distill", _seeded("distill", "distill.seed"), 1.5),
    Kind("export adapter", _export("adapter", "--model", "pebble-l/lmsi"), 0.7),
    Kind("export student", _export("adapter", "--model", "pebble-m/distilled"), 0.5),
    Kind("export set", _export("training-set"), 0.7),
    Kind("round", _round, 1.5),
    Kind("app, review", _on_project("review"), worker=False, app="1 2 x 1 u 1 x 2 u "),
    Kind("app, worker", _app_work, 1.5, app=" j h r j h "),
)

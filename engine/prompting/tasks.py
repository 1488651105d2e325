"""Built-in tasks: the answer type and the worked examples of each.

The paper prompts each task with its own few-shot examples. The number of examples per task is the
paper's (Huang et al. 2022, appendix A.2); the texts were written for this project. Users can give
their own examples in a TOML file of the same format (`docs/tasks.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.project.toml_file import read_toml
from store.enums import AnswerType
from store.errors import BadInput

if TYPE_CHECKING:
    from engine.project.folder import Project
    from engine.project.settings import SampleSettings

EXEMPLARS = Path(__file__).parent / "exemplars"

_FIELDS = ("question", "options", "passage", "reasoning", "answer")


@dataclass(frozen=True, slots=True)
class Exemplar:
    """A worked example of a few-shot prompt."""

    question: str
    options: tuple[str, ...]
    """Texts of the choices in order; empty unless the task is multiple choice."""
    passage: str
    reasoning: str
    """The text before the sentence that states the answer; may be empty."""
    answer: str
    """A letter for a choice, LaTeX without dollar signs for math, the exact text of a span."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A task that can be named with `--task`."""

    name: str
    answer_type: AnswerType
    exemplars: str
    """Stem of the file in `engine/prompting/exemplars`."""
    max_tokens: int = 256
    """Longest reasoning path, in tokens; 256 is the paper's limit for every task."""


_PRESETS = (
    # The six tasks that the paper trains on, then those it only evaluates.
    Preset("gsm8k", AnswerType.NUMBER, "gsm8k"),
    Preset("drop", AnswerType.SPAN, "drop"),
    Preset("drop-football", AnswerType.SPAN, "drop-football"),
    Preset("arc-challenge", AnswerType.CHOICE, "arc-challenge"),
    Preset("openbookqa", AnswerType.CHOICE, "openbookqa"),
    Preset("anli-a2", AnswerType.NLI, "nli"),
    Preset("anli-a3", AnswerType.NLI, "nli"),
    Preset("anli-a1", AnswerType.NLI, "nli"),
    Preset("svamp", AnswerType.NUMBER, "gsm8k"),
    Preset("aqua", AnswerType.CHOICE, "aqua"),
    Preset("strategyqa", AnswerType.YES_NO, "strategyqa"),
    Preset("rte", AnswerType.NLI, "rte"),
    Preset("mnli", AnswerType.NLI, "nli"),
    # Common tasks of other papers.
    Preset("commonsenseqa", AnswerType.CHOICE, "commonsenseqa"),
    Preset("math", AnswerType.MATH, "math", 1024),
    # The synthetic world of the demo.
    Preset("pebble", AnswerType.NUMBER, "", 96),
    # One for each answer type (`math` is above), for questions of any other origin.
    Preset("number", AnswerType.NUMBER, "gsm8k"),
    Preset("choice", AnswerType.CHOICE, "arc-challenge"),
    Preset("yes-no", AnswerType.YES_NO, "strategyqa"),
    Preset("nli", AnswerType.NLI, "nli"),
    Preset("span", AnswerType.SPAN, "drop"),
)
PRESETS = {preset.name: preset for preset in _PRESETS}


def preset(task: str) -> Preset:
    """The preset of a task.

    Raises:
        BadInput: no preset has this name.
    """
    try:
        return PRESETS[task]
    except KeyError:
        raise BadInput(f"Unknown task {task!r}; the tasks are {', '.join(PRESETS)}.") from None


@cache
def exemplars_of(task: str) -> tuple[Exemplar, ...]:
    """The worked examples of a task, in prompt order.

    Raises:
        BadInput: no task has this name.
    """
    if preset(task).name == "pebble":
        from engine.demo import world

        return tuple(
            Exemplar(example.question, (), "", example.reasoning, example.answer)
            for example in world.EXEMPLARS
        )
    return load_exemplars(EXEMPLARS / f"{preset(task).exemplars}.toml")


def exemplars_for(project: Project, settings: SampleSettings, task: str) -> tuple[Exemplar, ...]:
    """The worked examples of a task: your own file's if `sample.exemplars` names one.

    Raises:
        BadInput: no task has this name, or the file is invalid.
    """
    if settings.exemplars:
        return load_exemplars(project.inside(settings.exemplars))
    return exemplars_of(task)


def load_exemplars(path: Path) -> tuple[Exemplar, ...]:
    """Read worked examples from a TOML file with one `[[exemplar]]` section for each.

    `question` and `answer` are required; `reasoning` and `passage` are strings, `options` is a
    list of strings.

    Raises:
        BadInput: the file cannot be read, or an example in it is invalid.
    """
    try:
        values = read_toml(path)
    except FileNotFoundError:
        raise BadInput(f"There is no exemplar file {path}: check sample.exemplars.") from None
    sections = values.get("exemplar")
    if not isinstance(sections, list) or not sections:
        raise BadInput(f"{path} has no exemplars: write one [[exemplar]] section for each.")
    return tuple(
        _exemplar(section, f"{path}: exemplar {n}") for n, section in enumerate(sections, 1)
    )


def _exemplar(values: Any, where: str) -> Exemplar:
    if not isinstance(values, dict):
        raise BadInput(f"{where} must be a section [[exemplar]].")
    for name in values:
        if name not in _FIELDS:
            raise BadInput(
                f"{where} has an unknown field {name!r}; the fields are {', '.join(_FIELDS)}."
            )
    options = values.get("options", [])
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise BadInput(f"{where}: options must be a list of strings.")
    texts = {}
    for name in ("question", "passage", "reasoning", "answer"):
        value = values.get(name, "")
        if name == "answer" and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise BadInput(f"{where}: {name} must be a string.")
        if name in ("question", "answer") and not value.strip():
            raise BadInput(f"{where} has no {name}: add one.")
        texts[name] = value.strip()
    return Exemplar(
        texts["question"], tuple(options), texts["passage"], texts["reasoning"], texts["answer"]
    )

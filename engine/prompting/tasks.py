"""Tasks that come with the program: what kind of answer each has, and its worked examples.

The paper asks every task with few-shot examples of its own; how many per task is kept here
(Huang et al. 2022, appendix A.2), the texts were written for this project. A person's own examples
come from a TOML file of the same form (`docs/tasks.md`).
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    """Texts of the choices in order; empty unless the task is a choice."""
    passage: str
    reasoning: str
    """What comes before the sentence that states the answer; may be empty."""
    answer: str
    """A letter for a choice, LaTeX without dollars for math; a span as its passage writes it."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A task that a person can name with `--task`."""

    name: str
    answer_type: AnswerType
    exemplars: str
    """Stem of its file in `engine/prompting/exemplars`."""
    max_tokens: int = 256
    """How long its paths need to be; 256 is the paper's limit for every task."""


_KNOWN = (
    # The paper's six tasks, then the ones that it only measures.
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
    # Tasks of other papers that people have files of.
    Preset("commonsenseqa", AnswerType.CHOICE, "commonsenseqa"),
    Preset("math", AnswerType.MATH, "math", 1024),
    # The world of the demo.
    Preset("pebble", AnswerType.NUMBER, "", 96),
    # One for each answer type (`math` above is its own), for questions of any other origin.
    Preset("number", AnswerType.NUMBER, "gsm8k"),
    Preset("choice", AnswerType.CHOICE, "arc-challenge"),
    Preset("yes-no", AnswerType.YES_NO, "strategyqa"),
    Preset("nli", AnswerType.NLI, "nli"),
    Preset("span", AnswerType.SPAN, "drop"),
)
PRESETS = {one.name: one for one in _KNOWN}


def preset(task: str) -> Preset:
    """The preset of a task.

    Raises:
        BadInput: there is none of that name.
    """
    try:
        return PRESETS[task]
    except KeyError:
        raise BadInput(f"There is no task {task!r}; there are {', '.join(PRESETS)}.") from None


def exemplars_of(task: str) -> tuple[Exemplar, ...]:
    """The worked examples of a task, in the order in which a prompt shows them.

    Raises:
        BadInput: there is no such task.
    """
    chosen = preset(task)
    if chosen.name == "pebble":
        from engine.demo import world

        return tuple(
            Exemplar(one.question, (), "", one.reasoning, one.answer) for one in world.EXEMPLARS
        )
    return load_exemplars(EXEMPLARS / f"{chosen.exemplars}.toml")


def exemplars_for(project: Project, settings: SampleSettings, task: str) -> tuple[Exemplar, ...]:
    """The worked examples of a task: your own file's if `sample.exemplars` names one.

    Raises:
        BadInput: there is no such task, or the file cannot be used.
    """
    if settings.exemplars:
        return load_exemplars(project.inside(settings.exemplars))
    return exemplars_of(task)


def load_exemplars(path: Path) -> tuple[Exemplar, ...]:
    """Worked examples from a TOML file: one `[[exemplar]]` for each.

    `question` and `answer` are needed; `reasoning` and `passage` are text, `options` a list of
    texts.

    Raises:
        BadInput: the file cannot be read or an example in it cannot be used.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"There is no exemplar file {path}: check sample.exemplars.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read as text: {error}.") from None
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{path} is not valid TOML: {error}; mend that line.") from None
    listed = values.get("exemplar")
    if not isinstance(listed, list) or not listed:
        raise BadInput(f"{path} has no exemplars: write one [[exemplar]] section for each.")
    return tuple(_exemplar(one, f"{path}: exemplar {n}") for n, one in enumerate(listed, 1))


def _exemplar(values: Any, where: str) -> Exemplar:
    if not isinstance(values, dict):
        raise BadInput(f"{where} must be a section [[exemplar]].")
    for name in values:
        if name not in _FIELDS:
            raise BadInput(f"{where} has {name!r}, but there are only {', '.join(_FIELDS)}.")
    options = values.get("options", [])
    if not isinstance(options, list) or not all(isinstance(one, str) for one in options):
        raise BadInput(f"{where}: options must be a list of texts.")
    texts = {}
    for name in ("question", "passage", "reasoning", "answer"):
        value = values.get(name, "")
        if name == "answer" and isinstance(value, int | float) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise BadInput(f"{where}: {name} must be text.")
        if name in ("question", "answer") and not value.strip():
            raise BadInput(f"{where} has no {name}: write one.")
        texts[name] = value.strip()
    return Exemplar(
        texts["question"], tuple(options), texts["passage"], texts["reasoning"], texts["answer"]
    )

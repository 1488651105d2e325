"""How a model is asked: through its own chat template where it has one that works, else as plain
text."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from engine.inference.chat_template import chat_layout, check_shows_once
from engine.inference.loading import prompt_location
from engine.models.chat_templates import template_in
from engine.project.settings import StyleChoice
from store.enums import PromptStyle
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project
    from engine.project.settings import ModelSettings
    from store.records import Model

_TEMPLATE_FILES = ("chat_template.jinja", "tokenizer_config.json")


def style_of(
    project: Project, model: Model, settings: ModelSettings, choice: StyleChoice
) -> PromptStyle:
    """The style in which a model is asked.

    A server that was given by its address alone is asked in plain text, since its template is not
    known; so is a model whose files are not there, until they are needed.

    Args:
        project: the folder that the model's location is relative to.
        model: the model.
        settings: choose the engine, and thereby the file that has the template.
        choice: the setting `sample.style`.

    Raises:
        BadInput: the engine of the settings cannot read the model's format.
    """
    if choice is not StyleChoice.AUTO:
        return PromptStyle(choice)
    return PromptStyle.CHAT if usable_template(project, model, settings) else PromptStyle.BASE


def usable_template(project: Project, model: Model, settings: ModelSettings) -> str:
    """The chat template of a model; "" if it has none that can show the questions.

    Raises:
        BadInput: the engine of the settings cannot read the model's format.
    """
    return _template(project, model, settings)[0]


def why_unusable(project: Project, model: Model, settings: ModelSettings) -> str:
    """Why the chat template of a model cannot show the questions; "" if it can or has none.

    Raises:
        BadInput: the engine of the settings cannot read the model's format.
    """
    return _template(project, model, settings)[1]


def _template(project: Project, model: Model, settings: ModelSettings) -> tuple[str, str]:
    location = prompt_location(project, model, settings)
    if location is None or not location.exists():
        return "", ""
    files = [location / name for name in _TEMPLATE_FILES] if location.is_dir() else [location]
    states = [file.stat() for file in files if file.exists()]
    return _read_template(location, tuple((state.st_mtime_ns, state.st_size) for state in states))


@lru_cache(maxsize=64)
def _read_template(location: Path, _version: tuple[tuple[int, int], ...]) -> tuple[str, str]:
    """The template if it is usable, else why it is not.

    Reading the header of a large GGUF file and rendering its template take a second.
    """
    try:
        template = template_in(location)
        if template:
            check_shows_once(template)
    except BadInput as error:
        return "", str(error)
    return template, ""


def may_think(template: str, *, thinking: bool) -> bool:
    """Whether a model with this chat template may begin with thoughts.

    Models with a switch do so when it is on; others with marks of thoughts may always do so.
    """
    if chat_layout(template).switches_thinking:
        return thinking
    return "think" in template.lower()

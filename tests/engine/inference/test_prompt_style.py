"""How a model is asked if the settings leave it to its chat template."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.inference.chat_template import check_shows_once
from engine.inference.prompt_style import may_think, style_of, usable_template, why_unusable
from engine.models.identity import base_model
from engine.project.folder import Project
from engine.project.settings import ModelSettings, Settings, StyleChoice
from store.enums import PromptStyle
from tests.engine.chat_shapes import CHATML, GEMMA_2, R1, SHAPES
from tests.engine.tiny import tiny_model

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = ModelSettings()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "tiny")


def test_auto_is_a_chat_where_the_template_works(folder: Path) -> None:
    project = Project(folder.parent, Settings())
    model = base_model(project, "tiny/base", folder)
    assert style_of(project, model, SETTINGS, StyleChoice.AUTO) is PromptStyle.BASE
    template = folder / "chat_template.jinja"
    for text in (CHATML, GEMMA_2):
        template.write_text(text)
        assert style_of(project, model, SETTINGS, StyleChoice.AUTO) is PromptStyle.CHAT
        assert style_of(project, model, SETTINGS, StyleChoice.BASE) is PromptStyle.BASE
    template.write_text("{{ messages[0].role }} without the question")
    assert style_of(project, model, SETTINGS, StyleChoice.AUTO) is PromptStyle.BASE
    assert style_of(project, model, SETTINGS, StyleChoice.CHAT) is PromptStyle.CHAT
    assert usable_template(project, model, SETTINGS) == ""
    assert "question" in why_unusable(project, model, SETTINGS)
    template.write_text(CHATML)
    assert why_unusable(project, model, SETTINGS) == ""


@pytest.mark.parametrize(
    "content",
    ["message.content ~ message.content", "message.content[:30]", "message.content | lower"],
    ids=["repeated", "cut", "changed"],
)
def test_a_template_that_changes_the_question_is_not_chosen_by_auto(
    content: str, folder: Path
) -> None:
    project = Project(folder.parent, Settings())
    loop = "{% for message in messages %}<|turn|>{{ CONTENT }}{% endfor %}"
    (folder / "chat_template.jinja").write_text(loop.replace("CONTENT", content))
    model = base_model(project, "tiny/base", folder)
    assert style_of(project, model, SETTINGS, StyleChoice.AUTO) is PromptStyle.BASE
    assert "sample.style" in why_unusable(project, model, SETTINGS)


@pytest.mark.parametrize("name", SHAPES)
def test_templates_of_known_models_show_each_message_once(name: str) -> None:
    check_shows_once(SHAPES[name])


def test_a_model_whose_files_are_elsewhere_is_asked_in_plain_text(folder: Path) -> None:
    project = Project(folder.parent, Settings())
    (folder / "chat_template.jinja").write_text(CHATML)
    model = base_model(project, "tiny/base", folder)
    folder.rename(folder.parent / "elsewhere")
    assert style_of(project, model, SETTINGS, StyleChoice.AUTO) is PromptStyle.BASE


def test_only_a_switch_or_marks_of_thoughts_let_a_model_think() -> None:
    assert not may_think(CHATML, thinking=False)
    assert may_think(R1, thinking=False)
    assert not may_think(SHAPES["Qwen 3"], thinking=False)
    assert may_think(SHAPES["Qwen 3"], thinking=True)

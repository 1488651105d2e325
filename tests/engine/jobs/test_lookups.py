"""What a plan says about how a model is asked and computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.conversion.hf_to_gguf import convert_base
from engine.jobs.lookups import products_note, style_notes
from engine.models.identity import base_model
from engine.project.folder import Project
from engine.project.settings import Settings, changed
from store.enums import PromptStyle
from tests.engine.chat_shapes import CHATML, QWEN_3
from tests.engine.tiny import tiny_model

if TYPE_CHECKING:
    from pathlib import Path

AUTO, NO_SWITCH, NO_CHAT = "sample.style = auto", "no switch for thinking", "only a chat"
UNUSABLE = "cannot be used"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.mark.parametrize(
    ("template", "sample", "style", "expected"),
    [
        (CHATML, {}, PromptStyle.CHAT, [AUTO]),
        (CHATML, {"style": "chat"}, PromptStyle.CHAT, []),
        (CHATML, {"style": "chat", "thinking": True}, PromptStyle.CHAT, [NO_SWITCH]),
        (QWEN_3, {"style": "chat", "thinking": True}, PromptStyle.CHAT, []),
        (CHATML, {"style": "base", "thinking": True}, PromptStyle.BASE, [NO_CHAT]),
        ("{{ messages[0].role }}", {}, PromptStyle.BASE, [UNUSABLE]),
        ("{{ messages[0].role }}", {"style": "base"}, PromptStyle.BASE, []),
    ],
)
def test_what_the_settings_do_not_say_already_is_said(
    folder: Path,
    template: str,
    sample: dict[str, object],
    style: PromptStyle,
    expected: list[str],
) -> None:
    (folder / "chat_template.jinja").write_text(template)
    project = Project(folder.parent, changed(Settings(), {"sample": sample}))
    notes = style_notes(project, base_model(project, "tiny/base", folder), style)
    assert len(notes) == len(expected)
    assert all(part in note for part, note in zip(expected, notes, strict=True))


@pytest.mark.parametrize(
    ("files", "settings", "says"),
    [
        (["gguf"], {"engine": "llama.cpp"}, "no effect"),
        (["gguf"], {}, "converted copy"),
        (["folder", "gguf"], {}, "if llama.cpp turns out"),
        (["folder", "gguf"], {"engine": "llama.cpp"}, "no effect"),
        (["folder", "gguf"], {"engine": "transformers"}, ""),
        (["folder"], {}, ""),
    ],
)
def test_products_in_8_bits_that_are_not_computed_are_mentioned(
    files: list[str], settings: dict[str, object], says: str, folder: Path
) -> None:
    gguf = folder.parent / "tiny.gguf"
    if not gguf.exists():
        convert_base(folder, gguf)
    for products in ("int8", "float"):
        changes = {"model": {"products": products, **settings}}
        project = Project(folder.parent, changed(Settings(), changes))
        model = base_model(
            project,
            "tiny/base",
            folder if "folder" in files else gguf,
            gguf if len(files) == 2 else None,
        )
        note = products_note(project, model)
        if products == "float" or not says:
            assert note == ""
        else:
            assert "model.products" in note
            assert says in note

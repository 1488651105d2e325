"""The chat templates in a model's files; a model may have several, by name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from engine.models.gguf_header import read_contents
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path


def template_in(location: Path) -> str:
    """The template for plain chats in a Hugging Face folder or a GGUF file; "" without one.

    The files are those that transformers reads, without loading it.

    Raises:
        BadInput: there are several templates and none is for plain chats, or a file is damaged.
    """
    if not location.is_dir():
        return choose_template(read_contents(location).chat_templates)
    file = location / "chat_template.jinja"
    try:
        if file.exists():
            return file.read_text(encoding="utf-8")
        file = location / "tokenizer_config.json"
        config = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        templates = config.get("chat_template") if isinstance(config, dict) else None
        if isinstance(templates, list):
            templates = {entry["name"]: entry["template"] for entry in templates}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadInput(f"{file} cannot be read ({error}): copy it again.") from None
    return choose_template(templates)


def choose_template(templates: object) -> str:
    """The template for plain chats of a model that may have several.

    Args:
        templates: one template; or several, by name; or None.

    Returns:
        The template named `default`, or the only one; "" if there is none.

    Raises:
        BadInput: there are several, and none is named `default`.
    """
    if isinstance(templates, str):
        return templates
    if not isinstance(templates, dict) or not templates:
        return ""
    if "default" in templates or len(templates) == 1:
        return str(templates.get("default", next(iter(templates.values()))))
    raise BadInput(
        f"The model has the chat templates {', '.join(sorted(map(str, templates)))}, and none is "
        "named default: rename one of them, or set sample.style to base."
    )

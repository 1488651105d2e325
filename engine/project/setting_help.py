"""The help text of each setting: the string under its field in `engine.project.settings`."""

from __future__ import annotations

import ast
import dataclasses
import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, get_type_hints

from engine.project import settings

if TYPE_CHECKING:
    from collections.abc import Mapping


@lru_cache(maxsize=1)
def help_texts() -> Mapping[tuple[str, str], str]:
    """The help of each setting, by section (such as `sample`) and name (such as `m`)."""
    classes = {
        node.name: _texts_under_fields(node)
        for node in ast.parse(inspect.getsource(settings)).body
        if isinstance(node, ast.ClassDef)
    }
    hints = get_type_hints(settings.Settings)
    return {
        (section.name, name): text
        for section in dataclasses.fields(settings.Settings)
        for name, text in classes[hints[section.name].__name__].items()
    }


def _texts_under_fields(node: ast.ClassDef) -> dict[str, str]:
    texts = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        ):
            texts[field.target.id] = inspect.cleandoc(text.value.value).replace("\n", " ")
    return texts

"""Scripts for models whose answers to each question are given by weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TEXTS = [" The answer is {answer}."]


def rule(text: str, answers: Mapping[str, float]) -> dict[str, object]:
    """A rule for questions that contain `text`: answers are sampled with these weights."""
    return {"contains": text, "answers": answers, "texts": TEXTS}


def write_script(path: Path, rules: Sequence[Mapping[str, object]]) -> None:
    """Write a script; the first rule that matches a question applies."""
    path.write_text(json.dumps({"context": 8192, "slots": 8, "rules": rules}))

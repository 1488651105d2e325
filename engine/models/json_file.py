"""Read the JSON files of a model's folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path


def read_json_object(file: Path) -> dict[str, Any]:
    """The content of a configuration file.

    Raises:
        BadInput: it cannot be read, or is not a JSON object.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{file} is missing: give the whole folder.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{file} cannot be read as JSON ({error}): copy it again.") from None
    if not isinstance(value, dict):
        raise BadInput(f"{file} is not a JSON object: copy it again.")
    return value

"""Options of the command line that more than one command reads."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from engine.project.settings import PRESETS
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence


def settings_from(
    options: Sequence[str], preset: str | None = None
) -> dict[str, dict[str, object]]:
    """The settings of `--preset` and `--set`, by section and name; `--set` overrides the preset.

    Values are read as TOML, or as text if they are not valid TOML.

    Raises:
        BadInput: an unknown preset, or an option that is not SECTION.NAME=VALUE.
    """
    if preset is not None and preset not in PRESETS:
        raise BadInput(f"--preset {preset} is unknown: it must be one of {', '.join(PRESETS)}.")
    sections = {name: dict(values) for name, values in PRESETS[preset].items()} if preset else {}
    for option in options:
        name, equals, value = option.partition("=")
        section, dot, key = name.partition(".")
        if not (equals and dot and section and key):
            raise BadInput(f"--set {option} is not understood: write SECTION.NAME=VALUE.")
        try:
            parsed = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed = value
        sections.setdefault(section, {})[key] = parsed
    return sections

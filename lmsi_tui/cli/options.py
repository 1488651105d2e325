"""Options of the command line that more than one command reads."""

from __future__ import annotations

import tomllib

from store.errors import BadInput


def settings_from(options: list[str]) -> dict[str, dict[str, object]]:
    """The `--set` options as sections; values are read as TOML, and as text where they are none.

    Raises:
        BadInput: not of the form SECTION.NAME=VALUE.
    """
    sections: dict[str, dict[str, object]] = {}
    for option in options:
        name, equals, value = option.partition("=")
        section, dot, key = name.partition(".")
        if not (equals and dot and section and key):
            raise BadInput(f"--set {option} is not understood: write SECTION.NAME=VALUE.")
        try:
            read = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            read = value
        sections.setdefault(section, {})[key] = read
    return sections

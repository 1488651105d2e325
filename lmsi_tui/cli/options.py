"""Options that several commands share: how they are declared, and how `--set` is read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def add_command(
    commands: Commands, name: str, command: str, title: str, description: str = ""
) -> argparse.ArgumentParser:
    """Add a command.

    Args:
        commands: where to add it.
        name: as typed.
        command: `module:function` that runs it.
        title: for the list of commands.
        description: for the command's own help; the title when empty.
    """
    description = description or title[0].upper() + title[1:] + "."
    parser = commands.add_parser(name, help=title, description=description)
    parser.set_defaults(command=command, json=False)
    return parser


def add_project(parser: argparse.ArgumentParser) -> None:
    """The folder of the project, as an optional positional argument."""
    parser.add_argument(
        "project",
        metavar="PROJECT",
        nargs="?",
        type=Path,
        default=Path(),
        help="folder of the project (default: the current folder)",
    )


def add_preview(parser: argparse.ArgumentParser) -> None:
    """`--preview`, for commands that import something."""
    parser.add_argument(
        "--preview", action="store_true", help="show what was detected, and write nothing"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`, for output that programs read."""
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """`--preset` and `--set`, read by `settings_from`."""
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help="named settings: `paper` samples and selects as the paper does; --set overrides them",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.NAME=VALUE",
        help="override a setting for this command, such as sample.m=16; repeatable",
    )


def natural(text: str) -> int:
    """An option's value as a whole number from 0."""
    number = int(text) if text.isdecimal() else -1
    if not 0 <= number < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2147483647")
    return number


def positive(text: str) -> int:
    """An option's value as a whole number from 1."""
    number = natural(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


def strength(text: str) -> float:
    """An option's value as the strength of an adapter."""
    from engine.evaluation.dial import LARGEST

    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0 and at most {LARGEST}")
    return number


def strengths(text: str) -> tuple[float, ...]:
    """An option's value as strengths, separated by commas."""
    return tuple(dict.fromkeys(strength(part.strip()) for part in text.split(",")))


def settings_from(
    options: Sequence[str], preset: str | None = None
) -> dict[str, dict[str, object]]:
    """The settings of `--preset` and `--set`, by section and name; `--set` overrides the preset.

    Values are read as TOML, or as text if they are not valid TOML.

    Raises:
        BadInput: an unknown preset, or an option that is not SECTION.NAME=VALUE.
    """
    from engine.project.presets import PRESETS
    from engine.project.toml_file import parse_toml

    if preset is not None and preset not in PRESETS:
        raise BadInput(f"--preset {preset} is unknown: it must be one of {', '.join(PRESETS)}.")
    sections = {name: dict(values) for name, values in PRESETS[preset].items()} if preset else {}
    for option in options:
        name, equals, value = option.partition("=")
        section, dot, key = name.partition(".")
        if not (equals and dot and section and key):
            raise BadInput(f"--set {option} is not valid: write SECTION.NAME=VALUE.")
        try:
            parsed = parse_toml(f"value = {value}")["value"]
        except ValueError:
            parsed = value
        sections.setdefault(section, {})[key] = parsed
    return sections

"""The configuration of the app for all projects: keys and theme.

    # ~/.config/lmsi-tui/config.toml
    theme = "lmsi-light"

    [keys]
    "review.majority" = "enter,a"

The names under `[keys]` are the command names on the help screen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import platformdirs

from engine.project.toml_file import read_toml
from store.atomic_file import atomic_file
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEFAULT_THEME = "lmsi-dark"

RECENT = 8
"""Number of recent projects on the welcome screen."""


@dataclass(frozen=True, slots=True)
class Config:
    """The checked content of the configuration file."""

    theme: str = DEFAULT_THEME
    keys: Mapping[str, str] = field(default_factory=dict)
    """Comma-separated keys by command id, such as `review.majority`."""
    recent: tuple[str, ...] = ()
    """Folders of the projects opened last, newest first."""


def config_path() -> Path:
    """The configuration file: in the platform's folder, `$XDG_CONFIG_HOME/lmsi-tui` on Linux."""
    return platformdirs.user_config_path("lmsi-tui") / "config.toml"


def read_config() -> Config:
    """Read the configuration file, with defaults for what it does not set.

    Raises:
        BadInput: it is not valid TOML, or a field has the wrong type.
    """
    path = config_path()
    try:
        values = read_toml(path)
    except FileNotFoundError:
        return Config()
    theme, keys = values.get("theme", DEFAULT_THEME), values.get("keys", {})
    recent = values.get("recent", [])
    if not isinstance(theme, str):
        raise BadInput(f"{path}: theme must be the name of a theme.")
    if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
        raise BadInput(f'{path}: [keys] must hold lines such as "review.majority" = "enter,a".')
    if not isinstance(recent, list) or not all(isinstance(folder, str) for folder in recent):
        raise BadInput(f"{path}: recent must be a list of folders.")
    return Config(theme, keys, tuple(recent))


def remember(**changes: object) -> None:
    """Write `theme` or `recent` to the configuration file and keep everything else.

    A failure, such as a read-only home, is ignored: the app works without remembering these.
    """
    import tomlkit

    path = config_path()
    try:
        document = tomlkit.parse(path.read_text(encoding="utf-8") if path.exists() else "")
        for name, value in changes.items():
            document[name] = value
        with atomic_file(path) as temporary:
            temporary.write_text(tomlkit.dumps(document), encoding="utf-8")
    except (OSError, tomlkit.exceptions.TOMLKitError):
        return

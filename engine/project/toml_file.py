"""Read a TOML file, with every error as one sentence."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
        FileNotFoundError: there is no such file.
        BadInput: it cannot be read, or is not valid TOML.
    """
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{path} cannot be read: byte {error.start} is not UTF-8 text; save it as UTF-8."
        ) from None
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        raise BadInput(f"{path} is not valid TOML: {error}; fix that line.") from None


def parse_toml(text: str) -> dict[str, Any]:
    """The values of a TOML document.

    Raises:
        ValueError: it is not valid TOML.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None

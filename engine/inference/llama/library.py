"""Loading models with the native library, and its log."""

from __future__ import annotations

import ctypes
import logging
import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any

import llama_cpp as native

from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger(__name__)
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.INFO, 4: logging.ERROR}
_ERROR = 4
_errors: list[str] = []
"""Errors that llama.cpp has logged since the last call of `last_error`."""


@cache
def redirect_log() -> object:
    """Send llama.cpp's log messages to `logging`, never to the terminal.

    Takes effect once in a process. The cache keeps the callback alive, which llama.cpp only points
    to.
    """
    callback = native.llama_log_callback(_log_message)
    native.llama_log_set(callback, ctypes.c_void_p(0))
    return callback


def _log_message(level: int, text: bytes, _: object) -> None:
    message = text.decode(errors="replace").strip()
    if message and level in _LEVELS:
        _log.log(_LEVELS[level], "%s", message)
        if level == _ERROR:
            _errors.append(message)


def last_error() -> str:
    """The first error logged since the last call; the errors after it only repeat it."""
    message = re.sub(r"^\w+: ", "", _errors[0]).rstrip(".") if _errors else "it gave no reason"
    _errors.clear()
    return message


def load_model(gguf: Path, params: Any) -> Any:
    """A native model; the caller frees it.

    Args:
        gguf: the file.
        params: a `llama_model_params`.

    Raises:
        BadInput: llama.cpp cannot load the file.
    """
    redirect_log()
    _errors.clear()
    model = native.llama_model_load_from_file(os.fsencode(gguf), params)
    if not model:
        raise BadInput(
            f"llama.cpp cannot load {gguf} ({last_error()}): copy the file again, or give one that "
            "this version of llama.cpp knows."
        )
    return model

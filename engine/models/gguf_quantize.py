"""Rewrite a GGUF model with another number type, using llama.cpp's quantizer."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from store.atomic_file import atomic_file
from store.errors import WorkFailed

if TYPE_CHECKING:
    from pathlib import Path


def quantize(gguf: Path, out: Path, kind: str, threads: int = 1) -> None:
    """Write `gguf`, a model in floats, to `out` with the number type `kind`.

    Args:
        gguf: the model in floats.
        out: the file to write; it appears when it is complete.
        kind: llama.cpp's name of the type, such as `Q8_0`.
        threads: processor threads.

    Raises:
        WorkFailed: llama.cpp could not write it.
    """
    import llama_cpp as native

    settings = native.llama_model_quantize_default_params()
    settings.ftype = getattr(native, f"LLAMA_FTYPE_MOSTLY_{kind}")
    settings.nthread = threads
    with atomic_file(out) as path:
        names = os.fsencode(gguf), os.fsencode(path)
        if native.llama_model_quantize(*names, ctypes.byref(settings)):
            raise WorkFailed(f"llama.cpp could not write {gguf} as {kind}.")

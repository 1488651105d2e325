"""Check whether llama.cpp's special kernels run on this machine, before they are needed.

llama.cpp repacks quantized weights for kernels that use instructions the processor reports, such as
AMX. If the processor or its hypervisor rejects these instructions after all, the operating system
kills the process, without an error that could be caught. So a small model is tried first in a
separate process, and only if AMX is reported: other kernels are not known to fail.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from engine.models.gguf_quantize import quantize

_log = logging.getLogger(__name__)

MODEL = Path(__file__).parents[2] / "demo" / "models" / "pebble-l" / "pebble-l.gguf"
TIMEOUT = 60.0
"""Seconds after which a trial has failed; it takes less than one."""
TOKENS = 64
"""Of the prompt that is tried."""


@cache
def kernels_run() -> bool:
    """Whether weights may be repacked for special kernels; tried once in a process."""
    if not _reports_amx():
        return True
    if failure := _try_kernels():
        _log.warning(
            "llama.cpp's kernels for AMX do not run on this machine (%s): "
            "quantized models are sampled without them.",
            failure,
        )
    return not failure


def _try_kernels() -> str:
    """How the trial failed; empty if it succeeded."""
    try:
        code = subprocess.run(
            [sys.executable, "-m", "engine.inference.llama.kernel_check"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
            check=False,
        ).returncode
    except OSError as error:
        return f"the trial could not be started: {error}"
    except subprocess.TimeoutExpired:
        return f"the trial did not end within {TIMEOUT:.0f} seconds"
    return f"the trial ended with {_signal_or_code(code)}" if code else ""


def model_params() -> Any:
    """llama.cpp's default parameters for loading a model, without kernels that do not run here."""
    import llama_cpp as native

    params = native.llama_model_default_params()
    params.use_extra_bufts = params.use_extra_bufts and kernels_run()
    return params


def _signal_or_code(code: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"code {code}"


def _reports_amx() -> bool:
    try:
        return " amx_tile" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def main() -> int:
    """Decode some tokens with a quantized model; 0 if that works."""
    import llama_cpp as native

    with tempfile.TemporaryDirectory() as folder:
        gguf = Path(folder) / "trial.gguf"
        quantize(MODEL, gguf, "Q8_0")
        model = native.llama_model_load_from_file(
            os.fsencode(gguf), native.llama_model_default_params()
        )
        context = native.llama_init_from_model(model, native.llama_context_default_params())
        tokens = (native.llama_token * TOKENS)(*range(2, 2 + TOKENS))
        for count in (TOKENS, 1):  # prompts and single steps use different kernels
            if native.llama_decode(context, native.llama_batch_get_one(tokens, count)):
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Whether the special kernels of llama.cpp run on this machine: tried before they are needed.

llama.cpp packs quantised weights anew for kernels that use what a processor says it has, such as
AMX. Where the processor or its hypervisor refuses them after all, the operating system ends the
process at once, without an error that could be caught. So a small model is tried in a process of
its own first, and only where AMX is there: other kernels are not known to fail.
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
SECONDS = 60.0
"""After which a trial has failed; it takes less than one."""
TOKENS = 64


@cache
def run_here() -> bool:
    """Whether weights may be packed for special kernels; tried once in a process."""
    if not _says_amx():
        return True
    if failure := _failure():
        _log.warning(
            "llama.cpp's kernels for AMX do not run on this machine (%s): "
            "quantised models are sampled without them.",
            failure,
        )
    return not failure


def _failure() -> str:
    """How the trial failed; empty when it did not."""
    try:
        code = subprocess.run(
            [sys.executable, "-m", "engine.inference.llama.kernel_check"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        ).returncode
    except OSError as error:
        return f"their trial could not be started: {error}"
    except subprocess.TimeoutExpired:
        return f"their trial had not ended after {SECONDS:.0f} seconds"
    return f"their trial ended with {_ending(code)}" if code else ""


def model_params() -> Any:
    """llama.cpp's default settings for loading a model, without kernels that do not run here."""
    import llama_cpp as native

    settings = native.llama_model_default_params()
    settings.use_extra_bufts = settings.use_extra_bufts and run_here()
    return settings


def _ending(code: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"code {code}"


def _says_amx() -> bool:
    try:
        return " amx_tile" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def main() -> int:
    """Decode some tokens with a quantised model; 0 when that works."""
    import llama_cpp as native

    with tempfile.TemporaryDirectory() as folder:
        gguf = Path(folder) / "trial.gguf"
        quantize(MODEL, gguf, "Q8_0")
        model = native.llama_model_load_from_file(
            os.fsencode(gguf), native.llama_model_default_params()
        )
        context = native.llama_init_from_model(model, native.llama_context_default_params())
        tokens = (native.llama_token * TOKENS)(*range(2, 2 + TOKENS))
        for count in (TOKENS, 1):  # of a prompt and of a step: they have kernels of their own
            if native.llama_decode(context, native.llama_batch_get_one(tokens, count)):
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

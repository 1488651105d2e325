"""Servers of other projects, running on the loopback interface with an embedded model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from engine.demo.project import MODELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PEBBLE = MODELS / "pebble-m"
GGUF = PEBBLE / "pebble-m.gguf"


@contextmanager
def running(command: Sequence[str], cache: Path) -> Iterator[str]:
    """Run a server on a free port until the end of the block; yields its base URL."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"HF_HOME": str(cache), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if match := re.search(r"running on (http://\S+?:\d+)", line):
            break
    else:
        pytest.fail(f"the server ended: {''.join(lines[-20:])}")
    # Keep reading its output, so that it never blocks on a full pipe.
    reader = threading.Thread(target=process.stderr.read)
    reader.start()
    try:
        yield f"{match[1]}/v1"
    finally:
        process.terminate()
        process.wait(30)
        reader.join()
        process.stderr.close()


@contextmanager
def llama_cpp_server(cache: Path, alias: str = "pebble-m") -> Iterator[str]:
    """Handles one request at a time, ignores `n`, accepts text only."""
    if not (find_spec("uvicorn") and find_spec("starlette_context")):
        pytest.skip("llama-cpp-python's server is not installed: llama-cpp-python[server]")
    options = ["--model", str(GGUF), "--model_alias", alias, "--n_ctx", "1024", "--n_threads", "1"]
    command = [sys.executable, "-m", "llama_cpp.server", *options]
    with running([*command, "--host", "127.0.0.1", "--port", "0"], cache) as url:
        yield url


@contextmanager
def transformers_serve(cache: Path) -> Iterator[str]:
    """Accepts text only, one path per request, and samples greedily by default."""
    if not (find_spec("uvicorn") and find_spec("openai")):
        pytest.skip("transformers serve is not installed: transformers[serving]")
    serve = [str(Path(sys.executable).with_name("transformers")), "serve", str(PEBBLE)]
    options = ["--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    with running([*serve, *options], cache) as url:
        yield f"{url}#{PEBBLE}"

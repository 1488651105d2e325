"""A model that is there as a GGUF file alone, as the Hugging Face folder that a training needs.

transformers reads the file and turns its weights into floats of 16 or 32 bits again; the folder is
written once, beside the project's models. It is compared with llama.cpp on the file itself, in
token ids and in logits, and does not appear under its name before it agrees: what is trained on it
is an adapter for the same file.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from engine.project.folder import Project
    from store.records import Model

KINDS = ("llama", "qwen2")
"""Architectures in GGUF whose adapters are written here (`engine.conversion.hf_to_gguf`)."""
TOLERANCE = 0.1
"""Largest accepted error of the logits, as a share of their spread: llama.cpp rounds what goes into
a quantised matrix, too, and torch does not."""
HALF_UP_TO = 2.5
"""Bytes for each weight of a file up to which 16 bits hold all that it knows."""


def hf_folder(project: Project, model: Model) -> Path:
    """Where a model can be trained from: its own folder, else where its GGUF is unpacked to."""
    location = project.inside(model.location)
    if location.suffix != ".gguf" or location.is_dir():
        return location
    return project.folder / "models" / f"{location.stem}-{model.sha256[:8]}"


def why_not_convertible(file: Path) -> str | None:
    """Why a GGUF file cannot be trained from; None when it can, as far as its header says."""
    from engine.models.gguf_header import read_contents

    kind = read_contents(file).values.get("general.architecture")
    if kind in KINDS:
        return None
    return (
        f"{file.name} is a GGUF of the architecture {kind}, whose adapters cannot be written as "
        f"GGUF here (there are {', '.join(KINDS)}): give the model's Hugging Face folder to "
        "`lmsi-tui init`."
    )


def convert_to_hf(file: Path, folder: Path) -> None:
    """Write a GGUF file as a Hugging Face folder and check it against llama.cpp.

    Nothing is done where the folder is there. All weights are in memory at once, in 32 bits.

    Raises:
        BadInput: transformers cannot read the file's architecture, weights or tokenizer.
        WorkFailed: what was read does not agree with llama.cpp.
    """
    if folder.is_dir():
        return
    if (reason := why_not_convertible(file)) is not None:
        raise BadInput(reason)
    import torch
    from transformers import AutoModelForCausalLM

    from engine.conversion.hf_to_gguf import verify
    from engine.models.gguf_header import read_contents
    from engine.models.gguf_tokenizer import read_tokenizer

    try:
        # Read from a folder of its own: transformers would take a tokenizer.json beside the file.
        with tempfile.TemporaryDirectory() as alone:
            (Path(alone) / "model.gguf").symlink_to(file.resolve())
            tokenizer = read_tokenizer(Path(alone) / "model.gguf")
            model = AutoModelForCausalLM.from_pretrained(
                alone, gguf_file="model.gguf", dtype=torch.float32, local_files_only=True
            )
    except MemoryError:
        raise
    except Exception as error:  # readers of foreign files raise kinds of their own
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(_unread(file, f"transformers cannot read it ({line})")) from error
    weights = read_contents(file).parameters
    if file.stat().st_size <= HALF_UP_TO * weights:
        model = model.to(torch.float16)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write(model, part)
        tokenizer.save_pretrained(part)
        del model
        verify(part, file, tolerance=TOLERANCE)
        part.replace(folder)
    except WorkFailed as failure:
        said = str(failure).partition(":")[0].replace(str(part), "transformers")
        raise BadInput(_unread(file, said[0].lower() + said[1:])) from failure
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _unread(file: Path, why: str) -> str:
    return (
        f"{file.name} cannot be trained from: {why}; give the model's Hugging Face folder to "
        "`lmsi-tui init`."
    )


def _write(model: Any, folder: Path) -> None:
    """What `save_pretrained` writes; it refuses a model that was read from a GGUF file."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    config, weights = model.config, model.state_dict()
    if config.tie_word_embeddings:  # the embedding once more
        weights.pop("lm_head.weight", None)
    save_file(
        {name: value.contiguous() for name, value in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.architectures = [type(model).__name__]
    config.dtype = model.dtype
    config.save_pretrained(folder)
    model.generation_config.save_pretrained(folder)

"""Convert a GGUF file to the Hugging Face folder that training needs.

transformers reads the file and restores its weights as floats of 16 or 32 bits; the folder is
written once, beside the project's models. It is compared with llama.cpp on the file itself, in
token ids and in logits, and gets its name only if it agrees: what is trained on it is an adapter
for the same file.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from engine.models.gguf_header import read_contents
from engine.models.metadata import TRAINABLE_GGUF
from store.atomic_file import atomic_file, scratch_folder
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Model

TOLERANCE = 0.1
"""Largest accepted error of the logits, as a share of their spread: llama.cpp also rounds the
inputs of a quantized matrix, and torch does not."""
MAX_BYTES_FOR_HALF = 2.5
"""Bytes per weight of a file up to which 16 bits hold all of its information."""


class NotConvertible(BadInput):
    """A GGUF file of which no folder can be made."""

    def __init__(self, file: Path, reason: str) -> None:
        """`reason` is a clause that says why."""
        super().__init__(
            f"{file.name} cannot be trained: {reason}; give the model's Hugging Face folder to "
            "`lmsi-tui init`."
        )
        self.reason = reason


def hf_folder(project: Project, model: Model) -> Path:
    """Where a model can be trained from: its own folder, else the one its GGUF is converted to."""
    location = project.inside(model.location)
    if location.suffix != ".gguf" or location.is_dir():
        return location
    return project.folder / "models" / f"{location.stem}-{model.sha256[:8]}"


def folder_size(file: Path) -> int:
    """Bytes that the folder of a GGUF file takes, approximately."""
    weights = int(read_contents(file).parameters)
    return (2 if _fits_half(file, weights) else 4) * weights


def _fits_half(file: Path, weights: int) -> bool:
    return file.stat().st_size <= MAX_BYTES_FOR_HALF * weights


def why_not_convertible(file: Path) -> str | None:
    """Why a GGUF file cannot be converted for training; None if its header allows it."""
    architecture = read_contents(file).values.get("general.architecture")
    if architecture in TRAINABLE_GGUF:
        return None
    return (
        f"{file.name} is a GGUF of the architecture {architecture}, whose adapters cannot be "
        f"converted to GGUF (only {', '.join(TRAINABLE_GGUF)}): give the model's Hugging Face "
        "folder to `lmsi-tui init`."
    )


def convert_to_hf(file: Path, folder: Path) -> None:
    """Write a GGUF file as a Hugging Face folder and check it against llama.cpp.

    If the folder exists, only its end tokens are checked. All weights are in memory at once, in 32
    bits.

    Raises:
        BadInput: transformers cannot read the file's architecture, weights or tokenizer, or the
            folder does not agree with llama.cpp.
    """
    if folder.is_dir():
        _write_end_tokens(folder, file)
        return
    if (reason := why_not_convertible(file)) is not None:
        raise BadInput(reason)
    import torch
    from transformers import AutoModelForCausalLM

    from engine.conversion.verification import verify
    from engine.models.gguf_tokenizer import read_tokenizer

    try:
        # A folder of its own, since transformers would use a tokenizer.json beside the file.
        with scratch_folder(folder) as scratch:
            (scratch / "model.gguf").symlink_to(file.resolve())
            tokenizer = read_tokenizer(scratch / "model.gguf")
            model = AutoModelForCausalLM.from_pretrained(
                scratch,
                gguf_file="model.gguf",
                dtype=torch.float32,
                local_files_only=True,
                trust_remote_code=False,
            )
    except MemoryError:
        raise
    except Exception as error:  # readers of other formats raise exceptions of their own
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise NotConvertible(file, f"transformers cannot read it ({line})") from error
    if _fits_half(file, read_contents(file).parameters):
        model = model.to(torch.float16)
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        _write_folder(model, part)
        tokenizer.save_pretrained(part)
        _write_end_tokens(part, file)
        del model
        verify(part, file, tolerance=TOLERANCE)
        part.replace(folder)
    except WorkFailed as error:
        reason = str(error).partition(":")[0].replace(str(part), "transformers")
        reason = reason if reason.startswith("llama.cpp") else reason[0].lower() + reason[1:]
        raise NotConvertible(file, reason) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_end_tokens(folder: Path, file: Path) -> None:
    """Let a path end in the folder's model at every token at which llama.cpp ends it.

    llama.cpp knows more of them by their names than the one that a file declares: with Qwen, a text
    ends with `<|endoftext|>` and a turn with `<|im_end|>`.
    """
    from engine.inference.llama.vocabulary import read_vocabulary

    with read_vocabulary(file) as vocabulary:
        ends = sorted(vocabulary.end_tokens)
    settings = folder / "generation_config.json"
    values = json.loads(settings.read_text(encoding="utf-8")) if settings.exists() else {}
    if values.get("eos_token_id") != ends:
        with atomic_file(settings) as temporary:
            temporary.write_text(json.dumps(values | {"eos_token_id": ends}), encoding="utf-8")


def _write_folder(model: Any, folder: Path) -> None:
    """Write what `save_pretrained` writes; it refuses a model that was read from a GGUF file."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    config, weights = model.config, model.state_dict()
    if config.tie_word_embeddings:  # the head is a copy of the embedding
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

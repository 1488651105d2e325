"""Convert a GGUF file to a Hugging Face folder, as training and the transformers engine need it.

The weights are restored as floats of 16 or 32 bits; the folder is written once, beside the
project's models. It is compared with llama.cpp on the file itself, in token ids and in logits, and
gets its name only if it agrees: what is trained on it is an adapter for the same file.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from engine.conversion.restored_weights import number_type, write_weights
from engine.models.folder_tokenizer import first_line
from engine.models.gguf_header import model_name, read_contents
from engine.models.gguf_model import TRAINABLE_GGUF
from store.atomic_file import atomic_file
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Model

TOLERANCE = 0.15
"""Largest accepted error of the logits, as a share of their spread: llama.cpp also rounds the
inputs of a quantized matrix, and torch does not. The error was 0.10 with Gemma 3 270M in Q4_K_M,
and 0.07 with SmolLM2-135M in Q4_1."""


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
    return project.folder / "models" / f"{model_name(location.name)}-{model.sha256[:8]}"


def folder_size(file: Path) -> int:
    """Bytes that the folder of a GGUF file takes, approximately."""
    contents = read_contents(file)
    return (4 if number_type(contents) == "F32" else 2) * contents.parameters


def unfinished(folder: Path) -> Path:
    """Where the folder of a GGUF file is written; the next conversion replaces what a killed one
    left there."""
    return folder.with_name(f".{folder.name}.part")


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

    If the folder exists, only its end tokens are checked.

    Raises:
        NotConvertible: the file holds something that transformers does not compute, its tokenizer
            cannot be expressed, or the folder does not agree with llama.cpp.
    """
    if folder.is_dir():
        _write_end_tokens(folder, file)
        return
    if (reason := why_not_convertible(file)) is not None:
        raise BadInput(reason)
    from engine.conversion.verification import ADVICE, verify

    part = unfinished(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _write_folder(file, part)
        _write_end_tokens(part, file)
        verify(part, file, tolerance=TOLERANCE)
        part.replace(folder)
    except WorkFailed as error:
        reason = str(error).removesuffix(ADVICE).rstrip(".").replace(str(part), "transformers")
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


def _write_folder(file: Path, folder: Path) -> None:
    from transformers import GenerationConfig

    from engine.conversion import hyperparameters
    from engine.conversion.families import FAMILIES
    from engine.conversion.tokenizer_from_gguf import read_tokenizer

    contents = read_contents(file)
    architecture = contents.values["general.architecture"]
    family = next(family for family in FAMILIES if family.architecture == architecture)
    try:
        config = hyperparameters.read(family, file, contents)
        read_tokenizer(file).save_pretrained(folder)
        config.dtype = write_weights(folder / "model.safetensors", contents, family, config)
        config.save_pretrained(folder)
        GenerationConfig.from_model_config(config).save_pretrained(folder)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # the classes of transformers raise exceptions of their own
        raise NotConvertible(file, f"it cannot be read ({first_line(error)})") from error

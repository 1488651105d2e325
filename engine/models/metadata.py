"""Architecture, size and tokenizer of a model, from the headers and configuration of its files.

No weights are read, so it is fast enough to show them before a project is created.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.models.gguf_model import TRAINABLE_GGUF, read_language_model
from engine.models.identity import tokenizer_of, weights_of
from engine.models.json_file import read_json_object

if TYPE_CHECKING:
    from pathlib import Path

FOLDER, GGUF = "Hugging Face folder", "GGUF file"


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Description of a model, from its files."""

    kind: str
    """`FOLDER` or `GGUF`."""
    architecture: str
    """Such as `llama` or `qwen2`; `unknown` if the files do not say."""
    parameters: int | None
    tokenizer: str
    """Kind and size, for the user."""
    tokenizer_sha256: str
    context: int | None
    """Context length in tokens; None if the files do not say."""
    trainable: bool
    """Whether it can be fine-tuned; a GGUF file only if its adapter can be written as GGUF."""


def facts_of(location: Path) -> ModelFacts:
    """Describe a Hugging Face folder or a GGUF file.

    Raises:
        BadInput: it is missing, truncated, neither of the two, or no language model.
    """
    if location.suffix == ".gguf" and not location.is_dir():
        return _of_gguf(location)
    tokenizer_sha256 = tokenizer_of(location)
    parameters = weights_of(location)
    config = read_json_object(location / "config.json")
    inner = config.get("text_config", config)
    text = inner if isinstance(inner, dict) else config
    return ModelFacts(
        kind=FOLDER,
        architecture=str(config.get("model_type", "unknown")),
        parameters=parameters,
        tokenizer=_tokenizer(location, whole_number(text.get("vocab_size"))),
        tokenizer_sha256=tokenizer_sha256,
        context=whole_number(text.get("max_position_embeddings")),
        trainable=True,
    )


def _of_gguf(file: Path) -> ModelFacts:
    contents = read_language_model(file)
    values = contents.values
    architecture = str(values.get("general.architecture", "unknown"))
    tokens = whole_number(values.get("tokenizer.ggml.tokens"))
    kind = str(values.get("tokenizer.ggml.model", "of unknown kind"))
    return ModelFacts(
        kind=GGUF,
        architecture=architecture,
        parameters=contents.parameters,
        tokenizer=f"{kind}, {tokens:,} tokens" if tokens else kind,
        tokenizer_sha256=contents.tokenizer_sha256,
        context=whole_number(values.get(f"{architecture}.context_length")),
        trainable=architecture in TRAINABLE_GGUF,
    )


def _tokenizer(folder: Path, size: int | None) -> str:
    kind = "SentencePiece"
    if (folder / "tokenizer.json").exists():
        model = read_json_object(folder / "tokenizer.json").get("model")
        kind = str(model.get("type", "BPE")) if isinstance(model, dict) else "of unknown kind"
    elif (folder / "vocab.json").exists():
        kind = "BPE"
    return f"{kind}, {size:,} tokens" if size else kind


def whole_number(value: object) -> int | None:
    """The value if it is an integer above 0, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None

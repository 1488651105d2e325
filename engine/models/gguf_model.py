"""Whether a GGUF file is a language model, and whether it belongs to a Hugging Face folder.

llama.cpp finds most of this out, but only when it loads the file, long after the project was made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.models.gguf_header import Contents, read_contents
from engine.models.json_file import read_json_object
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

_NOT_GENERATIVE = frozenset(
    {
        *("bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "eurobert"),
        *("jina-bert-v2", "jina-bert-v3", "gemma-embedding", "llama-embed", "t5encoder"),
        *("clip", "wavtokenizer-dec"),
    }
)
"""Architectures in GGUF that encode text, pictures or sound, and generate no text."""


TRAINABLE_GGUF = ("llama", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "smollm3")
"""GGUF architectures that can be converted to a folder, and their adapters to GGUF
(`engine.conversion.families`). All layers of such a model have the same tensors."""


def read_language_model(file: Path) -> Contents:
    """Read the header of a GGUF file that generates text.

    Raises:
        BadInput: the file cannot be read, lacks tensors, or is an adapter, a vocabulary or another
            kind of model.
    """
    contents = read_contents(file)
    values = contents.values
    architecture = str(values.get("general.architecture", "unknown"))
    if values.get("general.type") == "adapter":
        raise BadInput(f"{file} is an adapter: give the whole model, with the adapter merged in.")
    if architecture in _NOT_GENERATIVE:
        raise BadInput(
            f"{file} is a model that generates no text (architecture {architecture}): give a "
            "language model."
        )
    if not contents.tensors:
        raise BadInput(f"{file} has no weights, only metadata: give the file of the whole model.")
    if "tokenizer.ggml.tokens" not in values or "tokenizer.ggml.model" not in values:
        raise BadInput(f"{file} has no tokenizer: convert the model to GGUF with its tokenizer.")
    missing = _missing_tensor(contents, architecture)
    if missing is not None:
        raise BadInput(
            f"{file} has no tensor {missing}, so llama.cpp cannot load it: download or convert the "
            "model again."
        )
    return contents


def _missing_tensor(contents: Contents, architecture: str) -> str | None:
    """The name of a tensor that a model of this architecture must have and has not, if any."""
    tensors, uniform = contents.tensors, architecture in TRAINABLE_GGUF
    if "token_embd.weight" not in tensors:
        return "token_embd.weight"
    if uniform and "output_norm.weight" not in tensors:
        return "output_norm.weight"
    layers = contents.values.get(f"{architecture}.block_count")
    # Those that predict further tokens are counted, and some files leave them out.
    further = contents.values.get(f"{architecture}.nextn_predict_layers", 0)
    if not (isinstance(layers, int) and isinstance(further, int)):
        return None
    names_of: dict[str, set[str]] = {}
    for name in tensors:
        if name.startswith("blk."):
            layer, _, rest = name.removeprefix("blk.").partition(".")
            names_of.setdefault(layer, set()).add(rest)
    required = set[str]().union(*names_of.values()) if uniform else set[str]()
    for number in range(layers - further):
        names = names_of.get(str(number), set())
        if not names or required - names:
            return f"blk.{number}.{min(required - names, default='*')}"
    return None


def check_belongs(file: Path, location: Path) -> None:
    """Check that a GGUF file can be that of a model: same width, same number of layers.

    The number of weights is no sign: a quantized folder packs several into one number, and a GGUF
    file leaves out the image part.

    Args:
        file: the GGUF file.
        location: the model, a Hugging Face folder.

    Raises:
        BadInput: it is not a GGUF file of a language model, or of another one, or `location` is a
            GGUF file itself.
    """
    if location.is_file():
        raise BadInput(f"{location} is a GGUF file already: leave --gguf {file} out.")
    values = read_language_model(file).values
    architecture = values.get("general.architecture")
    config = read_json_object(location / "config.json")
    inner = config.get("text_config", config)
    text = inner if isinstance(inner, dict) else config
    extra = text.get("num_nextn_predict_layers", 0)  # some GGUF files count them as layers
    for what, theirs, ours in (
        (
            "values per token",
            values.get(f"{architecture}.embedding_length"),
            text.get("hidden_size"),
        ),
        ("layers", values.get(f"{architecture}.block_count"), text.get("num_hidden_layers")),
    ):
        if not (isinstance(theirs, int) and isinstance(ours, int)):
            continue
        if theirs != ours and not (what == "layers" and extra and theirs == ours + extra):
            raise BadInput(
                f"{file} is another model than {location} ({theirs:,} {what} instead of "
                f"{ours:,}): give the GGUF file of the same model."
            )

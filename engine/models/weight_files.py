"""Which files of a model or adapter may be loaded: safetensors, and no code.

Other formats of weights are pickles, which run code of their author when they are loaded. A folder
may also name code of its own (`auto_map`) or weights elsewhere; all of this is refused here, before
a library looks at the folder.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from engine.models.json_file import read_json_object
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle")
"""Names of weights that are pickles, or may be."""

MOST_LAYERS = 10_000

INDEX = "model.safetensors.index.json"

_ENCODERS = frozenset(
    {
        *("albert", "bert", "camembert", "clip", "deberta", "deberta-v2", "distilbert", "electra"),
        *("ernie", "eurobert", "longformer", "modernbert", "mpnet", "neobert", "nomic_bert"),
        *("roberta", "siglip", "vit", "xlm-roberta"),
    }
)
"""Values of `model_type` for models that encode texts or pictures, and generate no text."""
_OTHER_TASK = re.compile(r"For(?!CausalLM|ConditionalGeneration)[A-Z]")
"""In names of classes of transformers: a task such as ForMaskedLM or ForSequenceClassification."""


def check_model_files(folder: Path) -> None:
    """Refuse a model folder whose weights are not safetensors files in this folder.

    Raises:
        BadInput: the weights are missing or pickles, lie elsewhere, or belong to an adapter; or the
            model generates no text.
    """
    if (folder / "adapter_config.json").exists():
        raise BadInput(
            f"{folder} holds an adapter (adapter_config.json), which names its base model itself: "
            "merge the two into one model, and give that folder."
        )
    if not any(folder.glob("*.safetensors")):
        raise _no_safetensors(folder, ".safetensors files")
    if (folder / INDEX).exists():
        _check_index(folder / INDEX)
    elif not (folder / "model.safetensors").exists():
        raise BadInput(
            f"{folder} has neither model.safetensors nor {INDEX}, so transformers finds no weights "
            "in it: copy the whole folder again."
        )
    if (folder / "config.json").exists():
        _check_layers(folder / "config.json")
        _check_generates(folder / "config.json")


def check_adapter_files(folder: Path) -> None:
    """Refuse an adapter whose weights are not safetensors.

    Raises:
        BadInput: they are missing, or a pickle.
    """
    if not (folder / "adapter_model.safetensors").is_file():
        raise _no_safetensors(folder, "adapter_model.safetensors")
    config = read_json_object(folder / "adapter_config.json")
    if config.get("peft_type") != "LORA":
        raise BadInput(
            f"The adapter {folder} is of the type {str(config.get('peft_type'))[:40]}: only LORA "
            "can be used."
        )


def _no_safetensors(folder: Path, name: str) -> BadInput:
    pickles = sorted(path.name for mark in PICKLES for path in folder.glob(mark))
    if not pickles:
        return BadInput(f"{folder} has no {name}: save it in that format first.")
    return BadInput(
        f"{folder} has its weights only as {pickles[0]}, a format that can run code when it is "
        f"loaded: get the model with {name}, or convert it where you trust it with transformers' "
        "save_pretrained."
    )


def _check_layers(file: Path) -> None:
    """Refuse a number of layers that a library would create until the memory is full."""
    config = read_json_object(file)
    for part in (config, config.get("text_config")):
        layers = part.get("num_hidden_layers", 0) if isinstance(part, dict) else 0
        if isinstance(layers, int) and layers > MOST_LAYERS:
            raise BadInput(f"{file} says that the model has {layers:,} layers: copy it again.")


def _check_generates(file: Path) -> None:
    """Refuse encoders and models for other tasks, for which transformers would invent weights."""
    config = read_json_object(file)
    kind, named = config.get("model_type"), config.get("architectures")
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    what = f"architectures: {', '.join(names)}" if names else f"model_type: {kind}"
    if config.get("is_encoder_decoder") is True:
        raise BadInput(
            f"{file} is of a model with encoder and decoder ({what[:100]}), and only models "
            "without an encoder can be sampled: give a causal language model."
        )
    is_encoder = str(kind) in _ENCODERS and config.get("is_decoder") is not True
    if is_encoder or (names and all(map(_OTHER_TASK.search, names))):
        raise BadInput(
            f"{file} is of a model that generates no text ({what[:100]}): give a causal language "
            "model."
        )


def _check_index(file: Path) -> None:
    names = read_json_object(file).get("weight_map")
    files = names.values() if isinstance(names, dict) else [""]
    for name in sorted({name if isinstance(name, str) else "" for name in files}):
        plain = name.endswith(".safetensors") and not {"/", "\\", "\0"} & set(name)
        if not plain or not (file.parent / name).is_file():
            raise BadInput(
                f"{file} names {json.dumps(name)[:100]}, which is not a .safetensors file of this "
                "folder: copy the whole folder again."
            )

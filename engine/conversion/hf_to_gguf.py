"""Write a Hugging Face folder or a LoRA adapter as a GGUF file.

Supported are the dense models of `engine.conversion.families` with a byte-level BPE or a
SentencePiece tokenizer; only the `gguf` package is needed. A wrong tokenizer or a wrong order of
the rotary dimensions would go unnoticed, so every file is compared with transformers, in token ids
and in logits, before it gets its name.
"""

from __future__ import annotations

import math
import re
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

from engine.conversion import hyperparameters, rope_scaling
from engine.conversion.families import FAMILIES, tensor_name, to_gguf
from engine.conversion.verification import verify
from engine.models.folder_tokenizer import first_line
from engine.models.gguf_tokenizer import model_name, write_tokenizer
from engine.models.json_file import read_json_object
from engine.models.weight_files import check_model_files
from store.atomic_file import atomic_file, scratch_folder
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from gguf import GGUFWriter
    from numpy.typing import NDArray

    from engine.conversion.families import Family


def convert_base(folder: Path, out: Path, *, half: bool | None = None) -> None:
    """Write a Hugging Face folder as GGUF and check it against transformers.

    Args:
        folder: config.json, tokenizer.json and safetensors of a model of the families.
        out: the file to write; it appears only if it agrees with the folder.
        half: whether to write matrices as 16-bit floats; None keeps 32 bits if the folder has them.

    Raises:
        BadInput: the folder holds something that cannot be converted exactly.
        WorkFailed: the file does not agree with transformers.
    """
    import numpy as np
    from gguf import GGUFWriter, LlamaFileType

    check_model_files(folder)
    config = _config(folder)
    family = _family(folder, config)
    stored = _stored_tensors(folder)
    if half is None:
        half = all(dtype != "F32" for _, dtype, shape in stored.values() if len(shape) > 1)
    targets = {}
    for source in stored:
        if source.endswith(".inv_freq") or (
            source == "lm_head.weight" and config.tie_word_embeddings
        ):
            continue  # recomputed, or a copy of the embedding
        target = tensor_name(family, config.num_hidden_layers, source)
        if target is None:
            raise BadInput(
                f"{folder} has a tensor {source}, which GGUF files of {family.model_type} do not "
                "hold: sample it with the transformers engine."
            )
        targets[source] = target
    dtypes: dict[str, np.dtype[Any]] = {
        source: np.dtype(np.float16 if half and len(stored[source][2]) > 1 else np.float32)
        for source in targets
    }
    divisors = rope_scaling.divisors(family, config)
    with atomic_file(out) as path:
        writer = GGUFWriter(path, family.architecture)
        writer.add_file_type(LlamaFileType.MOSTLY_F16 if half else LlamaFileType.ALL_F32)
        hyperparameters.write(writer, family, folder, config)
        write_tokenizer(writer, folder, config.vocab_size)
        writer.add_name(model_name(folder))
        for target, values in divisors.items():
            _add_tensor_info(writer, target, values.shape, values.dtype)
        for source, target in targets.items():
            _add_tensor_info(writer, target, stored[source][2], dtypes[source])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for values in divisors.values():
            writer.write_tensor_data(values)
        for source in targets:  # one at a time: the whole model may not fit into memory twice
            tensor = to_gguf(family, config, source, _load_tensor(stored[source][0], source))
            with np.errstate(over="ignore"):  # overflow in 16 bits is detected by `verify`
                writer.write_tensor_data(np.ascontiguousarray(tensor, dtype=dtypes[source]))
        writer.close()
        verify(folder, path, rare_differences=True)


def convert_adapter(adapter: Path, base: Path, out: Path, *, gguf: Path | None = None) -> None:
    """Write a peft LoRA adapter as GGUF and check it against transformers.

    Args:
        adapter: adapter_config.json and adapter_model.safetensors.
        base: the Hugging Face folder that the adapter was trained on.
        out: the file to write; it appears only if it agrees.
        gguf: the base as GGUF, for the comparison; None makes a temporary one.

    Raises:
        BadInput: the adapter holds more than low-rank matrices of linear layers.
        WorkFailed: the file does not agree with transformers.
    """
    from gguf import GGUFType, GGUFWriter, Keys

    config = _config(base)
    family = _family(base, config)
    adapter_config = read_json_object(adapter / "adapter_config.json")
    _check_is_plain_lora(adapter, adapter_config)
    stored = _stored_tensors(adapter, "adapter_model.safetensors")
    with scratch_folder(out) as scratch, atomic_file(out) as path:
        writer = GGUFWriter(path, family.architecture)
        writer.add_type(GGUFType.ADAPTER)
        writer.add_string(Keys.Adapter.TYPE, "lora")
        writer.add_float32(Keys.Adapter.LORA_ALPHA, float(adapter_config["lora_alpha"]))
        for source, (file, _, _) in stored.items():
            module, separator, factor = source.removeprefix("base_model.model.").rpartition(
                ".lora_"
            )
            name = f"{module}.weight"
            target = tensor_name(family, config.num_hidden_layers, name) if separator else None
            if target is None or factor not in ("A.weight", "B.weight"):
                raise BadInput(f"{adapter} has a tensor {source}, which GGUF adapters cannot hold.")
            tensor = _load_tensor(file, source)
            if factor == "B.weight":
                tensor *= _scale_ratio(adapter_config, module, tensor.shape[1])
                tensor = to_gguf(family, config, name, tensor)
            writer.add_tensor(f"{target}.lora_{factor[0].lower()}", tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        compare = partial(verify, base, adapter=adapter, adapter_gguf=path, rare_differences=True)
        if gguf is not None:
            compare(gguf)
            return
        gguf = scratch / "base.gguf"
        convert_base(base, gguf)
        try:
            compare(gguf)
        except WorkFailed:
            # llama.cpp rounds the inputs of a matrix in 16 bits, too: more than a short training
            # changes.
            gguf.unlink()
            convert_base(base, gguf, half=False)
            compare(gguf)


def _config(folder: Path) -> Any:
    """The model's configuration, with transformers' defaults for missing values."""
    from transformers import AutoConfig

    read_json_object(folder / "config.json")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise BadInput(
            f"{folder}/config.json cannot be used ({first_line(error)}): copy it again, or give a "
            "model that transformers knows."
        ) from None


def _family(folder: Path, config: Any) -> Family:
    class_name = (config.architectures or ["none"])[0]
    for family in FAMILIES:
        if class_name in family.classes:
            return family
    classes = (name for family in FAMILIES for name in family.classes)
    raise BadInput(
        f"{folder} is a {class_name}, and only {', '.join(classes)} are supported: convert it with "
        "llama.cpp's convert_hf_to_gguf.py."
    )


def _stored_tensors(
    folder: Path, pattern: str = "*.safetensors"
) -> dict[str, tuple[Path, str, list[int]]]:
    """File, dtype and shape of each stored tensor, by name."""
    from safetensors import SafetensorError, safe_open

    tensors = {}
    for path in sorted(folder.glob(pattern)):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 - a file, not a dict
                    tensor = file.get_slice(name)
                    tensors[name] = (path, tensor.get_dtype(), tensor.get_shape())
        except SafetensorError:
            raise BadInput(f"{path} is not a complete safetensors file: copy it again.") from None
    if not tensors:
        raise BadInput(f"{folder} has no {pattern}: save it in that format first.")
    return tensors


def _load_tensor(path: Path, name: str) -> NDArray[np.float32]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        loaded: NDArray[np.float32] = file.get_tensor(name).float().numpy()
        return loaded


def _add_tensor_info(
    writer: GGUFWriter, name: str, shape: Sequence[int], dtype: np.dtype[Any]
) -> None:
    writer.add_tensor_info(name, shape, dtype, prod(shape) * dtype.itemsize)


def _check_is_plain_lora(folder: Path, config: dict[str, Any]) -> None:
    problems = [
        problem
        for problem, is_present in (
            ("is not LoRA", config.get("peft_type") != "LORA"),
            ("uses DoRA", config.get("use_dora")),
            ("trains biases", config.get("bias", "none") != "none"),
            ("saves whole modules", config.get("modules_to_save")),
            ("is stored transposed", config.get("fan_in_fan_out")),
        )
        if is_present
    ]
    if problems:
        raise BadInput(
            f"The adapter {folder} {problems[0]}, which GGUF adapters cannot hold: merge it into "
            "its base first."
        )


def _scale_ratio(config: dict[str, Any], module: str, rank: int) -> float:
    """The scale of a module, divided by the alpha / rank that llama.cpp will apply."""
    alpha = next(
        (
            value
            for key, value in (config.get("alpha_pattern") or {}).items()
            if re.match(rf"(.*\.)?({key})$", module)
        ),
        config["lora_alpha"],
    )
    root = math.sqrt(rank) if config.get("use_rslora") else 1.0
    return float(alpha / config["lora_alpha"] * root)

"""Write a Hugging Face folder or a LoRA adapter as a GGUF file.

Supported are dense models of the Llama family (Llama, Mistral, Qwen2) with a byte-level BPE or a
SentencePiece tokenizer; only the `gguf` package is needed. A wrong tokenizer or a wrong order of
the rotary dimensions would go unnoticed, so every file is compared with transformers, in token ids
and in logits, before it gets its name.
"""

from __future__ import annotations

import json
import math
import re
from math import prod
from typing import TYPE_CHECKING, Any

from engine.conversion.verification import verify
from engine.models.gguf_tokenizer import write_tokenizer
from engine.models.weight_files import check_model_files
from store.atomic_file import atomic_file, scratch_folder
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from gguf import GGUFWriter
    from numpy.typing import NDArray

_ARCHITECTURES = {  # class in config.json: llama.cpp's name, and whether q and k are permuted
    "LlamaForCausalLM": ("llama", True),
    "MistralForCausalLM": ("llama", True),
    "Qwen2ForCausalLM": ("qwen2", False),
}


def convert_base(folder: Path, out: Path, *, half: bool | None = None) -> None:
    """Write a Hugging Face folder as GGUF and check it against transformers.

    Args:
        folder: config.json, tokenizer.json and safetensors of a dense Llama, Mistral or Qwen2.
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
    architecture, is_permuted = _architecture(folder, config)
    stored = _stored_tensors(folder)
    if half is None:
        half = all(dtype != "F32" for _, dtype, shape in stored.values() if len(shape) > 1)
    targets = {}
    for source in stored:
        if source.endswith(".inv_freq") or (
            source == "lm_head.weight" and config.tie_word_embeddings
        ):
            continue  # recomputed, or a copy of the embedding
        target = _gguf_name(architecture, config, source)
        if target is None:
            raise BadInput(f"{folder} has a tensor {source}, unknown in GGUF.")
        targets[source] = target
    dtypes: dict[str, np.dtype[Any]] = {
        source: np.dtype(np.float16 if half and len(stored[source][2]) > 1 else np.float32)
        for source in targets
    }
    factors = _rope_factors(config)
    with atomic_file(out) as path:
        writer = GGUFWriter(path, architecture)
        writer.add_name(folder.resolve().name)
        writer.add_file_type(LlamaFileType.MOSTLY_F16 if half else LlamaFileType.ALL_F32)
        _write_hyperparameters(writer, folder, config)
        write_tokenizer(writer, folder, config.vocab_size)
        if factors is not None:
            _add_tensor_info(writer, "rope_freqs.weight", factors.shape, factors.dtype)
        for source, target in targets.items():
            _add_tensor_info(writer, target, stored[source][2], dtypes[source])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for source in targets:  # one at a time: the whole model may not fit into memory twice
            tensor = _load_tensor(stored[source][0], source)
            if is_permuted:
                tensor = _permute(tensor, source, config)
            with np.errstate(over="ignore"):  # overflow in 16 bits is detected by `verify`
                writer.write_tensor_data(np.ascontiguousarray(tensor, dtype=dtypes[source]))
        writer.close()
        verify(folder, path)


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
    architecture, is_permuted = _architecture(base, config)
    adapter_config = _read_json(adapter / "adapter_config.json")
    _check_is_plain_lora(adapter, adapter_config)
    stored = _stored_tensors(adapter, "adapter_model.safetensors")
    with scratch_folder(out) as scratch, atomic_file(out) as path:
        writer = GGUFWriter(path, architecture)
        writer.add_type(GGUFType.ADAPTER)
        writer.add_string(Keys.Adapter.TYPE, "lora")
        writer.add_float32(Keys.Adapter.LORA_ALPHA, float(adapter_config["lora_alpha"]))
        for source, (file, _, _) in stored.items():
            module, separator, factor = source.removeprefix("base_model.model.").rpartition(
                ".lora_"
            )
            target = _gguf_name(architecture, config, f"{module}.weight") if separator else None
            if target is None or factor not in ("A.weight", "B.weight"):
                raise BadInput(f"{adapter} has a tensor {source}, which GGUF adapters cannot hold.")
            tensor = _load_tensor(file, source)
            if factor == "B.weight":
                tensor *= _scale_ratio(adapter_config, module, tensor.shape[1])
                if is_permuted:
                    tensor = _permute(tensor, f"{module}.weight", config)
            writer.add_tensor(f"{target}.lora_{factor[0].lower()}", tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        if gguf is None:
            gguf = scratch / "base.gguf"
            convert_base(base, gguf)
        verify(base, gguf, adapter=adapter, adapter_gguf=path)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path} is missing: give the whole folder.") from None
    except ValueError:
        raise BadInput(f"{path} is not JSON: copy it again.") from None
    if not isinstance(content, dict):
        raise BadInput(f"{path} is not a JSON object: copy it again.")
    return content


def _config(folder: Path) -> Any:
    """The model's configuration, with transformers' defaults for missing values."""
    from transformers import AutoConfig

    _read_json(folder / "config.json")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (ValueError, OSError, KeyError) as error:
        raise BadInput(f"{folder}/config.json cannot be used: {_first_line(error)}") from None


def _architecture(folder: Path, config: Any) -> tuple[str, bool]:
    class_name = (config.architectures or ["none"])[0]
    if class_name not in _ARCHITECTURES:
        raise BadInput(
            f"{folder} is a {class_name}, and only {', '.join(_ARCHITECTURES)} are supported: "
            "convert it with llama.cpp's convert_hf_to_gguf.py."
        )
    # A window at least as long as the context masks nothing.
    window = getattr(config, "sliding_window", None)
    if (
        getattr(config, "use_sliding_window", True)
        and window
        and (window < config.max_position_embeddings)
    ):
        raise BadInput(
            f"{folder} attends to a sliding window of {window} tokens, which is not supported: "
            "convert it with llama.cpp's convert_hf_to_gguf.py."
        )
    return _ARCHITECTURES[class_name]


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


def _gguf_name(architecture: str, config: Any, source: str) -> str | None:
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    key = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(key, config.num_hidden_layers)
    target: str | None = names.get_name(source, try_suffixes=(".weight", ".bias"))
    return target


def _permute(tensor: NDArray[np.float32], source: str, config: Any) -> NDArray[np.float32]:
    """Permute the output rows of q and k to the order of llama.cpp's rotary embedding.

    transformers rotates dimension i with i + d/2 of a head, llama.cpp's Llama i with i + 1.
    """
    if ".q_proj." in source:
        heads = config.num_attention_heads
    elif ".k_proj." in source:
        heads = config.num_key_value_heads
    else:
        return tensor
    halves = tensor.reshape(heads, 2, -1, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def _add_tensor_info(
    writer: GGUFWriter, name: str, shape: Sequence[int], dtype: np.dtype[Any]
) -> None:
    writer.add_tensor_info(name, shape, dtype, prod(shape) * dtype.itemsize)


def _write_hyperparameters(writer: GGUFWriter, folder: Path, config: Any) -> None:
    from gguf import RopeScalingType

    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    rope_type = config.rope_parameters.get("rope_type", "default")
    if rope_type == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_parameters["factor"])
    elif rope_type not in ("default", "llama3"):
        raise BadInput(
            f"{folder} scales its positions by {rope_type}, which is not supported: "
            "convert it with llama.cpp's convert_hf_to_gguf.py."
        )
    if config.hidden_act != "silu":
        raise BadInput(f"{folder} uses the activation {config.hidden_act}; only silu is supported.")


def _rope_factors(config: Any) -> NDArray[np.float32] | None:
    """Divisor of each rotary frequency of Llama 3, [head / 2]; None for other models."""
    import numpy as np

    rope = config.rope_parameters
    if rope.get("rope_type") != "llama3":
        return None
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    wavelength = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, head, 2) / head)
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    smooth = (rope["original_max_position_embeddings"] / wavelength - low) / (high - low)
    smooth = smooth.clip(0, 1)
    return (1 / ((1 - smooth) / rope["factor"] + smooth)).astype(np.float32)


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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]

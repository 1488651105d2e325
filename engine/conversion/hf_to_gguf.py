"""Write a Hugging Face folder or a LoRA adapter as a GGUF file.

Dense models of the Llama family (Llama, Mistral, Qwen2) with a byte-level BPE or a SentencePiece
tokenizer are written here, with the `gguf` package alone. A wrong tokenizer or a wrong order of the
rotary dimensions is silent, so every file that is written is compared with transformers first, in
token ids and in logits, and does not appear under its name before it agrees.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
from contextlib import closing
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.models.gguf_tokenizer import load_tokenizer, write_tokenizer
from engine.project.atomic_file import atomic_file
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from gguf import GGUFWriter
    from numpy.typing import NDArray

TOLERANCE = 0.02
"""Largest accepted error of the logits, as a share of their spread (both root mean square)."""
ADAPTER_TOLERANCE = 0.05
"""The same for an adapter, as a share of what the adapter changes in the logits."""

_BASES = {  # class in config.json: architecture of llama.cpp, and whether q and k are reordered
    "LlamaForCausalLM": ("llama", True),
    "MistralForCausalLM": ("llama", True),
    "Qwen2ForCausalLM": ("qwen2", False),
}
_PROBES = (
    "Once upon a time, there was a little girl named Lily. She had 17 red apples and gave 5 away.",
    "Q: Tom has 12 pens and buys 3 boxes of 10. How many pens?\nA: 3 * 10 = 30. 12 + 30 = 42.\n\n",
    "  Two spaces, a tab\tand\r\nline ends;   don't we'll I'M 3.14159 1000000 (a+b)^2 = a² + 2ab",
    "Ünïcödé cafe\u0301 naïve 東京 привет שלום 👩‍🚀 ½ \u00a0x\u200bz — “quotes” … \n \n\n   end ",
)
"""Texts that a converted model must read, and continue, as the original does."""


def convert_base(folder: Path, out: Path, *, half: bool | None = None) -> None:
    """Write a Hugging Face folder as GGUF and check it against transformers.

    Args:
        folder: config.json, tokenizer.json and safetensors of a dense Llama, Mistral or Qwen2.
        out: the file to write; it appears only when it agrees with the folder.
        half: 16-bit floats for the matrices. None keeps 32 bits where the folder has them.

    Raises:
        BadInput: the folder holds something that cannot be written faithfully.
        WorkFailed: what was written does not agree with transformers.
    """
    import numpy as np
    from gguf import GGUFWriter, LlamaFileType

    config = _config(folder)
    name, permuted = _architecture(folder, config)
    stored = _stored_tensors(folder)
    if half is None:
        half = all(kind != "F32" for _, kind, shape in stored.values() if len(shape) > 1)
    targets = {}
    for source in stored:
        if source.endswith(".inv_freq") or (
            source == "lm_head.weight" and config.tie_word_embeddings
        ):
            continue  # computed anew, or the embedding once more
        target = _gguf_name(name, config, source)
        if target is None:
            raise BadInput(f"{folder} has a tensor {source}, which no {name} model in GGUF has.")
        targets[source] = target
    floats: dict[str, np.dtype[Any]] = {
        source: np.dtype(np.float16 if half and len(stored[source][2]) > 1 else np.float32)
        for source in targets
    }
    factors = _rope_factors(config)
    with atomic_file(out) as path:
        writer = GGUFWriter(path, name)
        writer.add_name(folder.resolve().name)
        writer.add_file_type(LlamaFileType.MOSTLY_F16 if half else LlamaFileType.ALL_F32)
        _write_shape(writer, folder, config)
        write_tokenizer(writer, folder, config.vocab_size)
        if factors is not None:
            _announce(writer, "rope_freqs.weight", factors.shape, factors.dtype)
        for source, target in targets.items():
            _announce(writer, target, stored[source][2], floats[source])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        if factors is not None:
            writer.write_tensor_data(factors)
        for source in targets:  # one at a time: the whole model may not fit into memory twice
            tensor = _load_tensor(stored[source][0], source)
            if permuted:
                tensor = _permute(tensor, source, config)
            with np.errstate(over="ignore"):  # too large for 16 bits: the check will tell
                writer.write_tensor_data(np.ascontiguousarray(tensor, dtype=floats[source]))
        writer.close()
        verify(folder, path)


def convert_adapter(adapter: Path, base: Path, out: Path, *, gguf: Path | None = None) -> None:
    """Write a peft LoRA adapter as GGUF and check it against transformers.

    Args:
        adapter: adapter_config.json and adapter_model.safetensors.
        base: the Hugging Face folder that the adapter was trained on.
        out: the file to write; it appears only when it agrees.
        gguf: the base as GGUF, to check on; without it one is made for the while.

    Raises:
        BadInput: the adapter holds more than low-rank matrices of linear layers.
        WorkFailed: what was written does not agree with transformers.
    """
    from gguf import GGUFType, GGUFWriter, Keys

    config = _config(base)
    name, permuted = _architecture(base, config)
    settings = _json(adapter / "adapter_config.json")
    _refuse_other_adapters(adapter, settings)
    stored = _stored_tensors(adapter, "adapter_model.safetensors")
    with tempfile.TemporaryDirectory() as scratch, atomic_file(out) as path:
        writer = GGUFWriter(path, name)
        writer.add_type(GGUFType.ADAPTER)
        writer.add_string(Keys.Adapter.TYPE, "lora")
        writer.add_float32(Keys.Adapter.LORA_ALPHA, float(settings["lora_alpha"]))
        for source, (file, _, _) in stored.items():
            module, found, part = source.removeprefix("base_model.model.").rpartition(".lora_")
            target = _gguf_name(name, config, module + ".weight") if found else None
            if target is None or part not in ("A.weight", "B.weight"):
                raise BadInput(f"{adapter} has a tensor {source}, which no GGUF adapter can hold.")
            tensor = _load_tensor(file, source)
            if part == "B.weight":
                tensor *= _scale_ratio(settings, module, tensor.shape[1])
                if permuted:
                    tensor = _permute(tensor, module + ".weight", config)
            writer.add_tensor(f"{target}.lora_{part[0].lower()}", tensor)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        if gguf is None:
            gguf = Path(scratch) / "base.gguf"
            convert_base(base, gguf)
        verify(base, gguf, adapter=adapter, adapter_gguf=path)


# The parts of a model.


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"There is no {path}: give the whole folder.") from None
    except ValueError:
        raise BadInput(f"{path} is not JSON: copy it again.") from None
    if not isinstance(read, dict):
        raise BadInput(f"{path} is not a JSON object: copy it again.")
    return read


def _config(folder: Path) -> Any:
    """The model's configuration, with transformers' defaults for what it does not say."""
    from transformers import AutoConfig

    _json(folder / "config.json")
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError, KeyError) as error:
        raise BadInput(f"{folder}/config.json cannot be used: {_first_line(error)}") from None


def _architecture(folder: Path, config: Any) -> tuple[str, bool]:
    kind = (config.architectures or ["none"])[0]
    if kind not in _BASES:
        raise BadInput(
            f"{folder} is a {kind}, and only {', '.join(_BASES)} are written as GGUF here: "
            "convert it with llama.cpp's convert_hf_to_gguf.py."
        )
    # A window at least as long as the context hides nothing.
    window = getattr(config, "sliding_window", None)
    if (
        getattr(config, "use_sliding_window", True)
        and window
        and (window < config.max_position_embeddings)
    ):
        raise BadInput(
            f"{folder} attends to a sliding window of {window} tokens, which is not written here: "
            "convert it with llama.cpp's convert_hf_to_gguf.py."
        )
    return _BASES[kind]


def _stored_tensors(
    folder: Path, pattern: str = "*.safetensors"
) -> dict[str, tuple[Path, str, list[int]]]:
    """File, type and shape of each stored tensor, by name."""
    from safetensors import SafetensorError, safe_open

    found = {}
    for path in sorted(folder.glob(pattern)):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118  (this is a file, not a dict)
                    part = file.get_slice(name)
                    found[name] = (path, part.get_dtype(), part.get_shape())
        except SafetensorError:
            raise BadInput(f"{path} is not a whole safetensors file: copy it again.") from None
    if not found:
        raise BadInput(f"{folder} has no {pattern}: save it in that format first.")
    return found


def _load_tensor(path: Path, name: str) -> NDArray[np.float32]:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        loaded: NDArray[np.float32] = file.get_tensor(name).float().numpy()
        return loaded


def _gguf_name(architecture: str, config: Any, source: str) -> str | None:
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    kind = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(kind, config.num_hidden_layers)
    found: str | None = names.get_name(source, try_suffixes=(".weight", ".bias"))
    return found


def _permute(tensor: NDArray[np.float32], source: str, config: Any) -> NDArray[np.float32]:
    """Put the output rows of q and k where llama.cpp's rotary embedding expects them.

    transformers rotates dimension i with i + d/2 of a head, llama.cpp's Llama i with i + 1.
    """
    if ".q_proj." in source:
        heads = config.num_attention_heads
    elif ".k_proj." in source:
        heads = config.num_key_value_heads
    else:
        return tensor
    apart = tensor.reshape(heads, 2, -1, *tensor.shape[1:])
    return apart.swapaxes(1, 2).reshape(tensor.shape)


def _announce(writer: GGUFWriter, name: str, shape: Sequence[int], kind: np.dtype[Any]) -> None:
    writer.add_tensor_info(name, shape, kind, prod(shape) * kind.itemsize)


def _write_shape(writer: GGUFWriter, folder: Path, config: Any) -> None:
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
    kind = config.rope_parameters.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(config.rope_parameters["factor"])
    elif kind not in ("default", "llama3"):
        raise BadInput(
            f"{folder} scales its positions by {kind}, which is not written here: "
            "convert it with llama.cpp's convert_hf_to_gguf.py."
        )
    if config.hidden_act != "silu":
        raise BadInput(f"{folder} uses the activation {config.hidden_act}; GGUF here knows silu.")


def _rope_factors(config: Any) -> NDArray[np.float32] | None:
    """What Llama 3 divides each rotary frequency by; [head / 2], None for other models."""
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


def _refuse_other_adapters(folder: Path, settings: dict[str, Any]) -> None:
    wrong = [
        what
        for what, there in (
            ("is not LoRA", settings.get("peft_type") != "LORA"),
            ("uses DoRA", settings.get("use_dora")),
            ("trains biases", settings.get("bias", "none") != "none"),
            ("saves whole modules", settings.get("modules_to_save")),
            ("is stored transposed", settings.get("fan_in_fan_out")),
        )
        if there
    ]
    if wrong:
        raise BadInput(
            f"The adapter {folder} {wrong[0]}, which no GGUF adapter can hold: merge it."
        )


def _scale_ratio(settings: dict[str, Any], module: str, rank: int) -> float:
    """This module's scale over the alpha / rank that llama.cpp will apply."""
    alpha = next(
        (
            value
            for key, value in (settings.get("alpha_pattern") or {}).items()
            if re.match(rf"(.*\.)?({key})$", module)
        ),
        settings["lora_alpha"],
    )
    root = math.sqrt(rank) if settings.get("use_rslora") else 1.0
    return float(alpha / settings["lora_alpha"] * root)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


# The check.


def verify(
    folder: Path,
    gguf: Path,
    *,
    adapter: Path | None = None,
    adapter_gguf: Path | None = None,
    tolerance: float = TOLERANCE,
) -> None:
    """Compare a GGUF file with the folder that it came from: token ids, then logits.

    Args:
        folder: the Hugging Face folder of the base.
        gguf: the same as GGUF.
        adapter: a peft adapter of it.
        adapter_gguf: the same as GGUF.
        tolerance: largest accepted error of the logits.

    The error of the logits after each probe text may be `tolerance` of their spread; with an
    adapter also `ADAPTER_TOLERANCE` of what the adapter changes.

    Raises:
        WorkFailed: they differ.
    """
    import numpy as np

    from engine.inference.llama.backend import open_llama_cpp

    tokenizer = load_tokenizer(folder)
    names = "".join(token.content for token in tokenizer.get_added_tokens_decoder().values())
    tokenizer.encode_special_tokens = True  # a name of a special token in a text is only text
    probes = [tokenizer.encode(text).ids for text in _PROBES]
    with closing(open_llama_cpp(gguf, adapter=adapter_gguf, batch_size=1, context=512)) as model:
        for text in (*_PROBES, f"a{names} b", ""):
            if model.tokenize(text) != tokenizer.encode(text).ids:
                raise WorkFailed(
                    f"llama.cpp would read {text[:40]!r} as other tokens than {folder} does: "
                    "use this model with the transformers engine."
                )
        probes = [ids[: model.context_length] for ids in probes]
        got = np.stack([model.logits(ids) for ids in probes])
    plain, wanted = _torch_logits(folder, adapter, probes)
    got = got[:, : wanted.shape[1]]
    error = _spread(got - wanted)
    if not (error <= tolerance * _spread(wanted)).all():
        raise WorkFailed(
            f"The logits of the GGUF file differ from those of {adapter or folder} by "
            f"{(error / _spread(wanted)).max():.1%} of their spread ({tolerance:.0%} is allowed): "
            "use this model with the transformers engine."
        )
    # An adapter that changes less than the numbers' own noise cannot be told from none.
    effect = np.maximum(_spread(wanted - plain), 1e-3 * _spread(wanted))
    if adapter is not None and not (error <= ADAPTER_TOLERANCE * effect).all():
        raise WorkFailed(
            f"The GGUF adapter changes the logits otherwise than {adapter} does "
            f"(error {(error / effect).max():.1%} of the change, {ADAPTER_TOLERANCE:.0%} is "
            "allowed): use this model with the transformers engine."
        )


def _torch_logits(
    folder: Path, adapter: Path | None, probes: list[list[int]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """[probes, vocabulary] without and with the adapter, in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    ).eval()

    @torch.inference_mode()
    def last_logits() -> NDArray[np.float32]:
        rows = [model(torch.tensor([ids]), use_cache=False).logits[0, -1] for ids in probes]
        stacked: NDArray[np.float32] = torch.stack(rows).numpy()
        return stacked

    plain = last_logits()
    if adapter is None:
        return plain, plain
    from peft import PeftModel

    model = PeftModel.from_pretrained(model, adapter).eval()
    return plain, last_logits()


def _spread(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviation of each row: a constant added to all logits of a row means nothing."""
    spread: NDArray[np.float32] = logits.std(axis=1)
    return spread

"""Load a Hugging Face folder: weights, adapter, end tokens, and the bytes of its tokens.

Nothing is downloaded, and no code in the folder is run.
"""

from __future__ import annotations

import json
import re
import warnings
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM

from engine.inference.hf import products
from engine.inference.hf.weights import load_by_tensor
from engine.models.folder_tokenizer import first_line
from engine.models.identity import weights_of
from engine.models.json_file import read_json_object
from engine.models.metadata import whole_number
from engine.models.weight_files import check_adapter_files, check_model_files
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor, nn

SMALL = 50_000_000
"""Models with fewer parameters compute in float32 everywhere: bfloat16 would gain little, and this
way every machine samples the same paths."""
_LOAD_ERRORS = (
    *(OSError, ValueError, LookupError, TypeError, RuntimeError, AttributeError, ImportError),
    *(ArithmeticError, AssertionError, RecursionError, SafetensorError, re.error),
)
"""What transformers and peft raise for invalid files."""


def load_model(
    folder: Path, adapter: Path | None, device: torch.device, *, int8: bool = False
) -> Any:
    """Load a causal language model onto a device.

    It computes in bfloat16 if the hardware does, unless it is `SMALL`; otherwise in float32.

    Args:
        folder: with config.json and safetensors.
        adapter: a PEFT folder, merged into the weights in float32; None for no adapter.
        device: the device to load onto.
        int8: compute the products of linear layers in 8 bits, on a processor that supports it (see
            `engine.inference.hf.products`).

    Raises:
        BadInput: the folder is invalid or of an unknown architecture, or the adapter does not fit.
    """
    check_model_files(folder)
    if adapter is not None:
        check_adapter_files(adapter)
    half = _weights_of(folder) >= SMALL and _computes_bfloat16(device)
    dtype = torch.bfloat16 if half else torch.float32
    pack: Callable[[Tensor, Tensor | None], nn.Module] | None = None
    if device.type == "cpu":
        if int8 and products.supports_int8():
            pack = products.Int8Linear
        elif not half and products.can_pack_float32():
            pack = products.PackedLinear
    model = _loaded(folder, adapter, device, dtype, pack)
    if pack is None or _computes(model):
        return model
    del model
    return _loaded(folder, adapter, device, dtype, None)


@torch.inference_mode()
def _computes(model: Any) -> bool:
    """Whether a model computes with packed layers: the code of some, such as Mamba, uses the weight
    of a linear layer by itself."""
    try:
        model(torch.zeros(1, 2, dtype=torch.long))
    except AttributeError:
        return False
    return True


def _loaded(
    folder: Path,
    adapter: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    pack: Callable[[Tensor, Tensor | None], nn.Module] | None,
) -> Any:
    if device.type == "cpu" and adapter is None:
        model = _load_by_tensor(folder, dtype, pack)
        if model is not None:
            return model.eval()
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype="auto" if adapter is None else torch.float32,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except _LOAD_ERRORS as problem:
        raise BadInput(
            f"The model in {folder} cannot be loaded ({first_line(problem)}): copy it again, "
            "or give a causal language model that transformers knows."
        ) from problem
    if missing := sorted(info["missing_keys"]):
        raise BadInput(
            f"The model in {folder} lacks {len(missing)} of its tensors, {missing[0]} first: "
            "copy all its .safetensors files."
        )
    if adapter is not None:
        model = _merge(model, adapter)
    model = model.to(device).eval()
    for parameter in model.parameters():
        # Not the buffers: in 16 bits, rotary frequencies turn distant tokens by another angle.
        parameter.data = parameter.data.to(dtype)
    if pack is not None:
        products.pack_linear_layers(model, pack)
    return model


def _weights_of(folder: Path) -> int:
    """Number of weights; 0 if a file is invalid, which `from_pretrained` explains."""
    try:
        return weights_of(folder)
    except BadInput:
        return 0


def _load_by_tensor(
    folder: Path,
    dtype: torch.dtype,
    pack: Callable[[Tensor, Tensor | None], nn.Module] | None,
) -> Any:
    """See `load_by_tensor`; None also for invalid files, which `from_pretrained` explains."""
    try:
        return load_by_tensor(folder, dtype, pack)
    except _LOAD_ERRORS:
        return None


def _merge(model: Any, adapter: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # peft uses deprecated names of transformers; there is nothing to do about it here.
            warnings.simplefilter("ignore", FutureWarning)
            return PeftModel.from_pretrained(
                model, adapter, local_files_only=True
            ).merge_and_unload()
    except _LOAD_ERRORS as problem:
        raise BadInput(
            f"The adapter in {adapter} does not fit the model ({first_line(problem)}): "
            "use it with the model that it was trained on."
        ) from problem


def _computes_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16, rather than emulating it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that a config in the folder, or the tokenizer, declares as an end token."""
    ends: set[int] = set()
    for declared in (
        getattr(model.generation_config, "eos_token_id", None),
        getattr(model.config.get_text_config(), "eos_token_id", None),
        tokenizer.eos_token_id,
    ):
        ends.update(_as_list(declared))
    return frozenset(ends)


def _as_list(token_ids: list[int] | int | None) -> list[int]:
    if token_ids is None:
        return []
    listed = token_ids if isinstance(token_ids, list) else [token_ids]
    if not all(isinstance(token, int) for token in listed):
        raise BadInput(
            f"The end token of the model is {str(token_ids)[:60]}, not a token id: fix "
            "eos_token_id in its config.json and generation_config.json."
        )
    return listed


def read_token_config(folder: Path, tokenizer: Any) -> tuple[frozenset[int], int]:
    """End tokens and vocabulary size of a folder, without loading its weights."""
    ends = {tokenizer.eos_token_id} - {None}
    vocabulary = len(tokenizer)
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        config = read_json_object(path) if path.exists() else {}
        for part in (config, config.get("text_config")):
            if isinstance(part, dict):
                ends.update(_as_list(part.get("eos_token_id")))
                vocabulary = max(vocabulary, whole_number(part.get("vocab_size")) or 0)
    return frozenset(ends), vocabulary


def token_bytes(tokenizer: Any, vocabulary: int) -> list[bytes]:
    """The bytes of each token; [vocabulary].

    Empty for special tokens, and for ids after the tokenizer's last one.
    """
    # Tokenizers without a backend are SentencePiece tokenizers.
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.loads(backend.to_str())["decoder"] if backend else None
    byte_level = '"ByteLevel"' in json.dumps(decoder)
    added, special = tokenizer.added_tokens_decoder, set(tokenizer.all_special_ids)
    pieces = [b""] * vocabulary
    for token, spelling in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        if token in special or spelling is None or (token in added and added[token].special):
            continue
        if token in added:
            pieces[token] = spelling.encode()
        elif byte_level and set(spelling) <= _BYTE_OF.keys():
            pieces[token] = bytes(_BYTE_OF[letter] for letter in spelling)
        elif re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", spelling):
            pieces[token] = bytes.fromhex(spelling[3:5])
        else:
            pieces[token] = spelling.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()
    return pieces


def _byte_letters() -> dict[str, int]:
    """The characters that byte-level BPE uses for bytes (GPT-2, Radford et al. 2019)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {chr(byte): byte for byte in shown}
    return letters | {chr(256 + i): byte for i, byte in enumerate(hidden)}


_BYTE_OF = _byte_letters()

"""Read a Hugging Face folder: weights, adapter, tokenizer, and what its tokens write.

Nothing is downloaded, and no code that a folder may bring is run.
"""

from __future__ import annotations

import json
import re
import warnings
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, AutoTokenizer

from engine.inference.chat_template import render_chat
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from engine.inference.backend import Message

SMALL = 50_000_000
"""Models with fewer weights compute in float32 everywhere: there is little to gain otherwise, and
the same paths come out on every machine."""
_LOADING = (
    *(OSError, ValueError, KeyError, TypeError, RuntimeError, AttributeError, ImportError),
    SafetensorError,
)
"""What transformers and peft raise for files that are not what they should be."""


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder.

    Raises:
        BadInput: it is missing or broken.
    """
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as problem:  # what reads tokenizer.json raises nothing narrower
        raise BadInput(
            f"The tokenizer in {folder} cannot be loaded ({_first_line(problem)}): "
            "copy the tokenizer files again."
        ) from problem


class Prompts:
    """How a tokenizer spells prompts."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._start = start_tokens(tokenizer)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text, with the model's own start token if its tokenizer adds one."""
        return self._start + self._encode(text, special=False)

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a chat up to where the assistant is to speak or to go on.

        Raises:
            BadInput: there is no chat template, or it refuses these messages.
        """
        if not self._tokenizer.chat_template:
            raise BadInput(
                "The model has no chat template: choose another prompt style, "
                "or give a model that was tuned for chats."
            )
        stretches = render_chat(
            self._tokenizer.get_chat_template(),
            messages,
            self._tokenizer.bos_token or "",
            self._tokenizer.eos_token or "",
            self._tokenizer.all_special_tokens,
        )
        return [token for text, meant in stretches for token in self._encode(text, meant)]

    def _encode(self, text: str, special: bool) -> list[int]:
        """Without start and end; a special token that is spelled is meant, or is plain text."""
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=not special)
        ids: list[int] = encoded.input_ids
        return ids


def load_model(folder: Path, adapter: Path | None, device: torch.device) -> Any:
    """A causal language model on its device, ready to compute.

    It computes in bfloat16 where the hardware does, unless it is `SMALL`; otherwise in float32.

    Args:
        folder: with config.json and safetensors.
        adapter: a PEFT folder, merged into the weights in float32; None for none.
        device: where to.

    Raises:
        BadInput: the folder is broken or of an unknown kind, or the adapter does not fit.
    """
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype="auto",
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except _LOADING as problem:
        raise BadInput(
            f"The model in {folder} cannot be loaded ({_first_line(problem)}): copy it again, "
            "or give a causal language model that transformers knows."
        ) from problem
    if missing := sorted(found["missing_keys"]):
        raise BadInput(
            f"The model in {folder} lacks {len(missing)} of its tensors, {missing[0]} first: "
            "copy all its .safetensors files."
        )
    if adapter is not None:
        model = _merge(model.float(), adapter)
    half = model.num_parameters() >= SMALL and _computes_bfloat16(device)
    return model.to(device, torch.bfloat16 if half else torch.float32).eval()


def _merge(model: Any, adapter: Path) -> Any:
    try:
        with warnings.catch_warnings():
            # peft asks transformers by old names; nobody here can do anything about it.
            warnings.simplefilter("ignore", FutureWarning)
            return PeftModel.from_pretrained(
                model, adapter, local_files_only=True
            ).merge_and_unload()
    except _LOADING as problem:
        raise BadInput(
            f"The adapter in {adapter} does not fit the model ({_first_line(problem)}): "
            "use it with the model that it was trained on."
        ) from problem


def _first_line(problem: Exception) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0][:160].rstrip(" .:") if lines else type(problem).__name__


def _computes_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is multiplied by the hardware, not imitated."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Every token that anything in the folder calls an end."""
    ends: set[int] = set()
    for said in (
        getattr(model.generation_config, "eos_token_id", None),
        getattr(model.config.get_text_config(), "eos_token_id", None),
        tokenizer.eos_token_id,
    ):
        ends.update(said if isinstance(said, list) else [] if said is None else [said])
    return frozenset(ends)


def said_in_folder(folder: Path, tokenizer: Any) -> tuple[frozenset[int], int]:
    """End tokens and size of the vocabulary of a folder whose weights are not loaded."""
    ends = {tokenizer.eos_token_id} - {None}
    vocabulary = len(tokenizer)
    for name in ("config.json", "generation_config.json"):
        path = folder / name
        said = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        for part in (said, said.get("text_config") or {}):
            end = part.get("eos_token_id")
            ends.update(end if isinstance(end, list) else [] if end is None else [end])
            vocabulary = max(vocabulary, part.get("vocab_size") or 0)
    return frozenset(ends), vocabulary


def start_tokens(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before every text (it may put something behind, too)."""
    bare = tokenizer("a", add_special_tokens=False).input_ids
    whole: list[int] = tokenizer("a").input_ids
    at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[:at]


def piece_bytes(tokenizer: Any, vocabulary: int) -> list[bytes]:
    """The bytes that each token writes; [vocabulary].

    Special tokens write nothing, nor do ids behind the tokenizer's last one.
    """
    # Tokenizers without a backend are those of SentencePiece.
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.loads(backend.to_str())["decoder"] if backend else None
    byte_level = '"ByteLevel"' in json.dumps(decoder)
    added, special = tokenizer.added_tokens_decoder, set(tokenizer.all_special_ids)
    pieces = [b""] * vocabulary
    for token, spelled in enumerate(tokenizer.convert_ids_to_tokens(range(len(tokenizer)))):
        if token in special or spelled is None or (token in added and added[token].special):
            continue
        if token in added:
            pieces[token] = spelled.encode()
        elif byte_level and set(spelled) <= _BYTE_OF.keys():
            pieces[token] = bytes(_BYTE_OF[letter] for letter in spelled)
        elif re.fullmatch(r"<0x[0-9A-Fa-f]{2}>", spelled):
            pieces[token] = bytes.fromhex(spelled[3:5])
        else:
            pieces[token] = spelled.replace("\N{LOWER ONE EIGHTH BLOCK}", " ").encode()
    return pieces


def _byte_letters() -> dict[str, int]:
    """The letters by which byte-level BPE spells bytes (GPT-2, Radford et al. 2019)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    letters = {chr(byte): byte for byte in shown}
    return letters | {chr(256 + i): byte for i, byte in enumerate(hidden)}


_BYTE_OF = _byte_letters()

"""Convert tokenizers between Hugging Face folders and the metadata of GGUF files.

Two kinds can be written: byte-level BPE with a pre-tokenizer that llama.cpp has a name for, and BPE
over characters with byte fallback, as converted from SentencePiece files.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from engine.models.chat_templates import choose_template
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from gguf import GGUFWriter
    from tokenizers import Tokenizer

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PRE_TOKENIZERS = {  # the pattern that splits text before the merges: llama.cpp's name of it
    _CONTRACTIONS + r"\p{N}" + _REST: "qwen2",
    _CONTRACTIONS + r"\p{N}{1,3}" + _REST: "llama-bpe",
}


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder, as transformers configures it.

    Raises:
        BadInput: there is no tokenizer, or it needs custom Python code.
    """
    tokenizer: Tokenizer = _load(folder).backend_tokenizer
    return tokenizer


def _load(folder: Path) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, OSError, KeyError) as error:
        line = (str(error).splitlines() or ["unknown error"])[0]
        raise BadInput(f"The tokenizer in {folder} cannot be loaded: {line}") from None
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise BadInput(f"{folder} has no tokenizer.json: save its tokenizer with transformers.")
    return tokenizer


def read_tokenizer(file: Path) -> Any:
    """The tokenizer of a GGUF file as transformers builds it, corrected.

    transformers ignores llama.cpp's pre-tokenizer and the normalization of Qwen's text, and its
    classes append special tokens of their own to the vocabulary.
    """
    from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    from engine.models.gguf_header import read_contents

    built = AutoTokenizer.from_pretrained(
        file.parent, gguf_file=file.name, local_files_only=True, trust_remote_code=False
    )
    values = read_contents(file).values
    state = json.loads(built.backend_tokenizer.to_str())
    vocabulary = state["model"]["vocab"]
    if isinstance(vocabulary, dict):  # a GGUF lists its special tokens among the others
        ids = set(vocabulary.values())
        state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] in ids]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    for rule, name in _PRE_TOKENIZERS.items():
        if name == values.get("tokenizer.ggml.pre"):
            tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(Regex(rule), "isolated"),
                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
                ]
            )
            tokenizer.normalizer = normalizers.NFC() if name == "qwen2" else None
    numbers = {
        f"{part}_token": values.get(f"tokenizer.ggml.{key}_token_id")
        for part, key in (("eos", "eos"), ("bos", "bos"), ("pad", "padding"), ("unk", "unknown"))
    }
    names = {
        name: tokenizer.id_to_token(number)
        for name, number in numbers.items()
        if number is not None
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=choose_template(read_contents(file).chat_templates) or None,
        clean_up_tokenization_spaces=False,
        **names,
    )


def write_tokenizer(writer: GGUFWriter, folder: Path, size: int) -> None:
    """Write tokens, merges or scores, special tokens and chat template.

    Args:
        writer: the file, before its header is written.
        folder: of the tokenizer.
        size: rows of the embedding; unused ids get placeholder tokens.

    Raises:
        BadInput: the tokenizer cannot be converted.
    """
    from gguf import TokenType

    loaded = _load(folder)
    tokenizer: Tokenizer = loaded.backend_tokenizer
    state = json.loads(tokenizer.to_str())
    model = state["model"]
    if model["type"] != "BPE":
        raise BadInput(
            f"{folder} has a {model['type']} tokenizer, and only BPE can be written as GGUF: "
            "convert it with llama.cpp's convert_hf_to_gguf.py."
        )
    tokens = [f"[PAD{number}]" for number in range(size)]
    kinds = [TokenType.UNUSED] * size
    named = {token["content"]: token["id"] for token in state["added_tokens"]}
    if max([*model["vocab"].values(), *named.values()]) >= size:
        raise BadInput(f"{folder} has more tokens than the {size} rows of its embedding.")
    for text, number in model["vocab"].items():
        byte = model.get("byte_fallback") and len(text) == 6 and text.startswith("<0x")
        tokens[number] = text
        kinds[number] = TokenType.BYTE if byte else TokenType.NORMAL
    for token in state["added_tokens"]:
        tokens[token["id"]] = token["content"]
        kinds[token["id"]] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    # A merge is a pair, or a text with a space in older files.
    merges = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
    if model.get("byte_fallback"):
        unknown = model["vocab"].get(model.get("unk_token"))
        if unknown is not None:
            kinds[unknown] = TokenType.UNKNOWN
            writer.add_unk_token_id(unknown)
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        writer.add_token_scores(_scores(tokens, merges))
        writer.add_add_space_prefix(_prepends_space(state))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_pre_tokenizer(folder, state))
        writer.add_token_merges([" ".join(pair) for pair in merges])
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    _write_ends(writer, folder, loaded)
    template = choose_template(loaded.chat_template)
    if template:
        writer.add_chat_template(template)


def _scores(tokens: list[str], merges: list[list[str]]) -> list[float]:
    """The earlier a token's first merge, the higher its score; other tokens are never merged."""
    ranks: dict[str, int] = {}
    for rank, pair in enumerate(merges):
        ranks.setdefault("".join(pair), rank)
    return [-float(ranks.get(token, len(merges))) for token in tokens]


def _parts(state: dict[str, Any], step: str) -> list[dict[str, Any]]:
    """The individual normalizers or pre-tokenizers of a tokenizer."""
    outer = state[step]
    if outer is None:
        return []
    inner: list[dict[str, Any]] = outer.get("normalizers") or outer.get("pretokenizers") or [outer]
    return inner


def _prepends_space(state: dict[str, Any]) -> bool:
    return any(part["type"] == "Prepend" for part in _parts(state, "normalizer")) or any(
        part["type"] == "Metaspace" and part.get("prepend_scheme") in ("always", "first")
        for part in _parts(state, "pre_tokenizer")
    )


def _pre_tokenizer(folder: Path, state: dict[str, Any]) -> str:
    parts = _parts(state, "pre_tokenizer")
    kinds = [part["type"] for part in parts]
    if kinds == ["ByteLevel"] and parts[0].get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and parts[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"]:
        rule = _PRE_TOKENIZERS.get(parts[0]["pattern"].get("Regex", ""))
        if rule:
            return rule
    raise BadInput(
        f"{folder} has a pre-tokenizer that llama.cpp has no name for: "
        "convert it with llama.cpp's convert_hf_to_gguf.py."
    )


def _write_ends(writer: GGUFWriter, folder: Path, loaded: Any) -> None:
    """The special tokens, and which of them are added around a text."""
    if loaded.eos_token_id is None:
        raise BadInput(f"{folder} has no end token (eos_token), so no path could end.")
    writer.add_eos_token_id(loaded.eos_token_id)
    if loaded.bos_token_id is not None:
        writer.add_bos_token_id(loaded.bos_token_id)
    if loaded.pad_token_id is not None:
        writer.add_pad_token_id(loaded.pad_token_id)
    around = loaded.backend_tokenizer.encode("").ids
    writer.add_add_bos_token(
        loaded.bos_token_id is not None and around[:1] == [loaded.bos_token_id]
    )
    # A token that is both start and end is added before the text.
    writer.add_add_eos_token(len(around) > 1 and around[-1] == loaded.eos_token_id)

"""Write the tokenizer of a Hugging Face folder as metadata of a GGUF file.

Two kinds can be written: byte-level BPE with a pre-tokenizer that llama.cpp has a name for, and BPE
over characters with byte fallback, as converted from SentencePiece files.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from engine.models.chat_templates import choose_template
from engine.models.folder_tokenizer import load_tokenizer
from engine.models.json_file import read_json_object
from engine.models.pre_tokenizers import FIRST_SPACE, PROBES, RULES
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Container, Iterable
    from pathlib import Path

    from gguf import GGUFWriter
    from tokenizers import Tokenizer
    from tokenizers.pre_tokenizers import PreTokenizer


def model_name(folder: Path) -> str:
    """The name of a folder's model, from which llama.cpp knows how its special tokens are matched.

    In a file whose name has Phi-3 in it, and in no other, special tokens take along the spaces and
    line ends after them.

    Args:
        folder: with a tokenizer that `write_tokenizer` accepts.
    """
    name = folder.resolve().name
    state = read_json_object(folder / "tokenizer.json")
    tokens = {token["content"]: token for token in state.get("added_tokens") or []}
    known = {*tokens, *state["model"]["vocab"]} >= {"<s>", "</s>", "<unk>", "<|endoftext|>"}
    strips = known and any(token["special"] and token["rstrip"] for token in tokens.values())
    named = re.search("phi-?3", name, re.IGNORECASE) is not None
    if strips is named:
        return name
    return f"Phi-3 {name}" if strips else re.sub("phi-?3", "Phi", name, flags=re.IGNORECASE)


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

    loaded = load_tokenizer(folder)
    if not hasattr(loaded, "backend_tokenizer"):
        raise BadInput(f"{folder} has no tokenizer.json: save its tokenizer with transformers.")
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
        raise BadInput(
            f"{folder} has more tokens than the {size} rows of its embedding: copy its tokenizer "
            "and config.json again."
        )
    for text, number in model["vocab"].items():
        byte = model.get("byte_fallback") and len(text) == 6 and text.startswith("<0x")
        tokens[number] = text
        kinds[number] = TokenType.BYTE if byte else TokenType.NORMAL
    for token in state["added_tokens"]:
        tokens[token["id"]] = token["content"]
        kinds[token["id"]] = TokenType.CONTROL if token["special"] else TokenType.USER_DEFINED
    merges = _merges(model)
    if model.get("byte_fallback"):
        writer.add_tokenizer_model("llama")
        writer.add_tokenizer_pre("default")
        _check_merges(folder, model["vocab"].keys() - named.keys(), model["vocab"], merges)
        writer.add_token_scores(_scores(tokens, merges))
        if loaded.chat_template and _scheme(state) == "first":
            writer.add_add_space_prefix(False)
            writer.add_bool(FIRST_SPACE, True)
        else:
            writer.add_add_space_prefix(_prepends_space(state))
    else:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(_rule_name(folder, tokenizer, state))
        writer.add_token_merges([" ".join(pair) for pair in merges])
    if loaded.unk_token_id is not None:
        writer.add_unk_token_id(loaded.unk_token_id)
        if model.get("byte_fallback"):
            kinds[loaded.unk_token_id] = TokenType.UNKNOWN
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    _write_ends(writer, folder, loaded)
    template = choose_template(loaded.chat_template)
    if template:
        writer.add_chat_template(template)


def _merges(model: dict[str, Any]) -> list[tuple[str, str]]:
    """The merges as pairs; in older files, one is a text with a space."""
    pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
    return [(left, right) for left, right in pairs]


def _check_merges(
    folder: Path, tokens: Iterable[str], vocabulary: Container[str], merges: list[tuple[str, str]]
) -> None:
    """Refuse merges of characters that llama.cpp, which merges any two parts of a token, adds to.

    Raises:
        BadInput: a token can be divided in a way that is no merge.
    """
    known = set(merges)
    for token in tokens:
        for at in range(1, len(token)):
            pair = token[:at], token[at:]
            if pair not in known and all(part in vocabulary for part in pair):
                raise BadInput(
                    f"{folder} does not merge {pair[0]!r} and {pair[1]!r}, as llama.cpp would: "
                    "use this model with the transformers engine."
                )


def _scores(tokens: list[str], merges: list[tuple[str, str]]) -> list[float]:
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
    prepends = any(part["type"] == "Prepend" for part in _parts(state, "normalizer"))
    return prepends or _scheme(state) in ("always", "first")


def _scheme(state: dict[str, Any]) -> str | None:
    """Where a pre-tokenizer of the type Metaspace adds a space; None without one."""
    parts = [part for part in _parts(state, "pre_tokenizer") if part["type"] == "Metaspace"]
    return parts[0].get("prepend_scheme", "always") if parts else None


def _rule_name(folder: Path, tokenizer: Tokenizer, state: dict[str, Any]) -> str:
    """The name of the rule that splits texts as the tokenizer does, or nearly so.

    Raises:
        BadInput: there is none.
    """
    whole_first = bool(state["model"].get("ignore_merges"))
    pieces = _pieces(tokenizer.pre_tokenizer)
    splits = {name: _pieces(rule.pre_tokenizer()) for name, rule in RULES.items()}
    names = [name for name, split in splits.items() if split == pieces]
    if not names:
        # The last probe has combining marks and a capital that is not ASCII, where llama.cpp only
        # approximates some rules.
        names = [name for name, split in splits.items() if split[:-1] == pieces[:-1]]
    names.sort(key=lambda name: RULES[name].ignore_merges is not whole_first)
    if names and (RULES[names[0]].ignore_merges is whole_first or _merges_all(state)):
        return names[0]
    raise BadInput(
        f"{folder} splits text by a rule that llama.cpp has no name for: "
        "use this model with the transformers engine."
    )


def _pieces(rule: PreTokenizer | None) -> list[list[tuple[int, int]]]:
    """Where a rule divides the probe texts: start and end of each piece, in characters."""
    if rule is None:
        return [[(0, len(text))] for text in PROBES]
    return [[place for _, place in rule.pre_tokenize_str(text)] for text in PROBES]


def _merges_all(state: dict[str, Any]) -> bool:
    """Whether merges make every token, so that it does not matter if whole tokens come first."""
    from tokenizers import models

    vocabulary = state["model"]["vocab"]
    model = models.BPE(vocab=vocabulary, merges=_merges(state["model"]))
    named = {token["content"] for token in state["added_tokens"]}
    return all(
        [token.id for token in model.tokenize(text)] == [number]
        for text, number in vocabulary.items()
        if text not in named
    )


def _write_ends(writer: GGUFWriter, folder: Path, loaded: Any) -> None:
    """The special tokens, and which of them are added around a text."""
    if loaded.eos_token_id is None:
        raise BadInput(
            f"{folder} has no end token, so no path could end: set eos_token in its "
            "tokenizer_config.json."
        )
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

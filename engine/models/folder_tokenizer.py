"""Load the tokenizer of a Hugging Face folder, for sampling, training and conversion.

Nothing is downloaded, and no code in the folder is run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from engine.models.json_file import read_json_object
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

MOST_TOKENS = 2**24
"""Bound of token ids; the largest vocabularies have 2**18."""


def load_tokenizer(folder: Path) -> Any:
    """The tokenizer of a folder, as its tokenizer.json defines it.

    Raises:
        BadInput: it is missing or invalid, or needs Python code of its own.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    file = folder / "tokenizer.json"
    if file.exists():
        _check_ids(file)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        if file.exists() and type(tokenizer) is not PreTrainedTokenizerFast:
            tokenizer = _as_in_file(folder, tokenizer)
        tokenizer("a")  # some errors show only in use
        return tokenizer
    except Exception as problem:  # the reader of tokenizer.json raises nothing narrower
        raise BadInput(
            f"The tokenizer in {folder} cannot be loaded ({first_line(problem)}): "
            "copy the tokenizer files again."
        ) from problem


def _as_in_file(folder: Path, built: Any) -> Any:
    """The tokenizer of tokenizer.json, with the special tokens that transformers' class names.

    The classes take tokens and merges from the file, but build normalizer and pre-tokenizer
    themselves. For Llama 2, `LlamaTokenizer` adds no space after a special token or before a text
    that begins with one; for SmolLM 2, `GPT2Tokenizer` does not split digits.

    Args:
        folder: with the file.
        built: the same tokenizer, of a class of transformers.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    vocabulary = tokenizer.get_vocab()
    for name, token in built.special_tokens_map.items():
        if getattr(tokenizer, name, token) is None and token in vocabulary:
            setattr(tokenizer, name, token)
    return tokenizer


def _check_ids(file: Path) -> None:
    """Refuse ids for which the tokenizers package would take all memory and abort the process.

    Raises:
        BadInput: the file is not a tokenizer, or an id is impossible.
    """
    state = read_json_object(file)
    model, added = state.get("model"), state.get("added_tokens") or []
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    ids = list(vocabulary.values()) if isinstance(vocabulary, dict) else []
    if isinstance(added, list):
        ids += [token.get("id") for token in added if isinstance(token, dict)]
    if not all(isinstance(number, int) and 0 <= number < MOST_TOKENS for number in ids):
        raise BadInput(f"{file} has a token whose id is not a small number: copy it again.")


def first_line(problem: Exception) -> str:
    """The first line of an exception's message, shortened, to be quoted in a sentence."""
    if "trust_remote_code" in str(problem):
        return "it needs Python code of its own, and such code is never run"
    lines = str(problem).strip().splitlines()
    return lines[0][:160].rstrip(" .:") if lines else type(problem).__name__

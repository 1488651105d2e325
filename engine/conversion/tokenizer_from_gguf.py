"""The tokenizer of a GGUF file for transformers: the same ids as llama.cpp, for any text.

It is built from what llama.cpp has read from the file, not by transformers, which ignores the
file's rule for splitting texts and whose classes add special tokens of their own. Two kinds can be
built: byte-level BPE (`gpt2` in the file), and BPE over characters with byte tokens for those that
are missing (`llama`: SentencePiece).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import llama_cpp as native

from engine.inference.llama.vocabulary import Token, read_vocabulary
from engine.models.chat_templates import choose_template
from engine.models.gguf_header import read_contents, read_strings
from engine.models.pre_tokenizers import FIRST_SPACE, NFC, RULES, WITHOUT_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

_SPECIAL = native.LLAMA_TOKEN_ATTR_CONTROL | native.LLAMA_TOKEN_ATTR_UNKNOWN
_MATCHED = _SPECIAL | native.LLAMA_TOKEN_ATTR_USER_DEFINED
_NAMES = {"eos": "eos", "bos": "bos", "pad": "padding", "unk": "unknown"}
_SPACE = "\N{LOWER ONE EIGHTH BLOCK}"


def read_tokenizer(file: Path) -> Any:
    """The tokenizer of a GGUF file, as a `PreTrainedTokenizerFast`.

    Raises:
        BadInput: the file is damaged.
        ValueError: its tokenizer is of a kind or has a rule that cannot be expressed exactly; the
            message is a clause that says why.
    """
    from tokenizers import AddedToken
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    contents = read_contents(file)
    values = contents.values
    kind = values.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise ValueError(
            f"its tokenizer is of the kind {kind}, and only gpt2 and llama can be converted"
        )
    rule = values.get("tokenizer.ggml.pre") or "default"
    if kind == "gpt2" and rule not in RULES:
        how = "merges characters instead of bytes" if rule in WITHOUT_BYTES else "is unknown"
        raise ValueError(f"its tokenizer splits text by the rule {rule}, which {how}")
    with read_vocabulary(file) as vocabulary:
        tokens, start = vocabulary.tokens(), vocabulary.start
    if len({token.text for token in tokens}) < len(tokens):
        raise ValueError("it has tokens that are not UTF-8")
    if kind == "gpt2":
        tokenizer = _byte_level(file, tokens, rule)
    else:
        prefixed = values.get("tokenizer.ggml.add_space_prefix", True)
        tokenizer = _sentencepiece(tokens, prefixed=prefixed)
        if values.get(FIRST_SPACE):
            _add_first_space(tokenizer)
    is_normalized = tokenizer.normalizer is not None and kind == "gpt2"
    tokenizer.add_tokens(
        [
            AddedToken(
                token.text,
                special=bool(token.attributes & _SPECIAL),
                normalized=is_normalized,
                lstrip=bool(token.attributes & native.LLAMA_TOKEN_ATTR_LSTRIP),
                rstrip=bool(token.attributes & native.LLAMA_TOKEN_ATTR_RSTRIP),
            )
            for token in tokens
            if token.attributes & _MATCHED
        ]
    )
    if start:
        name = tokens[start[0]].text
        tokenizer.post_processor = TemplateProcessing(
            single=[name, "$A"], pair=[name, "$A", name, "$B:1"], special_tokens=[(name, start[0])]
        )
    named = {
        f"{name}_token": tokens[number].text
        for name, key in _NAMES.items()
        if isinstance(number := values.get(f"tokenizer.ggml.{key}_token_id"), int)
        and number < len(tokens)
        and (name == "eos" or tokens[number].attributes & _SPECIAL)
    }
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        chat_template=choose_template(contents.chat_templates) or None,
        clean_up_tokenization_spaces=False,
        **named,
    )


def _byte_level(file: Path, tokens: Sequence[Token], name: str) -> Tokenizer:
    """Byte-level BPE, with the merges and the rule of the file."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = {token.text: number for number, token in enumerate(tokens)}
    texts = read_strings(file, "tokenizer.ggml.merges")
    splits = [(text, text.find(" ", 1)) for text in texts]
    # Of a pair that occurs twice, the first counts.
    merges = list(dict.fromkeys((text[:at], text[at + 1 :]) for text, at in splits if at > 0))
    broken = [
        pair for pair in merges if any(text not in vocabulary for text in (*pair, "".join(pair)))
    ]
    if broken:
        raise ValueError(f"its tokenizer merges {broken[0]} to a text that is no token")
    rule = RULES[name]
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, ignore_merges=rule.ignore_merges)
    )
    steps = [rule.pre_tokenizer()]
    missing = "".join(
        letter for letter in pre_tokenizers.ByteLevel.alphabet() if letter not in vocabulary
    )
    if missing:  # llama.cpp skips a byte that is no token, and merges nothing across it
        letters = "".join(rf"\x{{{ord(letter):X}}}" for letter in sorted(missing))
        steps.append(pre_tokenizers.Split(Regex(f"[{letters}]"), "removed"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.normalizer = normalizers.NFC() if name in NFC else None
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _add_first_space(tokenizer: Tokenizer) -> None:
    """Let a tokenizer add a space before a text, but not after a special token."""
    from tokenizers import decoders, pre_tokenizers

    tokenizer.normalizer = None
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, prepend_scheme="first", split=False)
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)])


def _sentencepiece(tokens: Sequence[Token], *, prefixed: bool) -> Tokenizer:
    """BPE over characters, in which the text of a token with a higher score is merged first."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocabulary = {token.text: number for number, token in enumerate(tokens)}
    if not all(f"<0x{byte:02X}>" in vocabulary for byte in range(256)):
        raise ValueError("its tokenizer has no tokens for some bytes")
    merges: list[tuple[float, bool, int, str, str]] = []
    scores: list[float] = []
    for token in tokens:
        before = len(merges)
        text, is_text = token.text, bool(token.attributes & native.LLAMA_TOKEN_ATTR_NORMAL)
        for at in range(1, len(text)):
            left, right = text[:at], text[at:]
            missing = {part for part in (left, right) if part not in vocabulary}
            if missing and is_text and all(len(part) == 1 for part in missing):
                # llama.cpp merges a character even if it is no token by itself.
                raise ValueError(f"its token {text!r} has a character that is no token")
            if not missing:
                # Of two overlapping ways to the same token, the one on the left is taken: its
                # right part is also how the token starts.
                merges.append((-token.score, not text.startswith(right), -at, left, right))
        if is_text and len(merges) > before:
            scores.append(token.score)
    if len(set(scores)) < len(scores):  # llama.cpp then takes the merge on the left
        raise ValueError("its tokenizer has the same score for several tokens")
    merges.sort(key=lambda merge: merge[:3])
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=[merge[3:] for merge in merges], byte_fallback=True)
    )
    spaces = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = (
        normalizers.Sequence([normalizers.Prepend(_SPACE), spaces]) if prefixed else spaces
    )
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        [*steps, decoders.Strip(" ", 1, 0)] if prefixed else steps
    )
    return tokenizer

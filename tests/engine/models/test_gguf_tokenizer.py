"""Tokenizers of Hugging Face folders as GGUF: llama.cpp gives the ids of the folder."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from engine.conversion.tokenizer_from_gguf import read_tokenizer
from engine.inference.hf.prompt_tokenizer import PromptTokenizer, load_tokenizer
from engine.inference.llama.vocabulary import read_vocabulary
from engine.models.gguf_header import read_contents
from engine.models.gguf_tokenizer import write_tokenizer
from store.errors import BadInput
from tests.engine.gguf_vocabulary import unsplit_tokenizer, vocabulary_file
from tests.engine.texts import SAMPLES, texts

if TYPE_CHECKING:
    from pathlib import Path

_START = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_TEKKEN = (
    rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
APPROXIMATED = re.compile("[\u017f\ua7cb\U00010d40]")
"""A letter that is an S if case is ignored, and letters since Unicode 16: not to llama.cpp."""


def split(pattern: str) -> Any:
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), bytes_])


def byte_level(folder: Path, rule: Any, **changes: Any) -> Path:
    """A byte-level tokenizer that splits by `rule` and whose merges cross every boundary."""
    state = json.loads(unsplit_tokenizer().to_str())
    state["model"] |= changes
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.pre_tokenizer = rule
    tokenizer.decoder = decoders.ByteLevel()
    return save(folder, tokenizer)


def save(folder: Path, tokenizer: Tokenizer, **tokens: str) -> Path:
    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    saved = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|fin|>", **tokens)  # noqa: S106
    saved.save_pretrained(folder)
    return folder


def write(folder: Path) -> Path:
    """The folder's tokenizer in a GGUF file without weights."""
    file = folder / "model.gguf"
    with vocabulary_file(file) as writer:
        write_tokenizer(writer, folder, len(load_tokenizer(folder)) + 5)
    return file


def check(folder: Path, *, spaces: bool = True) -> str:
    """Compare ids, also with the tokenizer that is read from the file; returns the rule's name.

    Args:
        folder: with a tokenizer.
        spaces: whether texts are compared that begin with a space or have added tokens.
    """
    file = write(folder)
    given, read = (PromptTokenizer(one) for one in (load_tokenizer(folder), read_tokenizer(file)))
    with read_vocabulary(file) as vocabulary:
        for text in [text for text in SAMPLES if not APPROXIMATED.search(text)]:
            if not spaces and (text.startswith((" ", "▁")) or "<tool>" in text):
                continue
            assert given.tokenize(text) == read.tokenize(text) == vocabulary.plain(text)
            if spaces and "</s>" not in text:  # special to llama.cpp, by its name
                ids = vocabulary.tokenize(text, special=True)
                assert given.encode(text, special=True) == read.encode(text, special=True) == ids
    return str(read_contents(file).values["tokenizer.ggml.pre"])


@pytest.mark.parametrize(
    ("rule", "changes", "name"),
    [
        (split(_START + r"\p{N}{1,3}" + _REST), {"ignore_merges": True}, "llama-bpe"),
        (split(_START + r"\p{N}{1,3}" + _REST), {}, "dbrx"),
        (pre_tokenizers.ByteLevel(add_prefix_space=False), {}, "gpt-2"),
        (
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Digits(individual_digits=True),
                    pre_tokenizers.ByteLevel(add_prefix_space=False),
                ]
            ),
            {},
            "smollm",
        ),
    ],
    ids=["llama 3", "dbrx", "gpt 2", "smollm"],
)
def test_a_byte_level_tokenizer_gets_the_name_of_its_rule(
    tmp_path: Path, rule: Any, changes: dict[str, Any], name: str
) -> None:
    assert check(byte_level(tmp_path, rule, **changes)) == name


def test_a_rule_that_llama_cpp_only_approximates_is_refused(tmp_path: Path) -> None:
    folder = byte_level(tmp_path, split(_TEKKEN), ignore_merges=True)
    with pytest.raises(BadInput, match=r"tekken, .* combining marks"):
        write(folder)


def test_a_rule_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no name for"):
        write(byte_level(tmp_path, split("[aeiou]+")))


def sentencepiece(folder: Path, family: str, *, complete: bool = True) -> Path:
    trained = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=1000, show_progress=False)
    trained.train_from_iterator([text.replace(" ", "▁") for text in texts(3, 500)], trainer)
    vocabulary = trained.get_vocab()
    learned = sorted(vocabulary, key=vocabulary.__getitem__)
    first = ["<unk>", "<s>", "<|fin|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    merges = [  # all ways to a token, as for those that are made from SentencePiece files
        (token[:at], token[at:])
        for token in learned
        for at in range(1, len(token))
        if token[:at] in vocabulary and token[at:] in vocabulary
    ]
    if not complete:
        merges = merges[::2]
    ids = {token: number for number, token in enumerate(dict.fromkeys([*first, *learned]))}
    tokenizer = Tokenizer(
        models.BPE(vocab=ids, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True)  # noqa: S106
    )
    spaces = normalizers.Replace(" ", "▁")
    if family == "llama 2":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), spaces])
    elif family == "mistral":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = spaces
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        space = "▁" if "merges" in family else " "
        runs = [space * n for n in range(2, 6) if space == " " or space * n in ids]
        added = ["\n", "\n\n", *runs]
        tokenizer.add_tokens([AddedToken(run, normalized=False) for run in added])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return save(folder, tokenizer, bos_token="<s>", unk_token="<unk>")  # noqa: S106


@pytest.mark.parametrize("family", ["llama 2", "mistral", "gemma", "gemma, spaces by merges"])
def test_a_sentencepiece_tokenizer_is_written_with_its_spaces(tmp_path: Path, family: str) -> None:
    check(sentencepiece(tmp_path, family), spaces=family != "mistral")


def test_characters_with_too_few_merges_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="does not merge"):
        write(sentencepiece(tmp_path, "gemma", complete=False))

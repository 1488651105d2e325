"""Folders with small tokenizers of the kinds that model families have."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

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

from tests.engine.gguf_vocabulary import unsplit_tokenizer
from tests.engine.texts import texts

if TYPE_CHECKING:
    from pathlib import Path

END = "<|fin|>"
LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _cased(digits: str, ending: str) -> str:
    start = r"[^\r\n\p{L}\p{N}]?"
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    words = rf"{start}{upper}*{lower}+{ending}|{start}{upper}+{lower}*{ending}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


TEKKEN = _cased(r"\p{N}", "")
"""The rule of Mistral Nemo."""
GPT_4O = _cased(r"\p{N}{1,3}", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?")
"""The rule of Phi 4 mini."""


def split(pattern: str) -> Any:
    """A byte-level pre-tokenizer that splits by a pattern."""
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), bytes_])


def byte_level(folder: Path, rule: Any, **changes: Any) -> Path:
    """A byte-level tokenizer that splits by `rule` and whose merges cross every boundary."""
    state = json.loads(unsplit_tokenizer().to_str())
    state["model"] |= changes
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.pre_tokenizer = rule
    tokenizer.decoder = decoders.ByteLevel()
    return _save(folder, tokenizer)


def sentencepiece(
    folder: Path, family: str, *, complete: bool = True, template: str | None = None
) -> Path:
    """A tokenizer with merges of characters, as converted from a SentencePiece file.

    Args:
        folder: to write it to.
        family: `llama 2`, `mistral`, `gemma` or `gemma, spaces by merges`: how it treats spaces.
        complete: with all ways to merge a token.
        template: of chats.
    """
    trained = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=1000, show_progress=False)
    trained.train_from_iterator([text.replace(" ", "▁") for text in texts(3, 500)], trainer)
    vocabulary = trained.get_vocab()
    learned = sorted(vocabulary, key=vocabulary.__getitem__)
    first = ["<unk>", "<s>", END, *(f"<0x{byte:02X}>" for byte in range(256))]
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
    return _save(folder, tokenizer, template, bos_token="<s>", unk_token="<unk>")  # noqa: S106


def phi_3(folder: Path) -> Path:
    """A tokenizer whose special tokens take along the line end after them."""
    turn = "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n"
    template = f"{{% for m in messages %}}{turn}{{% endfor %}}<|assistant|>\n"
    sentencepiece(folder, "llama 2", template=template)
    file = folder / "tokenizer.json"
    state = json.loads(file.read_text())
    used = [*state["model"]["vocab"].values(), *(token["id"] for token in state["added_tokens"])]
    names = ("</s>", "<|endoftext|>", "<|user|>", "<|assistant|>", "<|system|>", "<|end|>")
    for number, text in enumerate(names, max(used) + 1):
        token = {"id": number, "content": text, "special": True, "rstrip": text != "<|endoftext|>"}
        same = {"lstrip": False, "single_word": False, "normalized": False}
        state["added_tokens"].append(token | same)
    file.write_text(json.dumps(state))
    return folder


def _save(folder: Path, tokenizer: Tokenizer, template: str | None = None, **tokens: str) -> Path:
    from transformers import PreTrainedTokenizerFast

    tokenizer.add_tokens([AddedToken("<tool>", normalized=False)])
    saved = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END, chat_template=template, **tokens
    )
    saved.save_pretrained(folder)
    return folder


def name_class(folder: Path, name: str, **values: Any) -> Path:
    """Let a folder's tokenizer_config.json name a class of transformers, as Hub folders do."""
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text()) | {"tokenizer_class": name} | values
    file.write_text(json.dumps(config))
    return folder

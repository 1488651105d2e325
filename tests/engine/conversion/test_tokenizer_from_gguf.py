"""Tokenizers of GGUF files: their ids are those of llama.cpp, whatever the rule and the text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from gguf import TokenType
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, trainers

from engine.conversion.tokenizer_from_gguf import read_tokenizer
from engine.inference.hf.prompt_tokenizer import PromptTokenizer
from engine.inference.llama.vocabulary import read_vocabulary
from engine.models.pre_tokenizers import PROBES, RULES, WITHOUT_BYTES
from tests.engine.gguf_vocabulary import unsplit_tokenizer, vocabulary_file
from tests.engine.texts import SAMPLES, texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


@pytest.fixture(scope="module")
def merged() -> tuple[list[str], list[str]]:
    """Tokens and merges that cross every boundary."""
    model = json.loads(unsplit_tokenizer().to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    return tokens, [" ".join(pair) for pair in model["merges"]]


def write(
    file: Path, kind: str, tokens: Sequence[str], types: Sequence[int], **values: Any
) -> Path:
    """A GGUF file without weights."""
    with vocabulary_file(file) as writer:
        writer.add_tokenizer_model(kind)
        writer.add_token_list(tokens)
        writer.add_token_types(types)
        for name, value in values.items():
            getattr(writer, f"add_{name}")(value)
    return file


def byte_level(file: Path, merged: tuple[list[str], list[str]], rule: str, **values: Any) -> Path:
    tokens, merges = merged
    added = [token for token in ("<|fin|>", "<tool>") if token not in tokens]
    kinds = {"<|fin|>": TokenType.CONTROL, "<tool>": TokenType.USER_DEFINED}
    types = [kinds.get(token, TokenType.NORMAL) for token in [*tokens, *added]]
    end = [*tokens, *added].index("<|fin|>")
    settings = {"tokenizer_pre": rule, "token_merges": merges, "eos_token_id": end, **values}
    settings = {name: value for name, value in settings.items() if value is not None}
    return write(file, "gpt2", [*tokens, *added], types, **settings)


def check(file: Path, samples: Iterable[str]) -> None:
    tokenizer = PromptTokenizer(read_tokenizer(file))
    with read_vocabulary(file) as vocabulary:
        for text in samples:
            assert tokenizer.tokenize(text) == vocabulary.plain(text)
            for special in (False, True):
                ids = vocabulary.tokenize(text, special=special)
                assert tokenizer.encode(text, special=special) == ids


DIFFERENT = {rule: name for name, rule in reversed(RULES.items())}


@pytest.mark.parametrize("name", DIFFERENT.values())
def test_a_text_is_split_as_llama_cpp_does_by_each_rule(
    name: str, merged: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    check(byte_level(tmp_path / "model.gguf", merged, name), SAMPLES)


def test_a_wrong_rule_gives_other_ids(merged: tuple[list[str], list[str]], tmp_path: Path) -> None:
    ids = set()
    for name in ("gpt-2", "smollm", "llama-bpe", "qwen2"):
        with read_vocabulary(byte_level(tmp_path / "model.gguf", merged, name)) as vocabulary:
            ids.add(tuple(tuple(vocabulary.tokenize(text)) for text in SAMPLES))
    assert len(ids) == 4


def test_the_probes_tell_the_rules_apart() -> None:
    same = {frozenset(rule.patterns) for rule in (RULES["qwen2"], RULES["bailingmoe"])}
    splits = {
        rule.patterns: json.dumps([rule.pre_tokenizer().pre_tokenize_str(text) for text in PROBES])
        for rule in DIFFERENT
    }
    assert len(set(splits.values())) == len(splits) - (len(same) - 1)


@settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(samples=st.lists(st.text(st.characters(codec="utf-8"), max_size=40), max_size=20))
def test_any_text_has_the_ids_of_llama_cpp(
    samples: list[str], readers: list[tuple[PromptTokenizer, Any]]
) -> None:
    for tokenizer, vocabulary in readers:
        for text in samples:
            assert tokenizer.encode(text) == vocabulary.tokenize(text)


@pytest.fixture(scope="module")
def readers(merged: tuple[list[str], list[str]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    from contextlib import ExitStack

    folder = tmp_path_factory.mktemp("readers")
    with ExitStack() as stack:
        files = [
            byte_level(folder / f"{name}.gguf", merged, name)
            for name in ("llama-bpe", "smollm", "tekken", "gpt-4o", "deepseek-v3")
        ]
        files.append(sentencepiece(folder / "gemma.gguf"))
        yield [
            (PromptTokenizer(read_tokenizer(file)), stack.enter_context(read_vocabulary(file)))
            for file in files
        ]


def test_a_file_without_a_rule_is_split_by_the_default_one(
    merged: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    check(byte_level(tmp_path / "model.gguf", merged, None), SAMPLES)  # type: ignore[arg-type]


def test_bytes_without_a_token_are_skipped(
    merged: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    tokens, merges = merged
    without = [token for token in tokens if "½"[0] not in token and "Ã" not in token]
    known = set(without)
    kept = [pair for pair in merges if {*pair.split(), pair.replace(" ", "")} <= known]
    check(byte_level(tmp_path / "model.gguf", (without, kept), "smollm"), SAMPLES)


def test_a_start_token_is_added_as_llama_cpp_does(
    merged: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    for start in (True, False):
        number = len(merged[0])
        file = byte_level(
            tmp_path / "model.gguf", merged, "qwen2", bos_token_id=number, add_bos_token=start
        )
        check(file, SAMPLES[:3])
        assert (PromptTokenizer(read_tokenizer(file)).start_text != "") is start


@pytest.mark.parametrize("rule", [*WITHOUT_BYTES, "unheard-of"])
def test_a_rule_that_cannot_be_expressed_is_named(
    rule: str, merged: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=f"the rule {rule}, which"):
        read_tokenizer(byte_level(tmp_path / "model.gguf", merged, rule))


def test_merges_to_no_token_and_other_kinds_are_refused(
    merged: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    tokens, merges = merged
    with pytest.raises(ValueError, match="a text that is no token"):
        read_tokenizer(byte_level(tmp_path / "model.gguf", (tokens, [*merges, "Ł ł"]), "qwen2"))
    with pytest.raises(ValueError, match="of the kind bert"):
        read_tokenizer(write(tmp_path / "model.gguf", "bert", ["a"], [TokenType.NORMAL]))


# SentencePiece.


def sentencepiece(file: Path, *, prefix: bool = False, spaces: bool = True) -> Path:
    """A vocabulary as that of Gemma: runs of spaces and of line ends are tokens in the text."""
    tokenizer = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=1200, show_progress=False)
    tokenizer.train_from_iterator([text.replace(" ", "▁") for text in texts(3, 600)], trainer)
    learned = tokenizer.get_vocab()
    tokens = dict.fromkeys(("<pad>", "<eos>", "<bos>", "<|fin|>"), TokenType.CONTROL)
    tokens["<unk>"] = TokenType.UNKNOWN
    tokens |= {f"<0x{byte:02X}>": TokenType.BYTE for byte in range(256)}
    defined = ["<tool>", "\n", "\n\n", *([" " * n for n in range(2, 8)] if spaces else [])]
    tokens |= dict.fromkeys(defined, TokenType.USER_DEFINED)
    first = len(tokens)
    for token in sorted(learned, key=learned.__getitem__):
        if "½" not in token:  # it is written as two bytes
            tokens.setdefault(token, TokenType.NORMAL)
    scores = [-1000.0] * first + [-float(rank) for rank in range(len(tokens) - first)]
    return write(
        file,
        "llama",
        list(tokens),
        list(tokens.values()),
        tokenizer_pre="default",
        token_scores=scores,
        bos_token_id=2,
        eos_token_id=1,
        unk_token_id=4,
        pad_token_id=0,
        add_space_prefix=prefix,
    )


@pytest.mark.parametrize("spaces", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_is_merged_by_scores(tmp_path: Path, prefix: bool, spaces: bool) -> None:
    file = sentencepiece(tmp_path / "model.gguf", prefix=prefix, spaces=spaces)
    check(file, [*SAMPLES, "日本 ½", "a\n\n\n   b", *texts(4, 40)])
    tokenizer = read_tokenizer(file)
    text = "Hello 東京 x ½" if prefix else "Hello  東京\n\n x ½"
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False).input_ids) == text


def test_a_character_that_is_merged_but_is_no_token_is_refused(tmp_path: Path) -> None:
    tokens = [*(f"<0x{byte:02X}>" for byte in range(256)), "b", "ab"]
    types = [TokenType.BYTE] * 256 + [TokenType.NORMAL] * 2
    values = {"token_scores": [0.0] * 258, "eos_token_id": 0, "add_bos_token": False}
    with pytest.raises(ValueError, match="'ab' has a character"):
        read_tokenizer(write(tmp_path / "model.gguf", "llama", tokens, types, **values))


def test_scores_that_do_not_order_the_merges_are_refused(tmp_path: Path) -> None:
    tokens = [*(f"<0x{byte:02X}>" for byte in range(256)), "a", "b", "ab", "ba"]
    types = [TokenType.BYTE] * 256 + [TokenType.NORMAL] * 4
    values = {"token_scores": [0.0] * 260, "eos_token_id": 0, "add_bos_token": False}
    with pytest.raises(ValueError, match="the same score"):
        read_tokenizer(write(tmp_path / "model.gguf", "llama", tokens, types, **values))


def test_the_rules_are_those_that_llama_cpp_knows(
    merged: tuple[list[str], list[str]], tmp_path: Path
) -> None:
    for name in RULES:
        with read_vocabulary(byte_level(tmp_path / "model.gguf", (merged[0], merged[1][:9]), name)):
            pass

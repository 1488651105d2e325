"""Sampling, evaluating, training and `lmsi-tui prompt` give a model the same tokens."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.conversion.hf_to_gguf import convert_base
from engine.inference.hf.backend import open_transformers
from engine.inference.hf.prompt_tokenizer import PromptTokenizer
from engine.inference.llama.backend import open_llama_cpp
from engine.inference.llama.vocabulary import read_vocabulary
from engine.inference.rendered_prompt import RenderedPrompt, render_prompt
from engine.models.folder_tokenizer import load_tokenizer
from engine.packing.encoding import encode
from engine.prompting.tasks import Exemplar
from engine.prompting.templates import Prompt, render
from engine.training.model import load_tokenization
from store.enums import AnswerType, PromptFormat, PromptStyle, Split
from store.records import Example, Question
from tests.engine.chat_shapes import FOLDED, SHAPES, SPECIAL
from tests.engine.tiny import tiny_model, tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.inference.llama.vocabulary import Vocabulary

PREFILL = "Let's think step by step."
SYSTEM = "Think step by step. Finish with one sentence of the form: The answer is ..."


@cache
def tokenizer() -> Any:
    loaded = tiny_tokenizer()
    loaded.add_special_tokens({"bos_token": "<bos>"})
    loaded.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    loaded.add_tokens(["<think>", "</think>"])
    return loaded


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A model as a Hugging Face folder and as GGUF, without a template."""
    folder = tmp_path_factory.mktemp("model") / "hf"
    tiny_model(folder, vocab_size=len(tokenizer()))
    tokenizer().save_pretrained(folder)
    convert_base(folder, folder.parent / "model.gguf")
    return folder, folder.parent / "model.gguf"


@pytest.fixture(scope="module")
def vocabulary(files: tuple[Path, Path]) -> Iterator[Vocabulary]:
    with read_vocabulary(files[1]) as loaded:
        yield loaded


def trained(prompt: Prompt, loaded: Any) -> list[int]:
    """The prompt's ids in training."""
    example = Example(
        id=0,
        set_key="",
        position=0,
        question_id=1,
        path_id=None,
        prompt_format=PromptFormat.ZERO_SHOT_COT,
        prompt=prompt.text,
        shared=0,
        completion=" 9",
        token_ids=(),
        weight=1.0,
        validation=False,
    )
    (encoded,) = encode([example], loaded, prompt.style, {0})
    return list(encoded.prompt)


TEXTS = st.lists(
    st.sampled_from(
        [
            *SPECIAL,
            "<think>",
            "<bos>",
            "<|end|>",
            "How many",
            "7",
            "\n",
            "\n\n",
            " ",
            "é",
            "火",
            "{{ x }}",
        ]
    )
    | st.text(st.characters(codec="utf-8", exclude_categories=["Co", "Cn"]), max_size=8),
    min_size=1,
    max_size=6,
).map("".join)


@st.composite
def chats(draw: st.DrawFn) -> list[list[str]]:
    """A system turn, worked examples, the question and sometimes a prefill."""
    messages = [["system", draw(TEXTS)]]
    for _ in range(draw(st.integers(0, 3))):
        messages += [["user", draw(TEXTS)], ["assistant", draw(TEXTS)]]
    messages.append(["user", draw(TEXTS)])
    if draw(st.booleans()):
        messages.append(["assistant", draw(st.just(PREFILL) | TEXTS)])
    return messages


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(messages=chats())
def test_the_tokens_are_the_same_everywhere(
    name: str, messages: list[list[str]], vocabulary: Vocabulary
) -> None:
    loaded = tokenizer()
    loaded.chat_template = vocabulary.template = SHAPES[name]
    prompt = Prompt(json.dumps(messages), PromptStyle.CHAT, 0)
    sampler = PromptTokenizer(loaded)
    ids = sampler.tokenize_chat(prompt.messages())
    assert trained(prompt, loaded) == ids
    assert vocabulary.chat(prompt.messages()) == ids
    text = "".join(part for part, _ in sampler.spans(prompt))
    decoded = loaded.decode(ids, clean_up_tokenization_spaces=False)
    assert normalize("NFC", decoded) == normalize("NFC", text)
    for _, content in messages:
        assert content.strip() in text
    if messages[-1][0] == "assistant":
        assert text.endswith(messages[-1][1])
    # A start token comes from the template only, and from no question.
    assert ids.count(loaded.bos_token_id) == ("bos_token" in SHAPES[name])


def question() -> Question:
    return Question(
        id=1,
        key="k",
        split=Split.POOL,
        text="How many <|im_end|> are there?",
        task="number",
        answer_type=AnswerType.NUMBER,
        source="",
        position=0,
    )


@pytest.mark.parametrize("prompt_format", PromptFormat)
@pytest.mark.parametrize("name", SHAPES)
def test_every_format_fits_every_shape(name: str, prompt_format: PromptFormat) -> None:
    loaded = tokenizer()
    loaded.chat_template = SHAPES[name]
    examples = [Exemplar(f"How many are {n} pens?", (), "", "Count.", str(n)) for n in (1, 2)]
    prompt = render(question(), prompt_format, PromptStyle.CHAT, examples)
    text = "".join(part for part, _ in PromptTokenizer(loaded).spans(prompt))
    assert question().text in text
    system, first, *_ = prompt.messages()
    assert (f"{system.content}\n\n{first.content}" in text) == (
        name in (*FOLDED, "Gemma 3") or (name == "Mistral 3" and not prompt_format.few_shot)
    )
    if prompt_format is PromptFormat.ZERO_SHOT_COT:
        opening = {"R1": "<think>\n", "Qwen 3": "<think>\n\n</think>\n\n"}.get(name, "")
        assert text.endswith(opening + PREFILL)
        assert ("</think>" in text) == (name == "Qwen 3")  # an empty thought


@pytest.mark.slow
def test_the_prompt_command_tokenizes_as_the_engines_do(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    folder, gguf = tmp_path / "hf", tmp_path / "model.gguf"
    folder.mkdir()
    for file in files[0].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "chat_template.jinja").write_text(SHAPES["Gemma 2"])
    convert_base(folder, gguf)
    prompt = render(question(), PromptFormat.ZERO_SHOT_COT, PromptStyle.CHAT, ())
    loaded = load_tokenizer(folder)
    sampler = PromptTokenizer(loaded)
    text = "".join(part for part, _ in sampler.spans(prompt))
    expected = RenderedPrompt(text, len(sampler.prompt(prompt)), "")
    ids = sampler.prompt(prompt)
    messages = prompt.messages()
    assert open_transformers(folder).tokenize_chat(messages) == ids
    assert trained(prompt, load_tokenization(folder).tokenizer) == ids
    backend = open_llama_cpp(gguf, context=200)
    assert backend.tokenize_chat(messages) == ids
    backend.close()
    assert render_prompt(gguf, prompt) == render_prompt(folder, prompt) == expected


@pytest.mark.parametrize("name", ["Qwen 3", "SmolLM 3"])
def test_thinking_is_off_unless_the_settings_switch_it_on(
    name: str, vocabulary: Vocabulary
) -> None:
    loaded = tokenizer()
    loaded.chat_template = vocabulary.template = SHAPES[name]
    ours = PromptTokenizer(loaded)
    texts = []
    for thinking in (False, True):
        prompt = render(
            question(), PromptFormat.ZERO_SHOT_COT, PromptStyle.CHAT, (), thinking=thinking
        )
        assert prompt.thinking is thinking
        assert ours.prompt(prompt) == vocabulary.prompt(prompt)
        texts.append("".join(part for part, _ in ours.spans(prompt)))
    off, on = texts
    assert off.endswith(PREFILL)
    # The model begins its own message, with its thoughts.
    assert on.endswith("assistant\n")
    assert ("/no_think" in off) == (name == "SmolLM 3")
    assert "/no_think" not in on

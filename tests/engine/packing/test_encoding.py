"""Encoding: sampled tokens are kept, text is tokenized, and every completion ends once."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from engine.packing.encoding import encode
from store.enums import PromptFormat, PromptStyle
from store.errors import BadInput
from store.records import Example
from tests.engine.tiny import tiny_tokenizer


def example(**changes: Any) -> Example:
    direct = Example(
        id=0,
        set_key="",
        position=0,
        question_id=1,
        path_id=None,
        prompt_format=PromptFormat.ZERO_SHOT_DIRECT,
        prompt="Q: How many?\nA:",
        shared=0,
        completion=" The answer is 9.",
        token_ids=(),
        weight=1.0,
        validation=False,
    )
    return dataclasses.replace(direct, **changes)


def test_sampled_tokens_are_kept_and_end_once() -> None:
    tokenizer = tiny_tokenizer()
    end, text = tokenizer.eos_token_id, " The answer is 9."
    letters = tuple(tokenizer(letter).input_ids[0] for letter in text)
    assert letters != tuple(tokenizer(text).input_ids)
    stopped, ended, other_end, direct = encode(
        [
            example(token_ids=letters),
            example(token_ids=(*letters, end)),
            example(token_ids=(*letters, 5)),
            example(),
        ],
        tokenizer,
        PromptStyle.BASE,
        {end, 5},
    )
    assert stopped.completion == ended.completion == (*letters, end)
    assert other_end.completion == (*letters, 5)
    assert direct.completion == (*tokenizer(text).input_ids, end)


def test_the_end_token_of_another_model_is_replaced() -> None:
    tokenizer = tiny_tokenizer()
    end, teachers_end = tokenizer.eos_token_id, tokenizer.pad_token_id
    sampled = example(token_ids=(30, 31, teachers_end))
    (student,) = encode([sampled], tokenizer, PromptStyle.BASE, {end})
    (teacher,) = encode([sampled], tokenizer, PromptStyle.BASE, {teachers_end})
    assert student.completion == (30, 31, end)
    assert teacher.completion == (30, 31, teachers_end)


def test_the_name_of_the_end_token_in_a_question_stays_text() -> None:
    tokenizer = tiny_tokenizer()
    end = tokenizer.eos_token_id
    (encoded,) = encode(
        [example(prompt="Q: What is <|end|>?\nA:", completion=" <|end|>")],
        tokenizer,
        PromptStyle.BASE,
        {end},
    )
    assert end not in encoded.prompt
    assert encoded.completion.count(end) == 1


def test_the_start_token_of_a_model_is_before_its_prompts_only() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|pad|> $A", special_tokens=[("<|pad|>", tokenizer.pad_token_id)]
    )
    try:
        (encoded,) = encode([example()], tokenizer, PromptStyle.BASE, {0})
    finally:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="$A")
    assert encoded.prompt[0] == tokenizer.pad_token_id
    assert tokenizer.pad_token_id not in encoded.tokens[1:]


def test_a_chat_is_rendered_with_its_template_and_left_open() -> None:
    tokenizer = tiny_tokenizer(chat=True)
    question = '[["user", "How many?"]]'
    continued = '[["user", "How many?"], ["assistant", "Let us see."]]'
    first, second = encode(
        [example(prompt=question, completion="9"), example(prompt=continued, completion=" 9")],
        tokenizer,
        PromptStyle.CHAT,
        {tokenizer.eos_token_id},
    )
    assert tokenizer.decode(first.prompt).endswith("<|turn|>assistant\n")
    assert tokenizer.decode(second.prompt).endswith("Let us see.")


def test_the_answer_of_a_chat_ends_as_the_template_ends_a_message() -> None:
    tokenizer = tiny_tokenizer(chat=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<end_of_turn>"]})
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<end_of_turn>\n{% endfor %}"
    )
    turn_end, end = tokenizer.convert_tokens_to_ids("<end_of_turn>"), tokenizer.eos_token_id
    chat = [example(prompt='[["user", "How many?"]]', completion="9", token_ids=(7, 8))]
    (encoded,) = encode(chat, tokenizer, PromptStyle.CHAT, {end, turn_end})
    assert encoded.completion == (7, 8, turn_end)
    (encoded,) = encode(chat, tokenizer, PromptStyle.CHAT, {end})
    assert encoded.completion == (7, 8, end)


def test_a_tokenizer_without_end_token_or_template_is_refused() -> None:
    tokenizer = tiny_tokenizer()
    with pytest.raises(BadInput, match=r"sample\.style"):
        encode([example(prompt='[["user", "?"]]')], tokenizer, PromptStyle.CHAT, {0})
    tokenizer.eos_token = None
    with pytest.raises(BadInput, match="end token"):
        encode([example()], tokenizer, PromptStyle.BASE, {0})


def test_first_tokens_are_cut_before_the_answer_and_never_end() -> None:
    tokenizer = tiny_tokenizer()
    end = tokenizer.eos_token_id
    path = tuple(range(30, 50))
    cut, short, text, whole = encode(
        [
            example(token_ids=(*path, end), first_tokens=4),
            example(token_ids=(*path[:6], end), first_tokens=16),
            example(first_tokens=2),
            example(token_ids=(*path, end)),
        ],
        tokenizer,
        PromptStyle.BASE,
        {end},
    )
    assert cut.completion == path[:4]
    assert short.completion == path[:3], "at most half of a path"
    assert text.completion == tuple(tokenizer(example().completion).input_ids)[:2]
    assert whole.completion == (*path, end)

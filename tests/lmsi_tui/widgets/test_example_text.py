"""The text of an example is shown completely, and without control characters."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from lmsi_tui.widgets.example_text import (
    LOSS,
    PROMPT,
    ShownExample,
    about,
    example_content,
    plain_text,
)
from store.enums import PromptFormat, PromptStyle
from store.records import Encoding, Example
from tests.nasty import FORBIDDEN, NASTY

if TYPE_CHECKING:
    from textual.content import Content

SHOTS, ASKED, ANSWER = "Q: One?\nA: 1.\n\n", "Q: Two?\nA:", " It is two.\nThe answer is 2."
EXAMPLE = Example(
    id=1,
    set_key="set",
    position=0,
    question_id=1,
    path_id=1,
    prompt_format=PromptFormat.FEW_SHOT_COT,
    prompt=SHOTS + ASKED,
    shared=len(SHOTS),
    completion=ANSWER,
    token_ids=(),
    weight=1.0,
    validation=False,
)


def coded(prompt: list[str], completion: list[str]) -> Encoding:
    return Encoding("set", "t", 0, len(prompt), len(completion), (*prompt, *completion))


def shown(encoding: Encoding | None, style: PromptStyle = PromptStyle.BASE) -> ShownExample:
    return ShownExample(EXAMPLE, encoding, style, ("somewhere",))


def styled(content: Content, style: str) -> str:
    """The characters that are drawn in a style."""
    return "".join(
        content.plain[span.start : span.end]
        for span in content.spans
        if str(span.style).startswith(style)
    )


def test_without_tokens_the_completion_carries_the_loss() -> None:
    shared, own = example_content(shown(None), boundaries=True)
    assert f"{shared.plain}\n{own.plain}" == f"{SHOTS}{ASKED}{ANSWER} ⏹"
    assert styled(own, LOSS) == f"{ANSWER} ⏹"
    assert styled(own, PROMPT) == ASKED


@pytest.mark.parametrize("start", [[], ["<s>"]], ids=["plain", "start token"])
def test_tokens_are_split_at_the_question_and_at_the_loss(
    start: list[str],
) -> None:
    encoding = coded([*start, *SHOTS, "Q", ": Two", "?", "\n", "A:"], [" It", ANSWER[3:], "</s>"])
    for boundaries in (False, True):
        shared, own = example_content(shown(encoding), boundaries)
        both = f"{shared.plain}\n{own.plain}".replace("↵", "")
        assert both == "".join(start) + SHOTS + ASKED + ANSWER + "</s>"
        assert styled(own, LOSS).replace("↵", "") == ANSWER + "</s>"
    lines = [str(span.style) for span in own.spans]
    assert ["underline" in style for style in lines] == [
        (at + len(start) + len(SHOTS)) % 2 == 1 for at in range(len(lines))
    ]


def test_a_token_across_the_edge_keeps_the_prompt_in_one_piece() -> None:
    encoding = coded([SHOTS[:-1], "\nQ", ": Two?\nA:"], [ANSWER])
    shared, own = example_content(shown(encoding), boundaries=False)
    assert shared.plain == ""
    assert own.plain == SHOTS + ASKED + ANSWER


def test_a_chat_is_shown_as_its_template_writes_it() -> None:
    encoding = coded(["<|turn|>", "user\n", "Two?", "<|end|>"], ["2", "<|end|>"])
    example = shown(encoding, PromptStyle.CHAT)
    shared, own = example_content(example, boundaries=False)
    assert shared.plain == ""
    assert own.plain == plain_text(example) == "<|turn|>user\nTwo?<|end|>2<|end|>"
    assert styled(own, LOSS) == "2<|end|>"


@pytest.mark.parametrize("name", NASTY)
def test_hostile_text_is_escaped(name: str) -> None:
    text = NASTY[name]
    example = replace(EXAMPLE, prompt=text + text, shared=len(text), completion=text)
    for encoding in (None, coded([*text, *text], list(text) or [""])):
        hostile = ShownExample(example, encoding, PromptStyle.BASE, (text,), ((text, 3),))
        for boundaries in (False, True):
            for content in (*example_content(hostile, boundaries), about(hostile, boundaries)):
                assert not (FORBIDDEN - {"\n", "\t"}) & set(content.plain)

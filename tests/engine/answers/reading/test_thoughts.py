"""Thoughts and turns in the marks of many model families."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.answers.extraction import extract
from engine.answers.reading.thoughts import own_turn
from store.enums import Abstention, AnswerType, EndReason

NUMBER, SPAN = AnswerType.NUMBER, AnswerType.SPAN

HARMONY_FINAL = "<|end|><|start|>assistant<|channel|>final<|message|>"
FAMILIES = (
    ("<think>", "</think>"),
    ("<Think>\n", "\n</Think>\n\n"),
    ("<|im_start|>assistant\n<think>\n", "</think>\n"),
    ("<thinking>", "</thinking>"),
    ("<thinking>Hm. <reflection>No.</reflection>", "</thinking>\n<output>\n"),
    ("<thought>\n", "\n</thought>\n"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<analysis>", "</analysis>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|begin_of_thought|>", "<|end_of_thought|>\n\n<|begin_of_solution|>\n"),
    ("<|begin_of_thought|>", "<|begin_of_solution|>\n"),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"),
    ("<unused94>thought\n", "<unused95>"),
    ("<|channel|>analysis<|message|>", HARMONY_FINAL),
    ("<|start|>assistant<|channel|>analysis<|message|>", HARMONY_FINAL),
    ("<|channel|>commentary<|message|>", HARMONY_FINAL),
    ("analysisWe add. ", "assistantfinal"),
    ("<|think|>", "<|end|><|begin|>assistant<|content|>"),
    ("Here is my thought process:\n", "\nHere is my response:\n"),
    ("Here's my thought process: ", " Here's my response: "),
    ("Here are my reasoning steps:\n", "\n[BEGIN FINAL RESPONSE]\n"),
)
PROMPTED_ENDS = (
    "</think>", "[/THINK]", "◁/think▷", "</thought>", "<|end_of_thought|>", "<channel|>",
    "<|END_THINKING|>", HARMONY_FINAL, "</seed:think>", "<|inner_suffix|>",
)  # fmt: skip
ENDS = (
    "</s>", "<s>", "<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>", "<|endoftext|>",
    "<|end_of_text|>", "[INST]", "[/INST]", "<|return|>", "<|end|>", "<｜end▁of▁sentence｜>",
    "<|END_OF_TURN_TOKEN|>", "<|END_RESPONSE|>", "<|EOT|>", "<turn|>", "[|endofturn|]", "<eos>",
    "</response>", "[END FINAL RESPONSE]",
)  # fmt: skip


def number_in(text: str) -> str | None:
    return extract(NUMBER, text, end=EndReason.END).answer


@pytest.mark.parametrize(("begin", "end"), FAMILIES)
def test_a_thought_is_not_read(begin: str, end: str) -> None:
    thought = f"{begin}Perhaps 9. The answer is 9.{end}"
    assert number_in(f"{thought}Tom has 7 apples.") == "7"
    assert number_in(f"{thought}\n\nThe answer is 7.") == "7"
    assert number_in(f"{thought}It is hard to say.") is None
    assert extract(SPAN, f"{thought}Paris", end=EndReason.END).answer == "paris"


@pytest.mark.parametrize(("begin", "end"), FAMILIES)
def test_a_path_with_only_a_thought_has_no_answer(begin: str, end: str) -> None:
    for text in (f"{begin}The answer is 9.", f"{begin}The answer is 9.{end}"):
        result = extract(NUMBER, text, end=EndReason.END)
        assert result.abstention is Abstention.NO_ANSWER, text


@pytest.mark.parametrize("end", PROMPTED_ENDS)
def test_an_end_without_its_start_ends_a_thought_that_the_prompt_began(end: str) -> None:
    assert number_in(f"So the answer is 9.{end}Tom has 7 apples.") == "7"
    assert number_in(f"So the answer is 9.{end}") is None


@pytest.mark.parametrize("mark", ENDS)
def test_a_special_token_ends_the_path_but_may_begin_it(mark: str) -> None:
    assert number_in(f"The answer is 12.{mark} The answer is 4.") == "12"
    assert number_in(f"{mark}\nThe answer is 4.") == "4"
    assert extract(SPAN, f"Paris{mark}", end=EndReason.END).answer == "paris"


@pytest.mark.parametrize(
    ("text", "own"),
    [
        ("Five. <think>Or six?</think>", "Five."),
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>a <reflection>b</reflection> c", ""),
        ("<think>I see <think> here</think>d", "d"),
        ("<|im_start|>assistant\nd<|im_end|>\n<|im_start|>user\ne", "d"),
        ("<|im_end|>\n<|im_start|>user\ne", ""),
        ("d<|im_end|><think>a</think>e", "d"),
        ("<think>a</think><answer>7</answer>", "<answer>7</answer>"),
        ("<think>a</think><|begin_of_box|>7<|end_of_box|>.", "<|begin_of_box|>7<|end_of_box|>."),
        ("0 < x and |x| < 5 [think of it]", "0 < x and |x| < 5 [think of it]"),
        ("This analysisWorks.", "This analysisWorks."),
    ],
)
def test_the_own_turn_is_what_follows_the_thoughts(text: str, own: str) -> None:
    assert own_turn(text).strip() == own


@given(
    st.lists(
        st.one_of(
            st.sampled_from([mark for pair in FAMILIES for mark in pair]),
            st.sampled_from(ENDS),
            st.text(max_size=8),
        ),
        max_size=12,
    )
)
def test_no_mark_of_a_thought_makes_the_reader_fail(parts: list[str]) -> None:
    number_in("".join(parts))

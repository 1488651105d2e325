from __future__ import annotations

import json

import pytest

from engine.prompting.tasks import Exemplar
from engine.prompting.templates import (
    after_solution,
    answer_sentence,
    prompt_hash,
    question_text,
    render,
    stop_strings,
)
from store.enums import AnswerType, PromptFormat, PromptStyle, Split
from store.records import Question

EXEMPLARS = (
    Exemplar("I had 2 eggs and broke 1. How many are whole?", (), "", "2 - 1 = 1.", "1"),
    Exemplar("Two cats have how many ears?", (), "", "Each has 2. 2 + 2 = 4.", "4"),
)


def question(answer_type: AnswerType = AnswerType.NUMBER, **changes: object) -> Question:
    values: dict[str, object] = {
        "id": 1,
        "key": "k",
        "split": Split.POOL,
        "source": "test",
        "position": 0,
        "task": answer_type,
        "answer_type": answer_type,
        "text": "What is 3 + 4?",
    }
    return Question(**(values | changes))  # type: ignore[arg-type]  # the values are listed above


def base(prompt_format: PromptFormat) -> str:
    return render(question(), prompt_format, PromptStyle.BASE, EXEMPLARS).text


def test_few_shot_cot_has_worked_examples_and_ends_at_the_answer() -> None:
    assert base(PromptFormat.FEW_SHOT_COT) == (
        "Q: I had 2 eggs and broke 1. How many are whole?\nA: 2 - 1 = 1. The answer is 1.\n\n"
        "Q: Two cats have how many ears?\nA: Each has 2. 2 + 2 = 4. The answer is 4.\n\n"
        "Q: What is 3 + 4?\nA:"
    )


def test_few_shot_direct_has_the_examples_without_reasoning() -> None:
    assert base(PromptFormat.FEW_SHOT_DIRECT) == (
        "Q: I had 2 eggs and broke 1. How many are whole?\nA: The answer is 1.\n\n"
        "Q: Two cats have how many ears?\nA: The answer is 4.\n\n"
        "Q: What is 3 + 4?\nA:"
    )


def test_zero_shot_formats_have_no_examples() -> None:
    assert base(PromptFormat.ZERO_SHOT_COT) == "Q: What is 3 + 4?\nA: Let's think step by step."
    assert base(PromptFormat.ZERO_SHOT_DIRECT) == "Q: What is 3 + 4?\nA:"


@pytest.mark.parametrize("prompt_format", list(PromptFormat))
def test_the_shared_prefix_is_the_same_for_every_question(prompt_format: PromptFormat) -> None:
    first, second = (
        render(question(text=text), prompt_format, PromptStyle.BASE, EXEMPLARS)
        for text in ("Is it 1?", "Or 2?")
    )
    assert first.shared == second.shared
    assert first.text[: first.shared] == second.text[: second.shared]
    assert (first.shared > 0) is prompt_format.few_shot


def test_choices_are_lettered_and_a_passage_comes_before_the_question() -> None:
    text = question_text(AnswerType.CHOICE, "Which?", ("red", "blue"), "Look at the sky.")
    assert text == "Look at the sky.\nWhich?\nAnswer Choices: (a) red (b) blue"


def test_premise_and_hypothesis_become_a_question() -> None:
    text = question_text(AnswerType.NLI, "It rained.", (), "The street is wet.")
    assert text == (
        'Premise: "The street is wet."\n'
        'Based on this premise, can we conclude the hypothesis "It rained." is true?'
    )


@pytest.mark.parametrize(
    ("answer_type", "answer", "sentence"),
    [
        (AnswerType.NUMBER, "9", " The answer is 9."),
        (AnswerType.CHOICE, "b", " The answer is (b)."),
        (AnswerType.YES_NO, "yes", " The answer is yes."),
        (AnswerType.MATH, "\\frac{1}{2}", " The answer is $\\frac{1}{2}$."),
    ],
)
def test_an_answer_sentence_states_the_normalized_answer(
    answer_type: AnswerType, answer: str, sentence: str
) -> None:
    assert answer_sentence(answer_type, answer) == sentence


def test_a_chat_has_messages_for_each_example_and_leaves_the_cue_open() -> None:
    few = render(question(), PromptFormat.FEW_SHOT_COT, PromptStyle.CHAT, EXEMPLARS)
    assert [turn.role for turn in few.messages()] == [
        "system",
        *("user", "assistant") * len(EXEMPLARS),
        "user",
    ]
    cued = render(question(), PromptFormat.ZERO_SHOT_COT, PromptStyle.CHAT, EXEMPLARS)
    assert [turn.role for turn in cued.messages()] == ["system", "user", "assistant"]
    assert cued.messages()[-1].content == "Let's think step by step."


def test_a_chat_preserves_quotes_and_other_scripts() -> None:
    text = 'Was heißt "雪"?\nA: \\ }'
    prompt = render(question(text=text), PromptFormat.ZERO_SHOT_DIRECT, PromptStyle.CHAT, ())
    assert json.loads(prompt.text)[-1] == ["user", text]


def test_the_hash_depends_on_examples_only_in_few_shot_formats() -> None:
    style = PromptStyle.BASE
    few, zero = PromptFormat.FEW_SHOT_COT, PromptFormat.ZERO_SHOT_COT
    assert prompt_hash(few, style, EXEMPLARS) != prompt_hash(few, style, EXEMPLARS[:1])
    assert prompt_hash(zero, style, EXEMPLARS) == prompt_hash(zero, style, ())
    assert prompt_hash(zero, style, ()) != prompt_hash(zero, PromptStyle.CHAT, ())


def test_only_plain_text_is_stopped_at_the_next_question() -> None:
    assert stop_strings(PromptStyle.BASE) == ("\nQ:",)
    assert stop_strings(PromptStyle.CHAT) == ()


def test_a_worked_solution_of_a_question_takes_the_place_of_the_examples() -> None:
    for prompt_format in (PromptFormat.FEW_SHOT_COT, PromptFormat.ZERO_SHOT_COT):
        asked = render(question(), prompt_format, PromptStyle.BASE, EXEMPLARS)
        prompt = after_solution(asked, " 3 + 4 = 7. The answer is 7.\n")
        begun = "" if prompt_format is PromptFormat.FEW_SHOT_COT else " Let's think step by step."
        assert prompt.text == (
            f"Q: What is 3 + 4?\nA:{begun} 3 + 4 = 7. The answer is 7.\n\n"
            f"Q: What is 3 + 4?\nA:{begun}"
        )
        assert (prompt.shared, prompt.style) == (0, PromptStyle.BASE)


@pytest.mark.parametrize("thinking", [False, True])
@pytest.mark.parametrize(
    "prompt_format", [PromptFormat.FEW_SHOT_COT, PromptFormat.ZERO_SHOT_COT], ids=str
)
def test_in_a_chat_a_worked_solution_is_an_earlier_answer(
    prompt_format: PromptFormat, thinking: bool
) -> None:
    asked = render(question(), prompt_format, PromptStyle.CHAT, EXEMPLARS, thinking=thinking)
    prompt = after_solution(asked, "3 + 4 = 7. The answer is 7.")
    assert prompt.thinking is asked.thinking
    begun = [message for message in asked.messages()[-1:] if message.role == "assistant"]
    system, first, solution, again, *rest = prompt.messages()
    assert (system, first.content) == (asked.messages()[0], "What is 3 + 4?")
    shown = " ".join([*(message.content for message in begun), "3 + 4 = 7. The answer is 7."])
    assert (solution.role, solution.content) == ("assistant", shown)
    assert (again.role, rest) == ("user", begun)

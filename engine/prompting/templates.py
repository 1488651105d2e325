"""Turn questions into prompts.

There are four formats (Huang et al. 2022, Table 2): few-shot with reasoning, few-shot without
reasoning, the question followed by "Let's think step by step.", and the question alone. Each has
two styles: plain text for a base model to continue, and a chat for a model with a chat template.
Sampling and training use the same prompts, so all prompts are rendered here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from engine.prompting.messages import ChatMessage
from store.enums import AnswerType, PromptFormat, PromptStyle
from store.records import Question, content_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.prompting.tasks import Exemplar

TEMPLATE_VERSION = 1
"""Part of the prompt's hash: increase it when any text below changes."""

STEP_BY_STEP = "Let's think step by step."
"""Kojima et al. 2022; the paper's format 3."""

_CHAT_REASONING = "Think step by step. Finish with one sentence of the form: The answer is ..."
_CHAT_DIRECT = "Give the answer only, as one sentence of the form: The answer is ..."

_AGAIN = "Now solve the same question again."
"""In a chat, after the worked solution of its question."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A rendered prompt, before tokenization."""

    text: str
    """Plain text; for a chat, its messages as a JSON list of `[role, content]`, or an object with
    these `messages` and `thinking` if the model is to think first."""
    style: PromptStyle
    shared: int
    """Length in characters of the few-shot prefix of `text`, which is the same for every question
    of the run; 0 for a chat, whose template decides."""

    def messages(self) -> tuple[ChatMessage, ...]:
        """The messages of a chat prompt."""
        chat = json.loads(self.text)
        messages = chat["messages"] if isinstance(chat, dict) else chat
        return tuple(ChatMessage(role, content) for role, content in messages)

    @property
    def thinking(self) -> bool:
        """Whether the chat template is asked to let the model think first."""
        return self.style is PromptStyle.CHAT and self.text.startswith("{")


def question_text(
    answer_type: AnswerType, text: str, options: Sequence[str] = (), passage: str = ""
) -> str:
    """A question in full: passage, question, lettered choices."""
    if answer_type is AnswerType.NLI:
        return (
            f'Premise: "{passage}"\nBased on this premise, can we conclude the hypothesis '
            f'"{text}" is true?'
        )
    parts = [f"{passage}\n{text}" if passage else text]
    if options:
        choices = " ".join(
            f"({letter}) {option}" for letter, option in zip(_LETTERS, options, strict=False)
        )
        parts.append(f"Answer Choices: {choices}")
    return "\n".join(parts)


def answer_sentence(answer_type: AnswerType, answer: str) -> str:
    """The sentence that states a normalized answer, such as ` The answer is 9.`"""
    if answer_type is AnswerType.CHOICE:
        return f" The answer is ({answer.lower()})."
    if answer_type is AnswerType.MATH:
        return f" The answer is ${answer}$."
    return f" The answer is {answer}."


def _exemplar_text(answer_type: AnswerType, exemplar: Exemplar) -> str:
    return question_text(answer_type, exemplar.question, exemplar.options, exemplar.passage)


def _exemplar_answer(answer_type: AnswerType, exemplar: Exemplar, *, reasons: bool) -> str:
    sentence = answer_sentence(answer_type, exemplar.answer)
    return f" {exemplar.reasoning.strip()}{sentence}" if reasons else sentence


def thinks_first(prompt_format: PromptFormat, style: PromptStyle, *, thinking: bool) -> bool:
    """Whether the setting `thinking` applies: in a chat whose format asks for reasoning."""
    return thinking and style is PromptStyle.CHAT and prompt_format.reasons


def render(
    question: Question,
    prompt_format: PromptFormat,
    style: PromptStyle,
    exemplars: Sequence[Exemplar],
    *,
    thinking: bool = False,
) -> Prompt:
    """Render the prompt of a question.

    Args:
        question: the question to ask.
        prompt_format: one of the paper's four.
        style: plain text or chat.
        exemplars: worked examples of the question's task; ignored by the zero-shot formats.
        thinking: let the model think first, where it can (`thinks_first`).
    """
    text = question_text(question.answer_type, question.text, question.options, question.passage)
    examples = tuple(exemplars) if prompt_format.few_shot else ()
    if style is PromptStyle.CHAT:
        thinks = thinks_first(prompt_format, style, thinking=thinking)
        return _render_chat(question.answer_type, text, prompt_format, examples, thinks)
    shared = _few_shot_prefix(question.answer_type, examples, prompt_format.reasons)
    opening = f" {STEP_BY_STEP}" if prompt_format is PromptFormat.ZERO_SHOT_COT else ""
    return Prompt(f"{shared}Q: {text}\nA:{opening}", style, len(shared))


@lru_cache(maxsize=64)
def _few_shot_prefix(
    answer_type: AnswerType, exemplars: tuple[Exemplar, ...], reasons: bool
) -> str:
    """The worked examples as plain text; the same for every question of a run and task."""
    return "".join(
        f"Q: {_exemplar_text(answer_type, exemplar)}\n"
        f"A:{_exemplar_answer(answer_type, exemplar, reasons=reasons)}\n\n"
        for exemplar in exemplars
    )


def _render_chat(
    answer_type: AnswerType,
    text: str,
    prompt_format: PromptFormat,
    exemplars: Sequence[Exemplar],
    thinks: bool,
) -> Prompt:
    system = _CHAT_REASONING if prompt_format.reasons else _CHAT_DIRECT
    messages = [["system", system]]
    for exemplar in exemplars:
        messages.append(["user", _exemplar_text(answer_type, exemplar)])
        answer = _exemplar_answer(answer_type, exemplar, reasons=prompt_format.reasons)
        messages.append(["assistant", answer.strip()])
    messages.append(["user", text])
    # The first words of an answer would end the thoughts before they begin.
    if prompt_format is PromptFormat.ZERO_SHOT_COT and not thinks:
        messages.append(["assistant", STEP_BY_STEP])
    chat = {"messages": messages, "thinking": True} if thinks else messages
    return Prompt(json.dumps(chat, ensure_ascii=False), PromptStyle.CHAT, 0)


def after_solution(prompt: Prompt, solution: str) -> Prompt:
    """A prompt that shows a worked solution of its own question, and asks it again.

    The solution takes the place of the worked examples, so the new prompt is rarely longer than the
    original one. In plain text it is the only worked example; in a chat it is an earlier answer,
    after which the user asks to solve the question again. Whatever may follow the original prompt
    may follow this one.

    Args:
        prompt: as `render` returns it.
        solution: the text of a path that was sampled from the prompt.
    """
    if prompt.style is not PromptStyle.CHAT:
        question = prompt.text[prompt.shared :]
        return Prompt(f"{question} {solution.strip()}\n\n{question}", prompt.style, 0)
    chat = json.loads(prompt.text)
    messages = chat["messages"] if prompt.thinking else chat
    begun = messages[-1][1] if messages[-1][0] == "assistant" else ""
    question = messages[-2] if begun else messages[-1]
    shown = [
        *(message for message in messages if message[0] == "system"),
        question,
        ["assistant", f"{begun} {solution.strip()}".strip()],
        ["user", _AGAIN],
        *([["assistant", begun]] if begun else []),
    ]
    again = {**chat, "messages": shown} if prompt.thinking else shown
    return Prompt(json.dumps(again, ensure_ascii=False), prompt.style, 0)


def stop_strings(style: PromptStyle) -> tuple[str, ...]:
    """Strings that end a path besides the end token: the next question of a few-shot prompt."""
    return ("\nQ:",) if style is PromptStyle.BASE else ()


def prompt_hash(
    prompt_format: PromptFormat,
    style: PromptStyle,
    exemplars: Sequence[Exemplar],
    *,
    thinking: bool = False,
) -> str:
    """Hash of everything in a prompt except the question; part of a run's key."""
    thinks = thinks_first(prompt_format, style, thinking=thinking)
    examples = exemplars if prompt_format.few_shot else ()
    return content_hash(
        [
            TEMPLATE_VERSION,
            prompt_format,
            style,
            [
                [
                    exemplar.question,
                    list(exemplar.options),
                    exemplar.passage,
                    exemplar.reasoning,
                    exemplar.answer,
                ]
                for exemplar in examples
            ],
            *(["thinking"] if thinks else []),
        ]
    )

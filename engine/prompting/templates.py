"""How a question is put to a model.

Four formats (Huang et al. 2022, Table 2): few-shot with reasoning, few-shot with the reasoning
removed, the question with "Let's think step by step.", and the question alone. Each exists in two
styles: plain text for a base model to continue, and turns of a chat for a model with a template.
The training set is made of the same prompts that are sampled, so they are made here only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.inference.backend import Message
from store.enums import AnswerType, PromptFormat, PromptStyle
from store.records import Question, content_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from engine.prompting.tasks import Exemplar

TEMPLATE_VERSION = 1
"""Part of the prompt's hash: raise it when any text below changes."""

STEP_BY_STEP = "Let's think step by step."
"""Kojima et al. 2022; the paper's format 3."""

_CHAT_REASONING = "Think step by step. Finish with one sentence of the form: The answer is ..."
_CHAT_DIRECT = "Give the answer only, as one sentence of the form: The answer is ..."

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt ready to be tokenised."""

    text: str
    """Plain text; for a chat, its turns as a JSON list of `[role, content]`."""
    style: PromptStyle
    shared: int
    """Characters at the start of `text` that are the same for every question of the run (the
    worked examples); 0 for a chat, whose template decides."""

    def messages(self) -> tuple[Message, ...]:
        """The turns of a chat prompt."""
        return tuple(Message(role, content) for role, content in json.loads(self.text))


def question_text(
    answer_type: AnswerType, text: str, options: Sequence[str] = (), passage: str = ""
) -> str:
    """The question as a person would read it: passage, question, lettered choices."""
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
    """The sentence that states a canonical answer, such as ` The answer is 9.`"""
    if answer_type is AnswerType.CHOICE:
        return f" The answer is ({answer.lower()})."
    if answer_type is AnswerType.MATH:
        return f" The answer is ${answer}$."
    return f" The answer is {answer}."


def _exemplar_text(answer_type: AnswerType, exemplar: Exemplar) -> str:
    return question_text(answer_type, exemplar.question, exemplar.options, exemplar.passage)


def _worked(answer_type: AnswerType, exemplar: Exemplar, *, reasons: bool) -> str:
    sentence = answer_sentence(answer_type, exemplar.answer)
    return f" {exemplar.reasoning.strip()}{sentence}" if reasons else sentence


def render(
    question: Question,
    prompt_format: PromptFormat,
    style: PromptStyle,
    exemplars: Sequence[Exemplar],
) -> Prompt:
    """The prompt of a question.

    Args:
        question: what is asked.
        prompt_format: one of the paper's four.
        style: plain text or chat.
        exemplars: worked examples of the question's task; not used by zero-shot formats.
    """
    asked = question_text(question.answer_type, question.text, question.options, question.passage)
    examples = exemplars if prompt_format.few_shot else ()
    if style is PromptStyle.CHAT:
        return _render_chat(question.answer_type, asked, prompt_format, examples)
    shared = "".join(
        f"Q: {_exemplar_text(question.answer_type, one)}\n"
        f"A:{_worked(question.answer_type, one, reasons=prompt_format.reasons)}\n\n"
        for one in examples
    )
    opening = f" {STEP_BY_STEP}" if prompt_format is PromptFormat.ZERO_SHOT_COT else ""
    return Prompt(f"{shared}Q: {asked}\nA:{opening}", style, len(shared))


def _render_chat(
    answer_type: AnswerType,
    asked: str,
    prompt_format: PromptFormat,
    examples: Sequence[Exemplar],
) -> Prompt:
    system = _CHAT_REASONING if prompt_format.reasons else _CHAT_DIRECT
    turns = [["system", system]]
    for one in examples:
        turns.append(["user", _exemplar_text(answer_type, one)])
        worked = _worked(answer_type, one, reasons=prompt_format.reasons)
        turns.append(["assistant", worked.strip()])
    turns.append(["user", asked])
    if prompt_format is PromptFormat.ZERO_SHOT_COT:
        turns.append(["assistant", STEP_BY_STEP])
    return Prompt(json.dumps(turns, ensure_ascii=False), PromptStyle.CHAT, 0)


def stop_strings(style: PromptStyle) -> tuple[str, ...]:
    """Where a path ends besides the end token: at the next question of a few-shot run."""
    return ("\nQ:",) if style is PromptStyle.BASE else ()


def prompt_hash(
    prompt_format: PromptFormat, style: PromptStyle, exemplars: Sequence[Exemplar]
) -> str:
    """Hash of everything in a prompt but the question; part of a run's key."""
    examples = exemplars if prompt_format.few_shot else ()
    return content_hash(
        [
            TEMPLATE_VERSION,
            prompt_format,
            style,
            [
                [one.question, list(one.options), one.passage, one.reasoning, one.answer]
                for one in examples
            ],
        ]
    )

"""Check that the longest prompts and their paths fit a model's context, before any are sampled.

The engines check each prompt when its first path begins, which may be after hours. Here only the
longest prompts are tokenized.
"""

from __future__ import annotations

from collections import defaultdict
from heapq import nlargest
from typing import TYPE_CHECKING

from engine.inference import loading
from engine.inference.rendered_prompt import render_prompts
from engine.models.chat_templates import template_in
from engine.models.metadata import facts_of
from engine.project.settings import Engine
from engine.prompting.tasks import exemplars_for
from engine.prompting.templates import Prompt, render
from store.enums import PromptStyle
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from engine.inference.backend import Backend
    from engine.project.folder import Project
    from store.records import Model, Question, Run

LONGEST = 4
"""Prompts of each task that are tokenized: those with the most bytes."""
TEMPLATE_BYTES = 1000
"""Bytes that a chat template may add to a prompt. A prompt that fits with them is not tokenized: a
token is at least one byte."""
QUOTED = 60
"""Characters of a question that are quoted."""

_tokens: dict[tuple[str, str, Prompt], int] = {}
"""Lengths by tokenizer, chat template and prompt; counting takes a second."""
_MOST_KNOWN = 500


def check_planned(project: Project, model: Model, run: Run, questions: Sequence[Question]) -> None:
    """Check the prompts of a run against the model's files, without loading it.

    Args:
        project: the folder of the model's files, and the settings of the job.
        model: that samples the run.
        run: as it would be stored.
        questions: of the run; the longest of each task are enough (`questions.longest`).

    Raises:
        BadInput: a prompt with its path does not fit.
    """
    location = loading.prompt_location(project, model, project.settings.model)
    if location is None or not location.exists():
        return  # files that are not there are reported when they are needed
    context = facts_of(location).context
    if context is None:
        return
    doubtful = [
        (question, prompt)
        for question, prompt in _longest(questions, renderer(project, run, questions))
        if _size(prompt) + TEMPLATE_BYTES + run.max_tokens > context
    ]
    try:
        tokens = _count(location, [prompt for _, prompt in doubtful])
    except WorkFailed:
        return  # the job finds out
    counted = [(count, question) for count, (question, _) in zip(tokens, doubtful, strict=True)]
    _check(model, run, context, counted)


def check_loaded(
    backend: Backend,
    model: Model,
    run: Run,
    questions: Sequence[Question],
    prompt_of: Callable[[Question], Prompt],
) -> None:
    """Check the prompts of a run with the loaded model.

    Raises:
        BadInput: a prompt with its path does not fit.
    """
    if backend.name == Engine.SERVER:
        return  # it may not tell tokens or context

    def count(prompt: Prompt) -> int:
        if prompt.style is PromptStyle.CHAT:
            return len(backend.tokenize_chat(prompt.messages(), thinking=prompt.thinking))
        return len(backend.tokenize(prompt.text))

    counted = [(count(prompt), question) for question, prompt in _longest(questions, prompt_of)]
    _check(model, run, backend.context_length, counted)


def renderer(
    project: Project, run: Run, questions: Sequence[Question]
) -> Callable[[Question], Prompt]:
    """Renders the prompt of each of a run's questions with the project's settings."""
    sample = project.settings.sample
    exemplars = {
        task: exemplars_for(project, sample, task) for task in {each.task for each in questions}
    }
    return lambda question: render(
        question,
        run.prompt_format,
        run.prompt_style,
        exemplars[question.task],
        thinking=sample.thinking,
    )


def _longest(
    questions: Sequence[Question], prompt_of: Callable[[Question], Prompt]
) -> list[tuple[Question, Prompt]]:
    """The questions of each task with the longest prompts."""
    by_task: defaultdict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_task[question.task].append(question)
    return [
        (question, prompt_of(question))
        for of_task in by_task.values()
        for question in nlargest(LONGEST, of_task, key=lambda each: _size(prompt_of(each)))
    ]


def _size(prompt: Prompt) -> int:
    return len(prompt.text.encode())


def _count(location: Path, prompts: Sequence[Prompt]) -> list[int]:
    """Tokens of each prompt, counted in a process of its own unless they are known."""
    if not prompts:
        return []
    chats = any(prompt.style is PromptStyle.CHAT for prompt in prompts)
    of_model = facts_of(location).tokenizer_sha256, template_in(location) if chats else ""
    unknown = [prompt for prompt in dict.fromkeys(prompts) if (*of_model, prompt) not in _tokens]
    if unknown:
        if len(_tokens) > _MOST_KNOWN:
            _tokens.clear()
        for prompt, rendered in zip(unknown, render_prompts(location, unknown), strict=True):
            _tokens[*of_model, prompt] = rendered.tokens
    return [_tokens[*of_model, prompt] for prompt in prompts]


def _check(model: Model, run: Run, context: int, counted: Sequence[tuple[int, Question]]) -> None:
    """Check the longest of some prompts, each given as (tokens, question)."""
    tokens, question = max(counted, key=lambda each: each[0], default=(0, None))
    left = context - tokens
    if question is None or run.max_tokens <= left:
        return
    most = f"lower sample.max_tokens to at most {left:,}, or " if left > 0 else ""
    text = " ".join(question.text.split())
    quoted = text if len(text) <= QUOTED else f"{text[:QUOTED]}…"
    raise BadInput(
        f"The longest prompt has {tokens:,} tokens and its path may have {run.max_tokens:,}, but "
        f"the context of {model.name} holds {context:,}: {most}use fewer worked examples "
        f'(the question is "{quoted}").'
    )

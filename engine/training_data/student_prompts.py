"""The style in which a model is trained on a set, and the set's examples in that style.

A student may have another chat template than its teacher, or none. It is asked in its own style
when it is measured, so it is trained in that style, too: on prompts rendered for it and on the text
of the teacher's paths.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.project.settings import Engine
from engine.prompting.tasks import exemplars_for
from engine.prompting.templates import render
from engine.sampling import runs
from store import models, paths, questions
from store.enums import PromptFormat, PromptStyle
from store.records import content_hash

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from engine.project.folder import Project
    from engine.project.settings import Settings
    from engine.prompting.templates import Prompt
    from store.records import Example, Model, TrainingSet


def set_style(conn: sqlite3.Connection, frozen: TrainingSet) -> PromptStyle:
    """The style of a set's own prompts: the one in which its paths were sampled."""
    return paths.run_by_id(conn, frozen.run_id).prompt_style


def training_style(
    conn: sqlite3.Connection,
    project: Project,
    settings: Settings,
    frozen: TrainingSet,
    model: Model,
) -> PromptStyle:
    """The style in which a model is trained on a set.

    That is the style of the set for the model that sampled it and for the base of that model, and
    for others the style in which they are measured.
    """
    sampled_from = models.by_id(conn, paths.run_by_id(conn, frozen.run_id).model_id)
    if model.id in (sampled_from.id, sampled_from.base_id):
        return set_style(conn, frozen)
    # Any engine shows the same template; the one of the settings may not read the model's format.
    any_engine = replace(settings.model, engine=Engine.AUTO)
    return runs.style_of(conn, project, any_engine, model, settings.sample)


def in_style(
    conn: sqlite3.Connection,
    project: Project,
    settings: Settings,
    examples: Sequence[Example],
    frozen: TrainingSet,
    style: PromptStyle,
) -> list[Example]:
    """The examples of a set with prompts in another style.

    Completions become plain text that is tokenized again, since their sampled tokens continue
    another prompt.

    Args:
        conn: a connection that cannot read known answers.
        project: the folder of the worked examples.
        settings: `sample.exemplars` and `sample.thinking` are part of the prompts.
        examples: of the set.
        frozen: the set.
        style: of the result. For the set's own style, the examples are returned unchanged.
    """
    if style is set_style(conn, frozen):
        return list(examples)
    by_id = questions.by_ids(conn, {example.question_id for example in examples})
    exemplars = {
        task: exemplars_for(project, settings.sample, task)
        for task in {question.task for question in by_id.values()}
    }
    prompts: dict[tuple[int, PromptFormat], Prompt] = {}
    changed = []
    for example in examples:
        key = (example.question_id, example.prompt_format)
        if key not in prompts:
            question = by_id[example.question_id]
            prompts[key] = render(
                question,
                example.prompt_format,
                style,
                exemplars[question.task],
                thinking=settings.sample.thinking,
            )
        changed.append(
            replace(
                example,
                prompt=prompts[key].text,
                shared=prompts[key].shared,
                completion=_completion(example.completion, example.prompt_format, style),
                token_ids=(),
            )
        )
    return changed


def tokens_key(
    conn: sqlite3.Connection,
    project: Project,
    settings: Settings,
    frozen: TrainingSet,
    model: Model,
) -> str:
    """The name under which a set's token counts for a model are stored.

    The hash of its tokenizer; models with the same tokenizer and another style have other counts.
    """
    style = training_style(conn, project, settings, frozen, model)
    if style is set_style(conn, frozen):
        return model.tokenizer_sha256
    return content_hash([model.tokenizer_sha256, style])


def _completion(text: str, prompt_format: PromptFormat, style: PromptStyle) -> str:
    """A path or an answer as the continuation of a prompt in a style.

    A chat message begins with its first word, unless the prompt has begun it already; plain text
    continues after "A:".
    """
    begins_message = style is PromptStyle.CHAT and prompt_format is not PromptFormat.ZERO_SHOT_COT
    return text.strip() if begins_message else f" {text.strip()}"

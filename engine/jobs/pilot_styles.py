"""`pilot --styles`: sample a few questions in each style in which a model can be asked."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from engine.evaluation import accuracy, pilot_styles
from engine.inference import prompt_style
from engine.jobs import converted_copy, lookups
from engine.jobs.pilot import usable_questions
from engine.project.settings import StyleChoice
from engine.sampling import completion, runs
from store import paths
from store.connection import transaction
from store.enums import Phase, Split
from store.errors import BadInput

if TYPE_CHECKING:
    from engine.project.job_context import Work


def run(work: Work) -> dict[str, object]:
    """Sample the first of the job's `models` in each style on its `styles` questions.

    Raises:
        BadInput: no question has a known answer, or the model has no chat template that works.
    """
    count = work.params["styles"]
    assert isinstance(count, int)
    (model, *_) = lookups.models_to_measure(work.conn, work.params.get("models"))
    settings = work.settings
    if not prompt_style.usable_template(work.project, model, settings.model):
        raise BadInput(
            f"{model.name} has no chat template that lmsi-tui can use, so there is one style only: "
            "`lmsi-tui pilot` measures it."
        )
    measured = usable_questions(work.conn)[:count]
    sample = accuracy.sampling_of(settings, greedy=False)
    tasks = [question.task for question in measured]
    requested = [
        runs.requested_run(
            *(work.conn, work.project, settings.model, model, Split.EVAL),
            *(replace(sample, style=StyleChoice(style)), prompt_format, tasks),
        )
        for style, prompt_format in pilot_styles.STYLES
    ]
    with transaction(work.conn):
        opened = [paths.open_run(work.conn, request) for request in requested]
    copy = converted_copy.of(work, model, opened, measured)
    with completion.model_loader(work, model, opened, measured, copy) as load:
        for begun in opened:
            title = f"asking {model.name}: {begun.prompt_style}, {begun.prompt_format}"
            completion.sample_missing(work, begun, load, measured, title, Phase.MEASURING)
    return {
        "runs": [begun.id for begun in opened],
        "questions": [question.id for question in measured],
    }

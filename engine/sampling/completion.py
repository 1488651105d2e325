"""Sample what is missing of a run: load the model only when paths are missing."""

from __future__ import annotations

from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from engine.inference import engine_selection, loading
from engine.inference.chat_template import layout_in
from engine.inference.prompt_lengths import SequenceLengths, measure_lengths
from engine.models.location import files_needed
from engine.project.folder import Project
from engine.project.settings import Engine
from engine.prompting.templates import Prompt, after_solution
from engine.sampling import context_check, scheduler
from engine.sampling.reextraction import Rereading, read_outdated_again
from engine.sampling.runs import STRENGTH
from store import inference_sessions, models, paths
from store.enums import Phase, PromptStyle
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from engine.inference.backend import Backend
    from engine.inference.engine_selection import ConvertedCopy
    from engine.project.job_context import Work
    from engine.prompting.templates import Prompt
    from store.records import Model, Question, Run


def sample_missing(
    work: Work,
    run: Run,
    load: Callable[[], Backend],
    questions: Sequence[Question],
    title: str,
    phase: Phase = Phase.SAMPLING,
    solutions: Mapping[int, str] | None = None,
) -> Rereading:
    """Sample the missing paths of a run until every vote is settled.

    Args:
        work: the job.
        run: whose paths are sampled.
        load: gives the loaded model; called only when paths are missing.
        questions: the run's questions.
        title: what the job shows meanwhile.
        phase: of the job meanwhile.
        solutions: worked solutions that the prompts show, by question id.

    Returns:
        What changed because an older reader had read the paths that were stored before.
    """
    _check_chat_layout(work, run)
    rereading = read_outdated_again(work, run, questions)
    missing = scheduler.unsettled(work.conn, run, questions)
    work.progress.begin(title, len(questions), len(questions) - len(missing), phase=phase, run=run)
    if missing:
        prompt_of = prompts_of(work, run, questions, solutions)
        before = len(questions) - len(missing)
        backend = load()
        model = models.by_id(work.conn, run.model_id)
        context_check.check_loaded(backend, model, run, missing, prompt_of)
        # Loading may have been a phase of its own.
        work.progress.begin(title, len(questions), before, phase=phase, run=run)
        scheduler.sample(work.conn, backend, run, missing, prompt_of, work.progress, settled=before)
    return rereading


def _check_chat_layout(work: Work, run: Run) -> None:
    """Check that the stored paths of a run were sampled from the prompts of today.

    Earlier, a template that takes no system turn or no plain text left out what it could not show,
    and one that can switch thinking off was not asked to.
    Such paths must not be counted with new ones.

    Raises:
        BadInput: they were sampled from other prompts, or the template cannot be used.
    """
    layout = _chat_layout(work, run, models.by_id(work.conn, run.model_id))
    if not layout or not paths.counts(work.conn, run.id).paths:
        return
    sessions = inference_sessions.of_run(work.conn, run.id)
    if not any(session.details.get("chat_layout") == layout for session in sessions):
        raise BadInput(
            "The stored paths of this run were sampled by an older version with other prompts: "
            "the chat template left out the question or the instructions, or let the model think. "
            "Set sample.seed (for a measurement evaluate.seed) to another number to sample new "
            "ones."
        )


def _chat_layout(work: Work, run: Run, model: Model) -> str:
    """The name of the layout that a run's chats have; "" for the most common one."""
    if run.prompt_style is not PromptStyle.CHAT:
        return ""
    location = loading.prompt_location(work.project, model, work.settings.model)
    # A model that is not there is reported when it is needed.
    return layout_in(location).name if location is not None and location.exists() else ""


def prompts_of(
    work: Work, run: Run, questions: Sequence[Question], solutions: Mapping[int, str] | None = None
) -> Callable[[Question], Prompt]:
    """Renders the prompt of a run's question, after a solution of that question if there is one."""
    plain = context_check.renderer(Project(work.project.folder, work.settings), run, questions)
    if solutions is None:
        return plain

    def prompt_of(question: Question) -> Prompt:
        prompt = plain(question)
        if question.id not in solutions:
            return prompt
        return after_solution(prompt, solutions[question.id])

    return prompt_of


@contextmanager
def model_loader(
    work: Work,
    model: Model,
    runs: Sequence[Run],
    questions: Sequence[Question],
    copy: ConvertedCopy | None = None,
    strength: float = 1.0,
    solutions: Mapping[int, str] | None = None,
) -> Iterator[Callable[[], Backend]]:
    """Yield a function that loads the model at its first call, with room for these runs' prompts.

    Each load is stored with the runs: the engine, and what was measured to choose it.

    Args:
        work: the job.
        model: to be loaded, with its adapter if it has one.
        runs: that sample it.
        questions: of these runs.
        copy: of a model that exists only as GGUF, if it may be sampled instead of the file.
        strength: of the adapter whose files the model names.
        solutions: worked solutions that the prompts show, by question id.
    """
    opened: list[Backend] = []

    def load() -> Backend:
        if not opened:
            settings = work.settings.model
            longest = max(run.max_tokens for run in runs)
            loading.check_loadable(work.project, model, settings, longest)
            lengths = _sequence_lengths(work, model, runs, questions, solutions)
            machine = engine_selection.machine_key(settings)
            # A trained model is about as fast as its base.
            family = [model.id, *([model.base_id] if model.base_id else [])]
            earlier = [
                session for id_ in family for session in inference_sessions.of_model(work.conn, id_)
            ]
            past = engine_selection.past_measurements(earlier, machine, lengths)
            with files_needed(work.project, model, loading.files_needed_by(model, settings)):
                selected = engine_selection.open_fastest(
                    work.project, model, settings, lengths, past, copy
                )
            opened.append(selected.backend)
            layouts = {run.id: _chat_layout(work, run, model) for run in runs}
            for layout in dict.fromkeys(layouts.values()):
                inference_sessions.add(
                    work.conn,
                    [id_ for id_, its in layouts.items() if its == layout],
                    selected.backend.name,
                    selected.backend.version,
                    {
                        **selected.details,
                        **engine_selection.measurement_key(machine, lengths),
                        **({"chat_layout": layout} if layout else {}),
                        **({STRENGTH: strength} if strength != 1 else {}),
                    },
                )
        return opened[0]

    try:
        yield load
    finally:
        for backend in opened:
            backend.close()


def _sequence_lengths(
    work: Work,
    model: Model,
    runs: Sequence[Run],
    questions: Sequence[Question],
    solutions: Mapping[int, str] | None,
) -> SequenceLengths:
    """How long the prompts of these runs are; in tokens for llama.cpp, which plans its context."""
    prompts: list[list[Prompt]] = []
    for run in runs:
        prompt_of = prompts_of(work, run, questions, solutions)
        by_task: defaultdict[str, list[Prompt]] = defaultdict(list)
        for question in questions:
            by_task[question.task].append(prompt_of(question))
        prompts += by_task.values()
    path = max(run.max_tokens for run in runs)
    engine = loading.chosen_engine(model, work.settings.model)
    if engine in (Engine.AUTO, Engine.LLAMA_CPP) and model.gguf:
        from engine.inference.llama.vocabulary import measure_prompts

        return measure_prompts(work.project.inside(model.gguf), prompts, path)
    # The other engines measure by themselves; a token is at least one byte.
    return measure_lengths(prompts, path, lambda prompt: len(prompt.text.encode()))

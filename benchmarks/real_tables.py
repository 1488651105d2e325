"""The tables of `benchmarks.real`: what the models of a project gained, and from which labels."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from engine.answers.extraction import equal
from engine.evaluation.accuracy import compare
from engine.evaluation.pilot_styles import difference_interval
from engine.statistics.intervals import wilson
from lmsi_tui.formatting.numbers import duration, percent, points, probability
from store import evaluations, examples, models, paths, questions, votes
from store.connection import connect
from store.enums import Method, Split, Stage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from engine.importing.questions import Imported
    from engine.project.folder import Project
    from store.records import Evaluation, Model, Question, Run, TrainingSet

METHODS = {
    Method.DIRECT: "direct",
    Method.COT: "greedy",
    Method.SINGLE: "one path",
    Method.SC: "vote",
}


def tables(project: Project, known: Imported, seconds: Mapping[str, float]) -> str:
    """Everything that was measured, as Markdown.

    Args:
        project: with at least the evaluation of its teacher.
        known: the questions with their known answers, those of the pool included.
        seconds: of each stage, by its command.
    """
    with connect(project.database, read_only=True) as conn:
        return "\n\n".join(
            "\n".join(block)
            for block in (
                _accuracies(conn),
                _comparisons(conn, known.gold),
                _paths(conn),
                _labels(conn, project, known),
                _times(seconds),
            )
        )


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (headers, ["---"] * len(headers), *rows)]


def _accuracies(conn: sqlite3.Connection) -> list[str]:
    newest = evaluations.newest(conn)
    n, k = (max(numbers) for numbers in zip(*((e.n, e.k) for e in newest.values()), strict=True))
    rows = []
    for model in models.all_of(conn):
        measured = [newest.get((model.id, Split.EVAL, method)) for method in METHODS]
        if measured[-1] and measured[-1].k < k:
            measured[-1] = None  # a vote of fewer paths
        if any(measured):
            rows.append([model.name, *map(_accuracy, measured)])
    title = f"Accuracy in %, n = {n:,}, 95 % intervals; a vote has {k} paths:"
    return [title, "", *_table(["model", *METHODS.values()], rows)]


def _accuracy(evaluation: Evaluation | None) -> str:
    if evaluation is None:
        return "–"
    low, high = percent(evaluation.low), percent(evaluation.high)
    return f"{percent(evaluation.accuracy)} ({low} to {high})"


def _comparisons(conn: sqlite3.Connection, gold: Mapping[str, Sequence[str]]) -> list[str]:
    newest = evaluations.newest(conn)
    rows = []
    for before, after in _pairs(models.all_of(conn)):
        for method, title in METHODS.items():
            if method is Method.DIRECT:
                continue
            first = newest.get((before.id, Split.EVAL, method))
            second = newest.get((after.id, Split.EVAL, method))
            if not (first and second) or first.k != second.k:
                continue
            if method is Method.SC and first.k == 1:
                continue  # the same as one path
            if compared := compare(conn, first, second):
                result = compared.result
                interval = f"{points(result.low)} to {points(result.high)}"
                gain = f"{points(result.gain)} ({interval})"
                flips = [str(result.won), str(result.lost)]
                rows.append([before.name, after.name, title, gain, probability(result.p), *flips])
            if method is Method.SC:
                gain = _gain_of_all_paths(conn, first, second, gold)
                rows.append([before.name, after.name, "all paths", gain, "–", "–", "–"])
    headers = ["before", "after", "method", "gain in points (95 %)", "p"]
    headers += ["wrong to right", "right to wrong"]
    title = (
        "Paired differences (McNemar's exact test; all paths of a vote: bootstrap over questions):"
    )
    return [title, "", *_table(headers, rows)]


def _gain_of_all_paths(
    conn: sqlite3.Connection,
    first: Evaluation,
    second: Evaluation,
    gold: Mapping[str, Sequence[str]],
) -> str:
    """The difference of the shares of right paths, in points, with its 95 % interval."""
    before, after = (_right_shares(conn, evaluation, gold) for evaluation in (first, second))
    common = sorted(before.keys() & after.keys())
    shares, others = [after[id_] for id_ in common], [before[id_] for id_ in common]
    low, high = difference_interval(shares, others)
    gain = (sum(shares) - sum(others)) / len(common)
    return f"{points(gain)} ({points(low)} to {points(high)})"


def _right_shares(
    conn: sqlite3.Connection, evaluation: Evaluation, gold: Mapping[str, Sequence[str]]
) -> dict[int, float]:
    """The share of right paths among the k of each question, by its id."""
    asked = {question.id: question for question in questions.by_split(conn, evaluation.split)}
    answers = paths.answers_by_question(conn, evaluation.run_id, list(asked))
    return {
        id_: sum(_is_right(asked[id_], by_index[index], gold) for index in range(evaluation.k))
        / evaluation.k
        for id_, by_index in answers.items()
        if all(index in by_index for index in range(evaluation.k))
    }


def _pairs(all_models: Sequence[Model]) -> Iterator[tuple[Model, Model]]:
    """Each trained model with its base, and each LMSI model and student with its control."""
    by_id = {model.id: model for model in all_models}
    for model in all_models:
        if model.base_id is not None:
            yield by_id[model.base_id], model
    for control in all_models:
        for model in all_models:
            if (
                control.stage is Stage.CONTROL
                and model.stage in (Stage.LMSI, Stage.DISTILLED)
                and model.base_id == control.base_id
            ):
                yield control, model


def _paths(conn: sqlite3.Connection) -> list[str]:
    rows = []
    for run in paths.runs(conn):
        counts = paths.counts(conn, run.id)
        if counts.paths and run.prompt_format.reasons:
            tokens, seconds = paths.pace(conn, run.id)
            rows.append(
                [
                    models.by_id(conn, run.model_id).name,
                    run.split,
                    f"{run.prompt_format}, {run.prompt_style}",
                    f"{run.temperature:g}",
                    f"{counts.paths:,}",
                    f"{counts.tokens / counts.paths:.0f}",
                    percent(counts.abstained / counts.paths),
                    percent(1 - counts.ended / counts.paths),
                    f"{tokens / seconds:.0f}" if seconds else "–",
                ]
            )
    headers = ["model", "questions", "prompt", "temperature", "paths", "tokens a path"]
    headers += ["no answer, %", "cut off, %", "tokens/s"]
    return ["Sampled paths:", "", *_table(headers, rows)]


def _labels(conn: sqlite3.Connection, project: Project, known: Imported) -> list[str]:
    """How many labels of each training set are right, by the known answers of the pool."""
    pool = {question.id: question for question in questions.by_split(conn, Split.POOL)}
    rows = []
    for frozen in examples.sets(conn):
        run = paths.run_by_id(conn, frozen.run_id)
        trained = [model for model in models.all_of(conn) if model.training_set == frozen.key]
        names = ", ".join(model.name for model in trained) or "–"
        right = _right_paths(conn, frozen, run, pool, known.gold)
        by_question = {question_id: True for question_id, _ in right}
        rows.append(
            [
                names,
                f"{frozen.questions:,} of {len(pool):,}",
                f"{len(right):,}",
                _share(sum(is_right for _, is_right in right), len(right)),
                _share(_kept_right(conn, frozen, run, pool, known.gold), len(by_question)),
                _training(project, trained),
            ]
        )
    headers = ["training set of", "questions", "paths", "paths right, %", "votes right, %"]
    return [
        "Training sets; the known answers of the pool are used only here:",
        "",
        *_table([*headers, "trained with"], rows),
    ]


def _right_paths(
    conn: sqlite3.Connection,
    frozen: TrainingSet,
    run: Run,
    pool: Mapping[int, Question],
    gold: Mapping[str, Sequence[str]],
) -> list[tuple[int, bool]]:
    """(question id, whether the answer is right) of each path of a training set."""
    ids = {row.path_id for row in examples.examples(conn, frozen.key)}
    return [
        (question.id, _is_right(question, reading.answer, gold))
        for question in pool.values()
        for path, reading in paths.for_question(conn, run.id, question.id)
        if path.id in ids
    ]


def _kept_right(
    conn: sqlite3.Connection,
    frozen: TrainingSet,
    run: Run,
    pool: Mapping[int, Question],
    gold: Mapping[str, Sequence[str]],
) -> int:
    """How many questions of a training set have a right winner of the vote."""
    used = {row.question_id for row in examples.examples(conn, frozen.key)}
    return sum(
        _is_right(pool[vote.question_id], vote.winner, gold)
        for vote in votes.for_run(conn, run.id)
        if vote.question_id in used
    )


def _is_right(question: Question, answer: str | None, gold: Mapping[str, Sequence[str]]) -> bool:
    return answer is not None and any(
        equal(question.answer_type, answer, accepted) for accepted in gold[question.key]
    )


def _share(count: int, total: int) -> str:
    if not total:
        return "–"
    low, high = wilson(count, total)
    return f"{percent(count / total)} ({percent(low)} to {percent(high)})"


def _training(project: Project, trained: Sequence[Model]) -> str:
    """Steps, tokens and validation losses of each training."""
    texts = []
    for model in trained:
        folder = project.inside(model.adapter or model.location)
        result = json.loads((folder / "training.json").read_text())["trained"]
        text = f"{result['steps']} steps, {result['scored_tokens']:,} tokens"
        if result["validation_loss"] is not None:
            before, after = result["first_validation_loss"], result["validation_loss"]
            text += f", validation loss {before:.3f} to {after:.3f}"
        texts.append(text)
    return "; ".join(texts)


def _times(seconds: Mapping[str, float]) -> list[str]:
    rows = [[f"`{name}`", duration(spent)] for name, spent in seconds.items()]
    return ["Time of each stage:", "", *_table(["stage", "time"], rows)]

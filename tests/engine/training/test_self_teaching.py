"""What a model predicts along its losing paths, once a kept path is in its prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from engine.demo.project import make_demo
from engine.jobs import curate, sample
from engine.packing.encoding import encode
from engine.project.job_context import PauseRequested, Progress
from engine.project.objectives import Objective
from engine.project.settings import TrainSettings
from engine.prompting.templates import Prompt, after_solution
from engine.training import passes
from engine.training.distillation import with_teacher
from engine.training.kl_divergence import top_k_logprobs
from engine.training.model import end_tokens, load_model
from engine.training.self_teaching import TOP_K, taught_logprobs
from engine.training.split import split_examples
from engine.training.taught_paths import taught_paths
from engine.training_data.losing_paths import losing_examples
from store import examples, models, paths
from store.connection import connect
from store.enums import JobKind
from tests.projects import claimed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.job_context import Work
    from store.records import Example, TrainingSet


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Work, TrainingSet]]:
    """A curated set of paths that a real model sampled."""
    project = make_demo(
        tmp_path_factory.mktemp("teach") / "demo",
        pool=12,
        evaluation=4,
        changes={
            "sample": {"m": 8, "early_stop": "off", "threshold": "0.3", "cap": 3},
            "model": {"teacher": "pebble-s/base", "students": []},
        },
    )
    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.FINETUNE)
        sample.run(work)
        curate.run(work)
        yield work, examples.sets(conn)[-1]


def rows_of(work: Work, frozen: TrainingSet) -> tuple[list[Example], list[Example]]:
    kept = examples.examples(work.conn, frozen.key)
    run = paths.run_by_id(work.conn, frozen.run_id)
    return kept, taught_paths(run, losing_examples(work.conn, frozen, kept))


def test_it_is_taught_along_the_losing_paths_as_they_were_sampled(
    demo: tuple[Work, TrainingSet],
) -> None:
    work, frozen = demo
    kept, taught = rows_of(work, frozen)
    run = paths.run_by_id(work.conn, frozen.run_id)
    kept_ids = {row.path_id for row in kept}
    prompts = {
        row.question_id: row.prompt for row in kept if row.prompt_format == run.prompt_format
    }
    assert taught
    assert len({row.path_id for row in taught}) == len(taught)
    for row in taught:
        assert row.path_id not in kept_ids
        assert row.prompt == prompts[row.question_id]


def test_the_targets_are_those_of_a_full_forward_pass_under_the_longer_prompt(
    demo: tuple[Work, TrainingSet], tmp_path: Path
) -> None:
    work, frozen = demo
    kept, taught = rows_of(work, frozen)
    targets = taught_logprobs(work, frozen, kept, taught, tmp_path)
    run = paths.run_by_id(work.conn, frozen.run_id)
    model = load_model(
        work.project.inside(models.by_id(work.conn, run.model_id).location),
        TrainSettings(method="full"),
    )
    solutions = {row.question_id: row.completion for row in reversed(kept) if row.path_id}
    assert targets
    for row in taught:
        if row.path_id not in targets:
            continue
        asked = Prompt(row.prompt, run.prompt_style, row.shared)
        shown = replace(row, prompt=after_solution(asked, solutions[row.question_id]).text)
        (tokens,) = encode([shown], model.tokenizer, run.prompt_style, end_tokens(model))
        with torch.no_grad():
            logits = model.causal(torch.tensor([tokens.tokens])).logits[0]
        begin = len(tokens.prompt) - 1
        expected = top_k_logprobs(logits[begin : begin + len(row.token_ids)], TOP_K)
        actual = targets[row.path_id]
        assert actual.logprobs.shape == (len(row.token_ids), TOP_K + 1)
        assert actual.logprobs[:, 0] == pytest.approx(expected.logprobs[:, 0], abs=5e-3)


def test_an_interrupted_pass_continues(
    demo: tuple[Work, TrainingSet], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, frozen = demo
    kept, taught = rows_of(work, frozen)
    whole = taught_logprobs(work, frozen, kept, taught, tmp_path / "whole")
    for module in ("teacher_logits", "self_teaching"):
        monkeypatch.setattr(f"engine.training.{module}.CHUNK", 4)
    advance, chunks = Progress.advance, 0

    def stop(self: Progress, *counts: Any) -> None:
        nonlocal chunks
        chunks += 1
        advance(self, *counts)
        if chunks == 2:
            raise PauseRequested

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", stop)
        with pytest.raises(PauseRequested):
            taught_logprobs(work, frozen, kept, taught, tmp_path / "parts")
    assert chunks == 2
    with monkeypatch.context() as patch:
        patch.setattr(Progress, "advance", stop)
        parts = taught_logprobs(work, frozen, kept, taught, tmp_path / "parts")
    assert chunks < 2 + len(whole) / 4, "the first chunks were not computed again"
    assert parts.keys() == whole.keys()
    for path_id, target in whole.items():
        assert parts[path_id].logprobs[:, 0] == pytest.approx(target.logprobs[:, 0], abs=5e-3)


def test_the_loss_is_the_divergence_alone_also_of_held_out_questions(
    demo: tuple[Work, TrainingSet], tmp_path: Path
) -> None:
    work, frozen = demo
    kept, taught = rows_of(work, frozen)
    targets = taught_logprobs(work, frozen, kept, taught, tmp_path)
    rows = [
        replace(row, validation=number % 3 == 0)
        for number, row in enumerate(row for row in taught if row.path_id in targets)
    ]
    run = paths.run_by_id(work.conn, frozen.run_id)
    location = work.project.inside(models.by_id(work.conn, run.model_id).location)
    settings = TrainSettings(objective=Objective.TEACH)
    model = load_model(location, settings)
    training, validation = split_examples(
        model, "pebble-s", rows, settings, run.prompt_style, targets, None
    )
    assert len(training) + len(validation) == len(rows)
    for example in (*training, *validation):
        assert example.teacher is not None
        assert (example.mix, len(example.completion)) == (1.0, len(example.teacher.token_ids))
    # A model that is shown the same prompt as its teacher has nothing to learn.
    prompted = [
        replace(
            row,
            prompt=after_solution(
                Prompt(row.prompt, run.prompt_style, row.shared),
                next(
                    each.completion
                    for each in kept
                    if each.question_id == row.question_id and each.path_id
                ),
            ).text,
        )
        for row in rows
    ]
    encoded = encode(prompted, model.tokenizer, run.prompt_style, end_tokens(model))
    shown = with_teacher(encoded, prompted, targets, 0.0, alone=True)
    assert passes.mean_loss(model, passes.pack_rows(model, shown)) == pytest.approx(0, abs=1e-4)
    assert passes.mean_loss(model, passes.pack_rows(model, validation)) > 1e-3

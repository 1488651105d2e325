"""Teach a model where it disagreed with its own majority (U-OPSD, arXiv 2608.06296).

The teacher is the model that sampled the paths, with a kept path of the question in its prompt. The
student learns, along the losing paths of the same question and without that path in its prompt,
which tokens the teacher finds likely. So it is corrected where it goes wrong by itself, on text
that it writes by itself, and no known answer is needed.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.prompting.templates import Prompt, after_solution
from engine.training.kl_divergence import read_top_k, write_top_k
from engine.training.teacher_logits import CHUNK, load_teacher, score_paths
from store import models, paths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.packing.encoding import TopKLogprobs
    from engine.project.job_context import Work
    from engine.training.model import TrainableModel
    from store.records import Example, Run, TrainingSet

TOP_K = 16
"""Tokens at each place that the student is compared on; all others count as one."""


def taught_logprobs(
    work: Work, frozen: TrainingSet, kept: Sequence[Example], taught: Sequence[Example], at: Path
) -> dict[int, TopKLogprobs]:
    """What the teacher predicts at each token of the losing paths.

    Its prompt has the first kept path of the question before the question. Paths that do not fit
    into the context with it are left out.

    Args:
        work: the job.
        frozen: the set.
        kept: all examples of the set.
        taught: as `taught_paths` returns them.
        at: folder for what was computed, from which an interrupted pass continues.

    Returns:
        By path id.
    """
    run = paths.run_by_id(work.conn, frozen.run_id)
    teacher = models.by_id(work.conn, run.model_id)
    prompted = _after_kept_paths(run, kept, taught)
    at.mkdir(parents=True, exist_ok=True)
    known: dict[int, TopKLogprobs] = {}
    for file in at.glob("teacher-*.npz"):
        known |= read_top_k(file)
    if all(row.path_id in known for row in prompted):
        return known
    model = load_teacher(work, teacher)
    fitting = _fitting(model, run, prompted)
    missing = [row for row in fitting if row.path_id not in known]

    def keep(scored: Mapping[int, TopKLogprobs]) -> None:
        write_top_k(at / f"teacher-{min(scored)}.npz", scored)
        known.update(scored)

    title = f"asking {teacher.name} again with its kept paths"
    score_paths(work, run, teacher, model, missing, TOP_K, keep, title, done=len(known))
    del model
    gc.collect()  # modules refer to each other: without this the weights may stay for long
    return known


def _after_kept_paths(
    run: Run, kept: Sequence[Example], taught: Sequence[Example]
) -> list[Example]:
    """The losing paths under the teacher's prompts."""
    solutions: dict[int, str] = {}
    for example in kept:
        if example.path_id is not None:
            solutions.setdefault(example.question_id, example.completion)
    prompted = []
    for row in taught:
        asked = Prompt(row.prompt, run.prompt_style, row.shared)
        prompt = after_solution(asked, solutions[row.question_id])
        prompted.append(replace(row, prompt=prompt.text, shared=prompt.shared))
    return prompted


def _fitting(model: TrainableModel, run: Run, prompted: Sequence[Example]) -> list[Example]:
    """Those that fit into the context of the teacher."""
    from engine.packing.encoding import encode
    from engine.training.model import context_length, end_tokens

    context = context_length(model)
    fitting: list[Example] = []
    for first in range(0, len(prompted), CHUNK):
        chunk = prompted[first : first + CHUNK]
        encoded = encode(chunk, model.tokenizer, run.prompt_style, end_tokens(model))
        fitting += [
            row for row, tokens in zip(chunk, encoded, strict=True) if len(tokens.tokens) <= context
        ]
    return fitting

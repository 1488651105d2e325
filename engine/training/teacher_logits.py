"""The scoring pass of a distillation: what the teacher thinks likely at every place of its paths.

It runs before the student trains, so that the two are never in memory together. Each kept path is
evaluated once, under the prompt that it was sampled with, and of the teacher's probabilities (at
temperature 1) the k likeliest are stored. A pass that was ended goes on where it stopped.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.conversion import gguf_to_hf
from engine.project.settings import TrainSettings
from engine.sampling import completion, runs
from engine.training.distillation import why_not_taught
from store import models as model_rows
from store import paths, questions, teacher_logits
from store.connection import transaction
from store.enums import Phase, Split
from store.errors import BadInput
from store.teacher_logits import TeacherLogits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from engine.packing.prefix_tree import Encoded, Row
    from engine.project.job_context import Work
    from engine.training.kl_divergence import Likely
    from engine.training.model import Learner
    from store.records import Example, Model, Run, TrainingSet

CHUNK = 64
"""Paths that are scored between two looks at what the person wants; they are stored together."""


def scored(
    work: Work, student: Model, frozen: TrainingSet, examples: Sequence[Example], k: int
) -> dict[int, Likely]:
    """What the teacher thought likely, for each path that the student learns from.

    Paths that are not stored yet are scored first; then the teacher is unloaded.

    Args:
        work: the job.
        student: to be trained.
        frozen: the set.
        examples: the student's, of the set.
        k: likeliest tokens at each place.

    Returns:
        By path id. Paths without token ids, and those of validation examples, are left out.

    Raises:
        BadInput: it cannot be, with what to do.
    """
    run = paths.run_by_id(work.conn, frozen.run_id)
    teacher = model_rows.by_id(work.conn, run.model_id)
    wanted = {
        one.path_id: one
        for one in examples
        if one.path_id is not None and one.token_ids and not one.validation and one.weight > 0
    }
    has_tokens = bool(wanted) or any(one.path_id and one.token_ids for one in examples)
    reason = why_not_taught(student, teacher, frozen, work.settings, has_tokens=has_tokens)
    if reason is not None:
        raise BadInput(reason)
    there = teacher_logits.stored(work.conn, wanted, k)
    missing = [one for path_id, one in wanted.items() if path_id not in there]
    if missing:
        prompts = _prompts(work, run, examples, {one.question_id for one in missing})
        _score(work, run, teacher, missing, prompts, k, done=len(there))
    return {
        path_id: _unpacked(one)
        for path_id, one in teacher_logits.of_paths(work.conn, wanted, k).items()
    }


def _prompts(
    work: Work, run: Run, examples: Sequence[Example], asked: set[int]
) -> Mapping[int, str]:
    """The text that each question was sampled with: from the set, where it has that format."""
    found = {
        one.question_id: one.prompt for one in examples if one.prompt_format is run.prompt_format
    }
    if asked <= found.keys():
        return found
    pool = questions.by_split(work.conn, Split.POOL)
    again = runs.requested_run(
        work.project,
        work.settings.model,
        model_rows.by_id(work.conn, run.model_id),
        Split.POOL,
        work.settings.sample,
        run.prompt_format,
        [one.task for one in pool],
    )
    if again.prompt_sha256 != run.prompt_sha256:
        raise BadInput(
            "The worked examples are others than those that the paths were sampled with, so the "
            f"teacher cannot be asked again: add {run.prompt_format} to curate.formats and curate "
            "again, or set distill.top_k_logits to 0."
        )
    prompt_of = completion.prompts_of(work, run, pool)
    return {one.id: prompt_of(one).text for one in pool if one.id in asked}


def _score(
    work: Work,
    run: Run,
    teacher: Model,
    missing: Sequence[Example],
    prompts: Mapping[int, str],
    k: int,
    *,
    done: int,
) -> None:
    from engine.packing import prefix_tree
    from engine.training import loss
    from engine.training import model as learner

    total = done + len(missing)
    work.progress.begin(
        f"reading what {teacher.name} thinks likely",
        total,
        done,
        phase=Phase.SCORING,
        run=run,
        model=teacher,
    )
    model = _loaded(work, teacher)
    asked = [
        replace(one, prompt=prompts[one.question_id], prompt_format=run.prompt_format, weight=1.0)
        for one in missing
    ]
    context = learner.context(model)
    if k >= len(model.tokenizer):
        raise BadInput(
            f"distill.top_k_logits is {k}, and {teacher.name} has {len(model.tokenizer)} tokens: "
            "give a smaller number."
        )
    for first in range(0, len(asked), CHUNK):
        chunk = asked[first : first + CHUNK]
        coded = prefix_tree.encode(chunk, model.tokenizer, run.prompt_style, learner.ends(model))
        for example, one in zip(chunk, coded, strict=True):
            if len(one.tokens) > context:
                raise BadInput(
                    f"Path {example.path_id} has {len(one.tokens):,} tokens with its prompt, and "
                    f"{teacher.name} takes {context:,}: set distill.top_k_logits to 0."
                )
        stored = []
        for row in loss.rows(model, coded):
            likely = _likely(model, row, k)
            for number, nodes in _places(row, coded).items():
                # An end that training appends was not sampled: there the path loss stands alone.
                places = nodes[: len(chunk[number].token_ids)]
                path_id = chunk[number].path_id
                assert path_id is not None
                stored.append(_packed(path_id, k, likely, places))
        with transaction(work.conn):
            teacher_logits.put(work.conn, stored)
            work.progress.advance(done + first + len(chunk), total)
        work.progress.look()
    del model
    gc.collect()  # modules refer to each other: without this the weights may stay for long


def _loaded(work: Work, teacher: Model) -> Learner:
    """The teacher as it was sampled, with its adapter merged into it."""
    from engine.training import model as learner

    threads = work.settings.model.threads
    if threads:
        import torch

        torch.set_num_threads(threads)
    # Full, because an adapter that is trained from here would stand between.
    location = gguf_to_hf.folder_of(work.project, teacher)
    if not location.is_dir():
        gguf_to_hf.unpack(work.project.inside(teacher.location), location)
    model = learner.load(location, TrainSettings(method="full"))
    if teacher.adapter is not None:
        from peft import PeftModel

        adapter = work.project.inside(teacher.adapter)
        merged: Any = PeftModel.from_pretrained(model.causal, adapter).merge_and_unload()
        model = replace(model, model=merged, causal=merged, weights={})
    model.causal.eval().requires_grad_(False)
    return model


def _likely(learner: Learner, row: Row, k: int) -> Likely:
    """At the scored tokens of a row, in its order."""
    import torch

    from engine.packing import prefix_tree
    from engine.training.kl_divergence import Likely, likely
    from engine.training.loss import HEAD_NUMBERS, at_scored

    (batch,) = prefix_tree.batches([row], learner.cost)
    batch = batch.to(learner.device)
    vocabulary = len(learner.tokenizer)
    halves = torch.autocast(learner.device.type, torch.bfloat16, enabled=learner.half)
    with torch.no_grad(), halves:
        found = at_scored(learner, batch)
        head = learner.causal.get_output_embeddings() if learner.shares else torch.nn.Identity()
        size = max(1, HEAD_NUMBERS // vocabulary)
        # Rows of the embedding behind the last token are padding, which a student may have none of.
        parts = [likely(head(part)[:, :vocabulary], k) for part in found.split(size)]
    return Likely(
        np.concatenate([one.token_ids for one in parts]),
        np.concatenate([one.logprobs for one in parts]),
    )


def _places(row: Row, coded: Sequence[Encoded]) -> dict[int, NDArray[np.int64]]:
    """Which of the row's scored tokens each example's completion is, by the example's number."""
    scored = np.flatnonzero(row.weights)
    found = {}
    for number, leaf in row.leaves.items():
        nodes, at = [], leaf
        for _ in coded[number].completion:
            nodes.append(at)
            at = int(row.parents[at])
        found[number] = np.searchsorted(scored, nodes[::-1])
    return found


def _packed(path_id: int, k: int, likely: Likely, places: NDArray[np.int64]) -> TeacherLogits:
    ids, logprobs = likely.token_ids[places], likely.logprobs[places]
    return TeacherLogits(path_id, k, ids.astype("<u4").tobytes(), logprobs.astype("<f2").tobytes())


def _unpacked(one: TeacherLogits) -> Likely:
    from engine.training.kl_divergence import Likely

    return Likely(
        np.frombuffer(one.token_ids, "<u4").reshape(-1, one.k),
        np.frombuffer(one.logprobs, "<f2").reshape(-1, one.k + 1),
    )

"""The scoring pass of a distillation: the teacher's top-k log-probabilities along its paths.

It runs before the student is trained, so that the two models are never in memory together. Each
kept path is evaluated once, after the prompt that it was sampled with, and of the teacher's
distribution (at temperature 1) the k most likely tokens are stored. An interrupted pass continues
where it stopped.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from engine.conversion import gguf_to_hf
from engine.models.location import check_files
from engine.models.weight_files import check_adapter_files
from engine.packing.encoding import TopKLogprobs
from engine.project.settings import TrainSettings
from engine.sampling import completion, runs
from engine.training.distillation import why_no_teacher_logits
from store import models, paths, questions, teacher_logits
from store.connection import transaction
from store.enums import Phase, Split
from store.errors import BadInput
from store.teacher_logits import TeacherLogits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from engine.packing.prefix_tree import PackedRow
    from engine.project.job_context import Work
    from engine.training.model import TrainableModel
    from store.records import Example, Model, Run, TrainingSet

CHUNK = 64
"""Paths that are scored and stored together; pause and cancel take effect after each chunk."""


def teacher_logprobs(
    work: Work, student: Model, frozen: TrainingSet, examples: Sequence[Example], k: int
) -> dict[int, TopKLogprobs]:
    """The teacher's log-probabilities of each path that the student is trained on.

    Paths that are not stored yet are scored first; then the teacher is unloaded.

    Args:
        work: the job.
        student: the model to train.
        frozen: the set.
        examples: the student's, of the set.
        k: number of tokens at each place.

    Returns:
        By path id. Paths without token ids and those of validation examples are left out.

    Raises:
        BadInput: the teacher's probabilities cannot be used, with what to do.
    """
    run = paths.run_by_id(work.conn, frozen.run_id)
    teacher = models.by_id(work.conn, run.model_id)
    by_path = {
        example.path_id: example
        for example in examples
        if example.path_id is not None
        and example.token_ids
        and not example.validation
        and example.weight > 0
    }
    has_tokens = bool(by_path) or any(example.path_id and example.token_ids for example in examples)
    reason = why_no_teacher_logits(student, teacher, frozen, work.settings, has_tokens=has_tokens)
    if reason is not None:
        raise BadInput(reason)
    stored = teacher_logits.stored(work.conn, by_path, k)
    missing = [example for path_id, example in by_path.items() if path_id not in stored]
    if missing:
        question_ids = {example.question_id for example in missing}
        prompts = _prompts(work, run, examples, question_ids)
        prompted = [
            replace(example, prompt=prompts[example.question_id], prompt_format=run.prompt_format)
            for example in missing
        ]

        def keep(scored: Mapping[int, TopKLogprobs]) -> None:
            teacher_logits.put(
                work.conn, [_packed(path_id, k, top_k) for path_id, top_k in scored.items()]
            )

        title = f"computing the top-k logits of {teacher.name}"
        model = load_teacher(work, teacher)
        _check_k(model, teacher, k)
        score_paths(work, run, teacher, model, prompted, k, keep, title, done=len(stored))
        del model
        gc.collect()  # modules refer to each other: without this the weights may stay for long
    return {
        path_id: _unpacked(row)
        for path_id, row in teacher_logits.of_paths(work.conn, by_path, k).items()
    }


def _prompts(
    work: Work, run: Run, examples: Sequence[Example], question_ids: set[int]
) -> Mapping[int, str]:
    """The prompt that each question was sampled with: from the set if it has that format, else
    rendered again."""
    from_set = {
        example.question_id: example.prompt
        for example in examples
        if example.prompt_format is run.prompt_format
    }
    if question_ids <= from_set.keys():
        return from_set
    pool = questions.by_split(work.conn, Split.POOL)
    current = runs.requested_run(
        work.conn,
        work.project,
        work.settings.model,
        models.by_id(work.conn, run.model_id),
        Split.POOL,
        work.settings.sample,
        run.prompt_format,
        [question.task for question in pool],
    )
    if current.prompt_sha256 != run.prompt_sha256:
        raise BadInput(
            "The worked examples have changed since the paths were sampled, so the teacher's "
            f"probabilities cannot be computed: add {run.prompt_format} to curate.formats and "
            "curate again, or set distill.top_k_logits to 0."
        )
    prompt_of = completion.prompts_of(work, run, pool)
    return {
        question.id: prompt_of(question).text for question in pool if question.id in question_ids
    }


def _check_k(model: TrainableModel, teacher: Model, k: int) -> None:
    if k >= len(model.tokenizer):
        raise BadInput(
            f"distill.top_k_logits is {k}, and {teacher.name} has {len(model.tokenizer)} tokens: "
            "use a smaller number."
        )


def score_paths(
    work: Work,
    run: Run,
    teacher: Model,
    model: TrainableModel,
    prompted: Sequence[Example],
    k: int,
    keep: Callable[[Mapping[int, TopKLogprobs]], None],
    title: str,
    *,
    done: int,
) -> None:
    """Compute the k most likely tokens at each sampled token of paths, a chunk at a time.

    Args:
        work: the job.
        run: that sampled the paths.
        teacher: whose log-probabilities they are.
        model: the same, loaded.
        prompted: the paths, each with its prompt.
        k: number of tokens at each place.
        keep: stores the log-probabilities of a chunk, by path id.
        title: what the job shows meanwhile.
        done: paths that were scored before, for the progress count.

    Raises:
        BadInput: a path is longer than the context with its prompt.
    """
    from engine.packing.encoding import encode
    from engine.training.model import context_length, end_tokens
    from engine.training.passes import pack_rows

    total = done + len(prompted)
    work.progress.begin(title, total, done, phase=Phase.SCORING, run=run, model=teacher)
    context = context_length(model)
    for first in range(0, len(prompted), CHUNK):
        # The weight says only which tokens are scored, and a path may have none.
        chunk = [replace(example, weight=1.0) for example in prompted[first : first + CHUNK]]
        encoded = encode(chunk, model.tokenizer, run.prompt_style, end_tokens(model))
        for example, tokens in zip(chunk, encoded, strict=True):
            if len(tokens.tokens) > context:
                raise BadInput(
                    f"Path {example.path_id} has {len(tokens.tokens):,} tokens with its prompt, "
                    f"and the context of {teacher.name} is {context:,}: set distill.top_k_logits "
                    "to 0."
                )
        scored: dict[int, TopKLogprobs] = {}
        for row in pack_rows(model, encoded):
            top_k = _score_row(model, row, k)
            for number, places in _scored_places(row).items():
                # An end token that training appends was not sampled, so it has no target.
                sampled = places[: len(chunk[number].token_ids)]
                path_id = chunk[number].path_id
                assert path_id is not None
                scored[path_id] = TopKLogprobs(top_k.token_ids[sampled], top_k.logprobs[sampled])
        with transaction(work.conn):
            keep(scored)
            work.progress.advance(done + first + len(chunk), total)
        work.progress.look()


def load_teacher(work: Work, teacher: Model) -> TrainableModel:
    """Load the teacher as it was sampled, with its adapter merged."""
    from engine.training.model import load_model

    threads = work.settings.model.threads
    if threads:
        import torch

        torch.set_num_threads(threads)
    check_files(work.project, teacher)
    location = gguf_to_hf.hf_folder(work.project, models.owner_of_weights(work.conn, teacher))
    if not location.is_dir():
        gguf_to_hf.convert_to_hf(work.project.inside(teacher.location), location)
    # Method full, because lora would add a new adapter.
    model = load_model(location, TrainSettings(method="full"))
    if teacher.adapter is not None:
        from peft import PeftModel

        adapter = work.project.inside(teacher.adapter)
        check_adapter_files(adapter)
        merged: Any = PeftModel.from_pretrained(
            model.causal, adapter, local_files_only=True
        ).merge_and_unload()
        model = replace(model, wrapped=merged, causal=merged, weights={})
    model.causal.eval().requires_grad_(False)
    return model


def _score_row(model: TrainableModel, row: PackedRow, k: int) -> TopKLogprobs:
    """The log-probabilities at all scored tokens of a row, in its order."""
    import torch

    from engine.packing.batches import padded_batches
    from engine.training.kl_divergence import top_k_logprobs
    from engine.training.loss import HEAD_LOGITS, head_logits, scored_outputs

    (batch,) = padded_batches([row], model.cost)
    batch = batch.to(model.device)
    vocabulary = len(model.tokenizer)
    autocast = torch.autocast(model.device.type, torch.bfloat16, enabled=model.is_bfloat16)
    with torch.no_grad(), autocast:
        outputs = scored_outputs(model, batch)
        head = partial(head_logits, model.causal) if model.shares_prefixes else torch.nn.Identity()
        size = max(1, HEAD_LOGITS // vocabulary)
        # Embedding rows after the last token are padding, which the student may not have.
        chunks = [top_k_logprobs(head(chunk)[:, :vocabulary], k) for chunk in outputs.split(size)]
    return TopKLogprobs(
        np.concatenate([chunk.token_ids for chunk in chunks]),
        np.concatenate([chunk.logprobs for chunk in chunks]),
    )


def _scored_places(row: PackedRow) -> dict[int, NDArray[np.int64]]:
    """Indices of each example's completion into the scored tokens of a row, by example number."""
    scored = np.flatnonzero(row.weights)
    return {number: np.searchsorted(scored, at) for number, at in row.completions.items()}


def _packed(path_id: int, k: int, top_k: TopKLogprobs) -> TeacherLogits:
    token_ids, logprobs = top_k.token_ids.astype("<u4"), top_k.logprobs.astype("<f2")
    return TeacherLogits(path_id, k, token_ids.tobytes(), logprobs.tobytes())


def _unpacked(row: TeacherLogits) -> TopKLogprobs:
    return TopKLogprobs(
        np.frombuffer(row.token_ids, "<u4").reshape(-1, row.k),
        np.frombuffer(row.logprobs, "<f2").reshape(-1, row.k + 1),
    )

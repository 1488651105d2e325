"""What a student is trained on: the teacher's kept paths, and optionally its probabilities.

Distillation is fine-tuning on text that the teacher wrote and voted for (sequence-level knowledge
distillation, Kim & Rush 2016; Huang et al. 2022, Table 7), so teacher and student may have
different vocabularies. Token ids are passed on only if the tokenizers are the same; the student can
then also learn the teacher's top-k probabilities (`engine.training.teacher_logits`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from engine.models.identity import is_server
from engine.project.settings import Engine, PathChoice
from store.enums import Weighting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.packing.encoding import EncodedExample, TopKLogprobs
    from engine.project.settings import Settings, TrainSettings
    from store.records import Example, Model, TrainingSet


def student_examples(
    examples: Sequence[Example],
    frozen: TrainingSet,
    student_tokenizer_sha256: str,
    settings: TrainSettings,
) -> list[Example]:
    """Select the student's examples from the teacher's training set.

    At most `settings.paths_per_question` paths of each question are kept: in index order for
    `ALL` and `FIRST`, the shortest texts for `SHORTEST` (small students learn better from short
    chains: Li et al. 2025, arXiv 2502.12143). Weights are what the set's weighting gives to the
    remaining paths. If the student has another tokenizer, token ids are dropped, and the text is
    tokenized again with the student's own end token.

    Args:
        examples: of the frozen set, in its order.
        frozen: the set.
        student_tokenizer_sha256: hash of the student's tokenizer.
        settings: of the distillation.

    Returns:
        In the order of the set.
    """
    lengths: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for example in examples:
        if example.path_id is not None:
            lengths[example.question_id].setdefault(example.path_id, len(example.completion))
    kept_paths = {
        question_id: _select_paths(of_question, settings)
        for question_id, of_question in lengths.items()
    }
    same_tokenizer = student_tokenizer_sha256 == frozen.tokenizer_sha256
    selected = []
    for example in examples:
        kept = kept_paths.get(example.question_id, set())
        if example.path_id is not None and example.path_id not in kept:
            continue
        before = len(lengths.get(example.question_id, ()))
        weight = example.weight
        if frozen.weighting is Weighting.PER_PATH and example.path_id is None and before:
            weight *= len(kept) / before  # the row stands for one copy per kept path
        if frozen.weighting is not Weighting.PER_PATH and example.path_id is not None:
            weight *= before / len(kept)  # the question's weight is divided among fewer paths
        token_ids = example.token_ids if same_tokenizer else ()
        selected.append(replace(example, weight=weight, token_ids=token_ids))
    return selected


def _select_paths(lengths: dict[int, int], settings: TrainSettings) -> set[int]:
    """Select path ids, given the length of each path's text in index order."""
    path_ids = list(lengths)
    if settings.paths is PathChoice.SHORTEST:
        path_ids.sort(key=lambda path_id: lengths[path_id])
    return set(path_ids[: settings.paths_per_question or None])


def with_teacher(
    encoded: Sequence[EncodedExample],
    examples: Sequence[Example],
    teacher: Mapping[int, TopKLogprobs],
    mix: float,
    *,
    alone: bool = False,
) -> list[EncodedExample]:
    """Add the teacher's log-probabilities to the examples that are trained on.

    A path has the same target in every format, under the student's prompt of that format: without
    worked examples, the student learns what the teacher predicts with them. Direct answers,
    validation examples and paths without a target are returned unchanged.

    Args:
        encoded: the examples as token ids, in the same order.
        examples: of the student.
        teacher: by path id.
        mix: share of the loss that is the divergence from the teacher, in [0, 1].
        alone: the divergence is the whole loss, also of validation examples. Every example has a
            target, and its tokens after the target are cut.
    """
    if alone:
        return [
            replace(
                tokens,
                completion=tokens.completion[: len(target.token_ids)],
                teacher=target,
                mix=1.0,
            )
            for tokens, example in zip(encoded, examples, strict=True)
            for target in [teacher[example.path_id or 0]]
        ]
    return [
        replace(tokens, teacher=teacher[example.path_id], mix=mix)
        if example.path_id is not None and example.path_id in teacher and not example.validation
        else tokens
        for tokens, example in zip(encoded, examples, strict=True)
    ]


def why_no_teacher_logits(
    student: Model, teacher: Model, frozen: TrainingSet, settings: Settings, *, has_tokens: bool
) -> str | None:
    """Why a student cannot be trained on the teacher's probabilities; None if it can.

    Args:
        student: the model to train.
        teacher: the model that sampled the set's paths.
        frozen: the set.
        settings: of the project.
        has_tokens: whether any path of the set has token ids.
    """
    remedy = "set distill.top_k_logits to 0 to train on the paths alone."
    if student.tokenizer_sha256 != frozen.tokenizer_sha256:
        return (
            f"{student.name} has another tokenizer than its teacher {teacher.name}, so the "
            f"teacher's token probabilities do not apply to it: {remedy}"
        )
    if is_server(teacher.location) or settings.model.engine is Engine.SCRIPTED:
        return (
            f"The token probabilities of {teacher.name} cannot be computed, since its weights are "
            f"not on this machine: {remedy}"
        )
    if not has_tokens:
        return f"The paths of this training set were imported without token ids: {remedy}"
    return None

"""What a student learns from: the teacher's kept paths, or some of them, and its probabilities.

Distillation here is fine-tuning on text that the teacher wrote and voted for (sequence-level
knowledge distillation, Kim & Rush 2016; Huang et al. 2022, Table 7), so it needs no common
vocabulary. Token ids move from teacher to student only where the tokenizers are the same; there
the student may also learn what else the teacher thought likely (`engine.training.teacher_logits`).
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

    from engine.packing.prefix_tree import Encoded
    from engine.project.settings import Settings, TrainSettings
    from engine.training.kl_divergence import Likely
    from store.records import Example, Model, TrainingSet


def student_examples(
    examples: Sequence[Example],
    frozen: TrainingSet,
    student_tokenizer_sha256: str,
    settings: TrainSettings,
) -> list[Example]:
    """Choose the student's examples from the teacher's training set.

    At most `settings.paths_per_question` paths of each question are kept: in index order for
    `ALL` and `FIRST`, the shortest texts for `SHORTEST` (small students learn better from short
    chains: Li et al. 2025, arXiv 2502.12143). Weights are what the set's weighting gives to the
    paths that are left. Where the student has another tokenizer, token ids are dropped, and the
    text is tokenised again with the student's own end.

    Args:
        examples: of the frozen set, in its order.
        frozen: the set.
        student_tokenizer_sha256: hash of the student's tokenizer.
        settings: of the distillation.

    Returns:
        In the order of the set.
    """
    path_ids: defaultdict[int, dict[int, int]] = defaultdict(dict)
    for one in examples:
        if one.path_id is not None:
            path_ids[one.question_id].setdefault(one.path_id, len(one.completion))
    chosen = {question: _some(lengths, settings) for question, lengths in path_ids.items()}
    same_tokens = student_tokenizer_sha256 == frozen.tokenizer_sha256
    found = []
    for one in examples:
        left = chosen.get(one.question_id, set())
        if one.path_id is not None and one.path_id not in left:
            continue
        before = len(path_ids.get(one.question_id, ()))
        weight = one.weight
        if frozen.weighting is Weighting.PER_PATH and one.path_id is None and before:
            weight *= len(left) / before  # the row stands for as many paths as are left
        if frozen.weighting is not Weighting.PER_PATH and one.path_id is not None:
            weight *= before / len(left)  # the question's share is divided among fewer paths
        found.append(replace(one, weight=weight, token_ids=one.token_ids if same_tokens else ()))
    return found


def _some(lengths: dict[int, int], settings: TrainSettings) -> set[int]:
    """The chosen path ids, from the length of each path's text in index order."""
    ordered = list(lengths)
    if settings.paths is PathChoice.SHORTEST:
        ordered.sort(key=lambda path_id: lengths[path_id])
    return set(ordered[: settings.paths_per_question or None])


def with_teacher(
    encoded: Sequence[Encoded],
    examples: Sequence[Example],
    teacher: Mapping[int, Likely],
    mix: float,
) -> list[Encoded]:
    """The examples that are learnt from, with what the teacher thought likely at their tokens.

    A path is taught so in every format, under the student's prompt of that format: without worked
    examples it learns what the teacher thinks with them. Direct answers, validation examples and
    paths that the teacher was not asked about stay as they are.

    Args:
        encoded: the examples as tokens, in the same order.
        examples: of the student.
        teacher: by path id.
        mix: share of the loss that is the divergence from the teacher, in [0, 1].
    """
    return [
        replace(one, teacher=teacher[example.path_id], mix=mix)
        if example.path_id is not None and example.path_id in teacher and not example.validation
        else one
        for one, example in zip(encoded, examples, strict=True)
    ]


def why_not_taught(
    student: Model, teacher: Model, frozen: TrainingSet, settings: Settings, *, has_tokens: bool
) -> str | None:
    """Why a student cannot learn from the teacher's probabilities; None when it can.

    Args:
        student: to be trained.
        teacher: that the set's paths were sampled from.
        frozen: the set.
        settings: of the project.
        has_tokens: whether any path of the set has its token ids.
    """
    off = "set distill.top_k_logits to 0, and it learns from the paths alone."
    if student.tokenizer_sha256 != frozen.tokenizer_sha256:
        return (
            f"{student.name} has another tokenizer than its teacher {teacher.name}, so the "
            f"teacher's probabilities of tokens mean nothing to it: {off}"
        )
    if is_server(teacher.location) or settings.model.engine is Engine.SCRIPTED:
        return (
            f"The probabilities of {teacher.name} cannot be read, since its weights are not "
            f"here: {off}"
        )
    if not has_tokens:
        return f"The paths of this training set were imported without token ids: {off}"
    return None

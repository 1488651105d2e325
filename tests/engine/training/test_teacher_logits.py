"""Teacher logits: scored once, and learned by a student without loading the teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.demo.project import make_demo
from engine.jobs import curate, sample, train
from engine.packing.encoding import EncodedExample, TopKLogprobs, encode
from engine.project.settings import TrainSettings, changed
from engine.training import passes
from engine.training.kl_divergence import (
    read_top_k,
    top_k_kl_divergence,
    top_k_logprobs,
    write_top_k,
)
from engine.training.model import end_tokens, load_model
from engine.training.teacher_logits import teacher_logprobs
from store import examples, models, paths, teacher_logits
from store.connection import connect, transaction
from store.enums import JobKind, PromptFormat
from store.errors import BadInput
from tests.engine.families import FAMILIES
from tests.engine.tiny import tiny_model
from tests.projects import claimed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

    from engine.project.job_context import Work
    from engine.training.model import TrainableModel
    from store.records import TrainingSet

STUDENT = "pebble-s/base"
K = 5


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Work, TrainingSet]]:
    """A curated set that a real teacher sampled."""
    project = make_demo(
        tmp_path_factory.mktemp("top") / "demo",
        pool=16,
        evaluation=4,
        changes={
            "sample": {"m": 4},
            "distill": {"top_k_logits": K, "epochs": 1.0, "examples_per_step": 16},
            "model": {"students": [STUDENT]},
        },
    )
    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.DISTILL)
        sample.run(work)
        curate.run(work)
        yield work, examples.sets(conn)[-1]


def score(work: Work, frozen: TrainingSet, k: int = K) -> dict[int, TopKLogprobs]:
    student = models.by_name(work.conn, STUDENT)
    assert student is not None
    return teacher_logprobs(work, student, frozen, examples.examples(work.conn, frozen.key), k)


def test_they_are_the_teachers_logits_after_the_prompt_of_the_run(
    demo: tuple[Work, TrainingSet],
) -> None:
    work, frozen = demo
    scored = score(work, frozen)
    rows = examples.examples(work.conn, frozen.key)
    run = paths.run_by_id(work.conn, frozen.run_id)
    path_ids = {row.path_id for row in rows if row.path_id is not None and not row.validation}
    assert scored.keys() == path_ids
    model = load_model(
        work.project.inside(models.by_id(work.conn, run.model_id).location),
        TrainSettings(method="full"),
    )
    prompted = [
        row for row in rows if row.path_id in scored and row.prompt_format is run.prompt_format
    ]
    sample = prompted[:: max(1, len(prompted) // 6)]
    encoded = encode(sample, model.tokenizer, run.prompt_style, end_tokens(model))
    for example, tokens in zip(sample, encoded, strict=True):
        with torch.no_grad():
            logits = model.causal(torch.tensor([tokens.tokens])).logits[0]
        begin = len(tokens.prompt) - 1
        expected = top_k_logprobs(logits[begin : begin + len(example.token_ids)], K)
        assert example.path_id is not None
        actual = scored[example.path_id]
        assert actual.logprobs.shape == (len(example.token_ids), K + 1)
        assert actual.logprobs[:, 0] == pytest.approx(expected.logprobs[:, 0], abs=5e-3)
        is_clear = expected.logprobs[:, 0] > expected.logprobs[:, 1] + 0.02
        assert (actual.token_ids[is_clear, 0] == expected.token_ids[is_clear, 0]).all()


def test_only_missing_paths_are_scored(
    demo: tuple[Work, TrainingSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, frozen = demo
    before = score(work, frozen)
    lost = min(before)
    with transaction(work.conn):
        work.conn.execute("DELETE FROM teacher_top WHERE path_id = ?", [lost])
    put: list[int] = []
    real = teacher_logits.put

    def noted(conn: sqlite3.Connection, rows: Any) -> None:
        put.extend(row.path_id for row in rows)
        real(conn, rows)

    monkeypatch.setattr(teacher_logits, "put", noted)
    after = score(work, frozen)
    assert put == [lost]
    assert after[lost].logprobs == pytest.approx(before[lost].logprobs, abs=5e-3)


def test_the_student_is_trained_on_them_and_another_mix_is_another_training(
    demo: tuple[Work, TrainingSet],
) -> None:
    work, _ = demo
    first = train.distill(work)[STUDENT]
    assert isinstance(first, dict)
    assert not first["trained_before"]
    work = replace(work, params={"settings": {"distill": {"mix": 1.0}}})
    other = train.distill(work)[STUDENT]
    assert isinstance(other, dict)
    assert not other["trained_before"]
    assert other["validation_loss"] != first["validation_loss"]


def test_another_tokenizer_is_refused(
    demo: tuple[Work, TrainingSet],
) -> None:
    work, frozen = demo
    student = models.by_name(work.conn, STUDENT)
    assert student is not None
    other = replace(student, tokenizer_sha256="another")
    rows = examples.examples(work.conn, frozen.key)
    with pytest.raises(BadInput, match=r"has another tokenizer than its teacher pebble-l/base"):
        teacher_logprobs(work, other, frozen, rows, K)
    without_tokens = [replace(row, token_ids=()) for row in rows]
    with pytest.raises(BadInput, match="imported without token ids"):
        teacher_logprobs(work, student, frozen, without_tokens, K)


def test_a_teacher_model_is_not_its_own_teacher() -> None:
    from engine.project.settings import Settings

    with pytest.raises(BadInput, match=r"finetune\.top_k_logits .*\[distill\]"):
        changed(Settings(), {"finetune": {"top_k_logits": 4}})


def test_log_probabilities_are_written_for_other_processes_and_read_again(tmp_path: Path) -> None:
    top_k_of_path = {
        7: TopKLogprobs(np.array([[1, 2], [3, 4]], np.uint32), np.zeros((2, 3), np.float16)),
        3: TopKLogprobs(np.array([[5, 6]], np.uint32), np.ones((1, 3), np.float16)),
    }
    for written in (top_k_of_path, {}):
        write_top_k(tmp_path / "t.npz", written)
        read = read_top_k(tmp_path / "t.npz")
        assert list(read) == list(written)
        for path_id, top_k in written.items():
            assert (read[path_id].token_ids == top_k.token_ids).all()
            assert (read[path_id].logprobs == top_k.logprobs).all()


# The loss.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TrainableModel:
    folder = tiny_model(tmp_path_factory.mktemp("tiny") / "base")
    return load_model(folder, TrainSettings(method="full"))


def distilled(
    prompt: list[int], completion: list[int], weight: float, mix: float, k: int
) -> EncodedExample:
    seed = hash((tuple(prompt), tuple(completion), k)) % 2**31
    teacher_logits = torch.randn(
        max(1, len(completion) - 1), 512, generator=torch.Generator().manual_seed(seed)
    )
    return EncodedExample(
        0,
        PromptFormat.FEW_SHOT_COT,
        tuple(prompt),
        tuple(completion),
        weight,
        top_k_logprobs(3 * teacher_logits, k) if k else None,
        mix,
    )


tokens = st.lists(st.integers(1, 3), min_size=1, max_size=6)


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(
            tokens, tokens, st.sampled_from([0.5, 1.0, 8.0]), st.sampled_from([0.0, 0.5, 1.0])
        ),
        min_size=1,
        max_size=12,
    ),
    st.sampled_from([1, 4]),
    st.sets(st.integers(0, 11)),
)
def test_packed_rows_distill_as_single_rows_do(
    tiny: TrainableModel,
    examples: list[tuple[list[int], list[int], float, float]],
    k: int,
    without_teacher: set[int],
) -> None:
    encoded = [
        distilled(*example, 0 if number in without_teacher else k)
        for number, example in enumerate(examples)
    ]
    unpacked = replace(tiny, shares_prefixes=False)
    computed = []
    for model in (tiny, unpacked):
        loss = passes.accumulate_gradients(model, encoded)
        weight_gradients = {name: value.grad for name, value in model.weights.items()}
        computed.append(
            (
                loss,
                {
                    name: value.clone()
                    for name, value in weight_gradients.items()
                    if value is not None
                },
            )
        )
        for value in model.weights.values():
            value.grad = None
    (packed_loss, packed), (loss, gradients) = computed
    assert packed_loss == pytest.approx(loss, rel=1e-5, abs=1e-6)
    length = sum(float(gradient.square().sum()) for gradient in gradients.values()) ** 0.5
    for name, gradient in gradients.items():
        assert (packed[name] - gradient).norm() <= 1e-5 * length + 1e-6


def test_packed_rows_distill_as_single_rows_do_if_logits_are_capped(tmp_path: Path) -> None:
    model = load_model(
        tiny_model(tmp_path / "base", **FAMILIES["gemma 2"]), TrainSettings(method="full")
    )
    encoded = [
        distilled([1, 2, 3], [3, 1, 2], 1.0, 0.5, 4),
        distilled([1, 2, 3], [1, 1, 2, 2], 8.0, 1.0, 4),
    ]
    packed_loss = passes.accumulate_gradients(model, encoded)
    packed = {name: value.grad for name, value in model.weights.items()}
    for value in model.weights.values():
        value.grad = None
    model.causal.set_attn_implementation("eager")
    loss = passes.accumulate_gradients(replace(model, shares_prefixes=False), encoded)
    assert packed_loss == pytest.approx(loss, rel=1e-5)
    for name, value in model.weights.items():
        torch.testing.assert_close(packed[name], value.grad, atol=1e-6, rtol=1e-4)


def test_the_loss_is_the_mix_of_path_loss_and_divergence(tiny: TrainableModel) -> None:
    example = distilled([1, 2], [3, 1, 2], 2.0, 0.25, 4)
    assert example.teacher is not None
    with torch.no_grad():
        logits = tiny.causal(torch.tensor([example.tokens])).logits[0, 1:4]
        path = torch.nn.functional.cross_entropy(
            logits, torch.tensor(example.completion), reduction="none"
        )
        divergence = top_k_kl_divergence(
            logits[:2],
            torch.from_numpy(example.teacher.token_ids.astype(np.int64)),
            torch.from_numpy(example.teacher.logprobs),
        )
        expected = (0.75 * path[:2] + 0.25 * divergence).sum() + path[2]
        loss = passes.mean_loss(tiny, passes.pack_rows(tiny, [example]))
    assert loss == pytest.approx(float(expected) / 3, rel=1e-5)

"""A teacher is asked once what it thinks likely, and its student learns that without it."""

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
    """A curated set of the real teacher."""
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


def ask(work: Work, frozen: TrainingSet, k: int = K) -> dict[int, TopKLogprobs]:
    student = models.by_name(work.conn, STUDENT)
    assert student is not None
    return teacher_logprobs(work, student, frozen, examples.examples(work.conn, frozen.key), k)


def test_it_is_what_the_teacher_thinks_under_the_prompt_it_was_sampled_with(
    demo: tuple[Work, TrainingSet],
) -> None:
    work, frozen = demo
    found = ask(work, frozen)
    rows = examples.examples(work.conn, frozen.key)
    run = paths.run_by_id(work.conn, frozen.run_id)
    learnt = {one.path_id for one in rows if one.path_id is not None and not one.validation}
    assert found.keys() == learnt
    model = load_model(
        work.project.inside(models.by_id(work.conn, run.model_id).location),
        TrainSettings(method="full"),
    )
    asked = [one for one in rows if one.path_id in found and one.prompt_format is run.prompt_format]
    some = asked[:: max(1, len(asked) // 6)]
    coded = encode(some, model.tokenizer, run.prompt_style, end_tokens(model))
    for example, one in zip(some, coded, strict=True):
        with torch.no_grad():
            logits = model.causal(torch.tensor([one.tokens])).logits[0]
        begin = len(one.prompt) - 1
        wanted = top_k_logprobs(logits[begin : begin + len(example.token_ids)], K)
        assert example.path_id is not None
        got = found[example.path_id]
        assert got.logprobs.shape == (len(example.token_ids), K + 1)
        assert got.logprobs[:, 0] == pytest.approx(wanted.logprobs[:, 0], abs=5e-3)
        sure = wanted.logprobs[:, 0] > wanted.logprobs[:, 1] + 0.02
        assert (got.token_ids[sure, 0] == wanted.token_ids[sure, 0]).all()


def test_only_what_is_missing_is_scored(
    demo: tuple[Work, TrainingSet], monkeypatch: pytest.MonkeyPatch
) -> None:
    work, frozen = demo
    before = ask(work, frozen)
    lost = min(before)
    with transaction(work.conn):
        work.conn.execute("DELETE FROM teacher_top WHERE path_id = ?", [lost])
    put: list[int] = []
    real = teacher_logits.put

    def noted(conn: sqlite3.Connection, found: Any) -> None:
        put.extend(one.path_id for one in found)
        real(conn, found)

    monkeypatch.setattr(teacher_logits, "put", noted)
    after = ask(work, frozen)
    assert put == [lost]
    assert after[lost].logprobs == pytest.approx(before[lost].logprobs, abs=5e-3)


def test_the_student_learns_from_it_and_another_mix_is_another_training(
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


def test_another_tokenizer_is_refused_in_a_sentence(
    demo: tuple[Work, TrainingSet],
) -> None:
    work, frozen = demo
    student = models.by_name(work.conn, STUDENT)
    assert student is not None
    stranger = replace(student, tokenizer_sha256="another")
    rows = examples.examples(work.conn, frozen.key)
    with pytest.raises(BadInput, match=r"has another tokenizer than its teacher pebble-l/base"):
        teacher_logprobs(work, stranger, frozen, rows, K)
    bare = [replace(one, token_ids=()) for one in rows]
    with pytest.raises(BadInput, match="imported without token ids"):
        teacher_logprobs(work, student, frozen, bare, K)


def test_a_teacher_model_is_not_its_own_teacher() -> None:
    from engine.project.settings import Settings

    with pytest.raises(BadInput, match=r"finetune\.top_k_logits .*\[distill\]"):
        changed(Settings(), {"finetune": {"top_k_logits": 4}})


def test_what_is_written_for_other_processes_is_read_again(tmp_path: Path) -> None:
    told = {
        7: TopKLogprobs(np.array([[1, 2], [3, 4]], np.uint32), np.zeros((2, 3), np.float16)),
        3: TopKLogprobs(np.array([[5, 6]], np.uint32), np.ones((1, 3), np.float16)),
    }
    for some in (told, {}):
        write_top_k(tmp_path / "t.npz", some)
        found = read_top_k(tmp_path / "t.npz")
        assert list(found) == list(some)
        for path_id, one in some.items():
            assert (found[path_id].token_ids == one.token_ids).all()
            assert (found[path_id].logprobs == one.logprobs).all()


# Trees.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TrainableModel:
    folder = tiny_model(tmp_path_factory.mktemp("tiny") / "base")
    return load_model(folder, TrainSettings(method="full"))


def taught(
    prompt: list[int], completion: list[int], weight: float, mix: float, k: int
) -> EncodedExample:
    seed = hash((tuple(prompt), tuple(completion), k)) % 2**31
    told = torch.randn(
        max(1, len(completion) - 1), 512, generator=torch.Generator().manual_seed(seed)
    )
    return EncodedExample(
        0,
        PromptFormat.FEW_SHOT_COT,
        tuple(prompt),
        tuple(completion),
        weight,
        top_k_logprobs(3 * told, k) if k else None,
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
def test_a_tree_teaches_what_rows_alone_teach(
    tiny: TrainableModel,
    some: list[tuple[list[int], list[int], float, float]],
    k: int,
    untaught: set[int],
) -> None:
    coded = [taught(*one, 0 if n in untaught else k) for n, one in enumerate(some)]
    alone = replace(tiny, shares_prefixes=False)
    found = []
    for one in (tiny, alone):
        loss = passes.accumulate_gradients(one, coded)
        grads = {name: value.grad for name, value in one.weights.items()}
        found.append(
            (loss, {name: value.clone() for name, value in grads.items() if value is not None})
        )
        for value in one.weights.values():
            value.grad = None
    (tree, of_tree), (rows, of_rows) = found
    assert tree == pytest.approx(rows, rel=1e-5, abs=1e-6)
    length = sum(float(one.square().sum()) for one in of_rows.values()) ** 0.5
    for name, gradient in of_rows.items():
        assert (of_tree[name] - gradient).norm() <= 1e-5 * length + 1e-6


def test_the_loss_is_the_mix_of_path_loss_and_divergence(tiny: TrainableModel) -> None:
    one = taught([1, 2], [3, 1, 2], 2.0, 0.25, 4)
    assert one.teacher is not None
    with torch.no_grad():
        logits = tiny.causal(torch.tensor([one.tokens])).logits[0, 1:4]
        path = torch.nn.functional.cross_entropy(
            logits, torch.tensor(one.completion), reduction="none"
        )
        apart = top_k_kl_divergence(
            logits[:2],
            torch.from_numpy(one.teacher.token_ids.astype(np.int64)),
            torch.from_numpy(one.teacher.logprobs),
        )
        wanted = (0.75 * path[:2] + 0.25 * apart).sum() + path[2]
        found = passes.mean_loss(tiny, passes.pack_rows(tiny, [one]))
    assert found == pytest.approx(float(wanted) / 3, rel=1e-5)

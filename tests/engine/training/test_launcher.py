"""Several processes: they train as one does, report errors, stop on request, and all end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from engine.packing.encoding import EncodedExample
from engine.project.job_context import PauseRequested
from engine.project.objectives import Objective
from engine.training import passes
from engine.training.data_parallel import SINGLE_PROCESS, DataParallel
from engine.training.launcher import Training, train
from engine.training.model import load_model
from store import jobs
from store.connection import connect
from store.enums import JobKind, JobState, PromptFormat, PromptStyle
from store.errors import BadInput
from tests.engine.tiny import tiny_model
from tests.engine.training.contrast.test_objective import contrast_set
from tests.engine.training.test_loop import SETTINGS, some_examples, weights
from tests.projects import claimed, scripted_project

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.project.folder import Project
    from engine.project.settings import TrainSettings

PATIENCE = 120.0
TWO = replace(SETTINGS, processes=2)

# Two short prompts in each of two formats, of some questions.
example_lists = st.lists(
    st.builds(
        EncodedExample,
        question_id=st.integers(0, 4),
        prompt_format=st.sampled_from([PromptFormat.FEW_SHOT_COT, PromptFormat.ZERO_SHOT_COT]),
        prompt=st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple),
        completion=st.lists(st.integers(0, 2), min_size=1, max_size=6).map(tuple),
        weight=st.just(1.0),
    ),
    min_size=1,
    max_size=20,
)


@given(example_lists, st.integers(1, 5))
def test_the_shards_of_all_processes_are_the_step_in_whole_groups(
    examples: list[EncodedExample], count: int
) -> None:
    shards = [DataParallel(rank, count).shard(examples) for rank in range(count)]
    assert sorted(map(repr, examples)) == sorted(
        repr(example) for shard in shards for example in shard
    )
    homes: dict[object, set[int]] = {}
    for number, shard in enumerate(shards):
        for example in shard:
            homes.setdefault(
                (example.question_id, example.prompt_format, example.prompt), set()
            ).add(number)
    assert all(len(numbers) == 1 for numbers in homes.values())


def test_a_step_is_divided_about_evenly() -> None:
    examples = [
        EncodedExample(number, PromptFormat.FEW_SHOT_COT, (1, 2, 3, number), (4, 5), 1.0)
        for number in range(40)
    ]
    shards = [DataParallel(rank, 4).shard(examples) for rank in range(4)]
    assert [len(shard) for shard in shards] == pytest.approx([10] * 4, abs=1)


def training(folder: Path, settings: TrainSettings, name: str = "two", **changes: Any) -> Training:
    base = folder / "base"
    if not base.exists():
        tiny_model(base)
    return replace(
        Training(
            base=base,
            examples=some_examples(),
            settings=settings,
            out=folder / f"{name}.out",
            work=folder / f"{name}.work",
            style=PromptStyle.BASE,
            threads=2,
            events=folder / f"{name}.events",
        ),
        **changes,
    )


def curve(project: Project, name: str) -> dict[int, float]:
    with connect(project.database, read_only=True) as conn:
        metrics = jobs.metrics(conn, jobs.all_of(conn)[-1].id)
    return {metric.step: metric.value for metric in metrics if metric.name == name}


def test_two_processes_learn_what_one_does(tmp_path: Path) -> None:
    curves = {}
    results = {}
    for name, settings in (("one", SETTINGS), ("two", TWO)):
        project = scripted_project(tmp_path / name, pool=1, evaluation=1)
        with connect(project.database) as conn:
            work = claimed(conn, project, JobKind.FINETUNE)
            results[name] = train(work, training(tmp_path, settings, name))
        curves[name] = curve(project, "val_loss")
    assert list(curves["two"]) == list(range(11))
    assert curves["two"] == pytest.approx(curves["one"], rel=1e-5)
    assert results["two"].loss == pytest.approx(results["one"].loss, rel=1e-5)
    assert replace(
        results["two"], seconds=0, loss=0, validation_loss=0, first_validation_loss=0
    ) == replace(results["one"], seconds=0, loss=0, validation_loss=0, first_validation_loss=0)
    one, two = weights(tmp_path / "one.out"), weights(tmp_path / "two.out")
    for name, value in one.items():
        assert torch.allclose(value, two[name], rtol=0, atol=1e-5 * float(value.abs().max()))


def test_two_processes_with_sharded_weights_learn_what_one_does(tmp_path: Path) -> None:
    curves = {}
    settings = {"one": SETTINGS, "two": replace(TWO, sharded=True)}
    for name, those in settings.items():
        project = scripted_project(tmp_path / name, pool=1, evaluation=1)
        with connect(project.database) as conn:
            train(claimed(conn, project, JobKind.FINETUNE), training(tmp_path, those, name))
        curves[name] = curve(project, "val_loss")
    assert list(curves["two"]) == list(range(11))
    assert curves["two"] == pytest.approx(curves["one"], rel=1e-5)
    one, two = weights(tmp_path / "one.out"), weights(tmp_path / "two.out")
    for name, value in one.items():
        assert torch.allclose(value, two[name], rtol=0, atol=1e-5 * float(value.abs().max()))


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "sharded"), [("kto", False), ("dpo", True)])
def test_two_processes_learn_the_contrast_that_one_does(
    tmp_path: Path, loss: str, sharded: bool
) -> None:
    curves: dict[str, dict[str, dict[int, float]]] = {}
    contrast = replace(SETTINGS, objective=Objective.CONTRAST)
    settings = {"one": contrast, "two": replace(contrast, processes=2, sharded=sharded)}
    for name, those in settings.items():
        project = scripted_project(tmp_path / name, pool=1, evaluation=1)
        task = training(tmp_path, those, name, contrast=contrast_set(loss))
        with connect(project.database) as conn:
            train(claimed(conn, project, JobKind.FINETUNE), task)
        curves[name] = {metric: curve(project, metric) for metric in ("val_loss", "winner_logp")}
    for metric, values in curves["two"].items():
        assert list(values) == list(range(11))
        assert values == pytest.approx(curves["one"][metric], rel=1e-5)


@pytest.mark.slow
def test_a_pause_stops_all_processes_after_a_checkpoint(tmp_path: Path) -> None:
    longer = replace(TWO, epochs=400.0)
    project = scripted_project(tmp_path / "project", pool=1, evaluation=1)
    given = training(tmp_path, longer)

    def wish() -> None:
        with connect(project.database) as conn:
            until = time.monotonic() + PATIENCE
            while jobs.all_of(conn)[-1].done < 20 and time.monotonic() < until:
                time.sleep(0.05)
            jobs.request(conn, 1, JobState.PAUSING)

    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.FINETUNE)
        asking = threading.Thread(target=wish)
        asking.start()
        with pytest.raises(PauseRequested):
            train(work, given)
        asking.join()
    saved = torch.load(given.work / "checkpoint.pt", weights_only=True)
    assert 20 <= saved["state"]["step"] < 1300
    assert not processes_of(project.folder)


@pytest.mark.slow
def test_the_error_of_a_process_is_raised_by_the_worker(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "project", pool=1, evaluation=1)
    held_out = [replace(example, validation=True) for example in some_examples()]
    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.FINETUNE)
        with pytest.raises(BadInput, match="Nothing is left to train base on"):
            train(work, training(tmp_path, TWO, examples=held_out))
        with pytest.raises(BadInput, match="accelerate config --config_file"):
            train(work, training(tmp_path, replace(TWO, machines="no.yaml")))
    assert not processes_of(project.folder)


WORKER = """
import sys
from pathlib import Path
from dataclasses import replace
from engine.training.launcher import train
from store.connection import connect
from store.enums import JobKind
from tests.engine.training.test_launcher import TWO, training
from tests.projects import claimed
from engine.project.folder import open_project

folder = Path(sys.argv[1])
project = open_project(folder / "project")
with connect(project.database) as conn:
    train(claimed(conn, project, JobKind.FINETUNE), training(folder, replace(TWO, epochs=4000.0)))
"""


def processes_of(folder: Path) -> list[psutil.Process]:
    processes = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            line = process.cmdline()
            if "engine.training.launcher" in line and str(folder.resolve()) in line:
                processes.append(process)
    return processes


@pytest.mark.slow
def test_a_killed_worker_leaves_no_process_behind(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "project", pool=1, evaluation=1)
    tiny_model(tmp_path / "base")
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(tmp_path)],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + PATIENCE
    done = 0
    while done < 5:
        assert time.monotonic() < until
        assert worker.poll() is None
        with suppress(subprocess.TimeoutExpired):
            worker.wait(0.05)
        with connect(project.database, read_only=True) as conn:
            done = sum(job.done for job in jobs.all_of(conn))
    processes = processes_of(project.folder)
    assert len(processes) == 3  # accelerate and two training processes
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert alive == []


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """A process group of this process alone."""
    where = f"file://{tmp_path / 'group'}"
    torch.distributed.init_process_group("gloo", init_method=where, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_layers_with_sharded_weights_have_the_same_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch.distributed.tensor import DTensor

    monkeypatch.setattr("engine.training.model.RECOMPUTE_FROM", 0)
    tiny_model(tmp_path / "base")
    examples = [
        EncodedExample(number, PromptFormat.FEW_SHOT_COT, (5, 6, 7, number + 3), (8, 9, 2), 1.0)
        for number in range(4)
    ]
    computed = []
    for parallel in (DataParallel(), DataParallel(is_sharded=True)):
        model = load_model(tmp_path / "base", SETTINGS, parallel)
        assert model.causal.is_gradient_checkpointing
        assert model.shares_prefixes
        for name, weight in model.causal.model.layers.named_parameters():
            assert isinstance(weight, DTensor) == (parallel.is_sharded and "lora" not in name)
        loss = passes.accumulate_gradients(model, examples)
        computed.append((loss, {name: weight.grad for name, weight in model.weights.items()}))
    (loss, whole), (sharded_loss, sharded) = computed
    assert loss == pytest.approx(sharded_loss, rel=1e-6)
    assert whole
    for name, gradient in whole.items():
        torch.testing.assert_close(sharded[name], gradient, rtol=1e-5, atol=1e-8)


def test_weights_are_sharded_for_lora_only(tmp_path: Path) -> None:
    tiny_model(tmp_path / "base")
    with pytest.raises(BadInput, match="set sharded to false"):
        load_model(
            tmp_path / "base", replace(SETTINGS, method="full"), DataParallel(is_sharded=True)
        )


def test_a_single_process_returns_its_own_numbers() -> None:
    assert DataParallel().sum_all(1.5, 2) == [1.5, 2]
    assert SINGLE_PROCESS.shard([]) == []

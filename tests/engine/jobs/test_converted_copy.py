"""A model that is only a GGUF file is sampled from a converted copy where that is faster."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import pytest

from engine.conversion import gguf_to_hf
from engine.demo.project import MODELS, make_demo
from engine.inference import engine_selection
from engine.jobs import converted_copy, curate, evaluate, sample, stages, train
from engine.models.gguf_quantize import quantize
from engine.models.identity import base_model
from store import inference_sessions, models, paths
from store.connection import connect, transaction
from store.enums import JobKind
from tests.projects import claimed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from engine.inference.backend import Backend
    from engine.project.job_context import Work
    from store.inference_sessions import InferenceSession


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("gguf") / "alone.gguf"
    quantize(MODELS / "pebble-m" / "pebble-m.gguf", file, "Q8_0")
    return file


@contextmanager
def job(folder: Path, gguf: Path, kind: JobKind = JobKind.SAMPLE, m: int = 2) -> Iterator[Work]:
    """A job of a project whose only model is the file."""
    project = make_demo(
        folder,
        pool=4,
        evaluation=3,
        changes={
            "model": {"teacher": "alone/base"},
            "sample": {"m": m, "threshold": "0"},
            "finetune": {"epochs": 1.0, "learning_rate": 5e-3, "examples_per_step": 8},
            "evaluate": {"k": 1, "ood": False},
        },
    )
    with connect(project.database) as conn:
        if models.by_name(conn, "alone/base") is None:
            with transaction(conn):
                models.add(conn, base_model(project, "alone/base", gguf))
        yield claimed(conn, project, kind)


class Rates(NamedTuple):
    """What the probe measures."""

    llama: float
    torch: float


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Every run is long enough for a copy, and transformers is faster unless a test says so."""
    measured: Rates = getattr(request, "param", Rates(10.0, 20.0))

    def measure(backend: Backend, *_: object, is_tiny: bool) -> float:
        del is_tiny
        return measured.llama if backend.name == "llama.cpp" else measured.torch

    monkeypatch.setattr(engine_selection, "measure_rate", measure)
    monkeypatch.setattr(converted_copy, "PAYS_FROM", 0.0)


def newest_session(work: Work, name: str = "alone/base") -> InferenceSession:
    model = models.by_name(work.conn, name)
    assert model is not None
    return next(inference_sessions.of_model(work.conn, model.id))


def copies(work: Work) -> list[str]:
    return sorted(
        path.name for path in (work.project.folder / "models").iterdir() if "alone" in path.name
    )


@pytest.mark.usefixtures("rates")
def test_the_copy_is_sampled_where_it_is_faster(tmp_path: Path, gguf: Path) -> None:
    with job(tmp_path / "p", gguf) as work:
        base = models.by_name(work.conn, "alone/base")
        assert base is not None
        planned = stages.plan(work.conn, work.project, JobKind.SAMPLE, work.settings)
        assert "is converted to models/alone-" in planned.copy
        assert sample.run(work)["paths"] == 8
        session = newest_session(work)
        folder = gguf_to_hf.hf_folder(work.project, base)
        assert session.engine == "transformers"
        assert session.details["copy"] == f"models/{folder.name}"
        assert session.details["engines"] == {"llama.cpp": 10.0, "transformers": 20.0}
        assert f"from the converted copy models/{folder.name}" in inference_sessions.describe(
            session
        )
        run = paths.run_by_id(work.conn, session.run_id)
        assert inference_sessions.engines_of(work.conn, run).endswith("from a converted copy")
        assert copies(work) == [folder.name]
        assert "is used instead of alone.gguf" in converted_copy.describe(work.project, base)


@pytest.mark.usefixtures("rates")
@pytest.mark.parametrize("rates", [Rates(20.0, 10.0)], indirect=True)
def test_the_file_is_sampled_where_it_is_faster(tmp_path: Path, gguf: Path) -> None:
    with job(tmp_path / "p", gguf) as work:
        sample.run(work)
        session = newest_session(work)
        assert session.engine == "llama.cpp"
        assert "copy" not in session.details
        assert session.details["engines"] == {"llama.cpp": 20.0, "transformers": 10.0}


def test_no_copy_is_made_for_a_short_run(tmp_path: Path, gguf: Path) -> None:
    with job(tmp_path / "p", gguf) as work:
        sample.run(work)
        session = newest_session(work)
        assert session.engine == "llama.cpp"
        assert session.details["no_copy"] == "llama.cpp needs only about 1 min for this"
        assert copies(work) == []


@pytest.mark.usefixtures("rates")
def test_a_trained_model_is_sampled_from_the_copy_of_its_base(tmp_path: Path, gguf: Path) -> None:
    with job(tmp_path / "p", gguf, JobKind.FINETUNE) as work:
        sample.run(work)
        curate.run(work)
        name = str(train.finetune(work)["model"])
        tuned = models.by_name(work.conn, name)
        base = models.by_name(work.conn, "alone/base")
        assert tuned is not None
        assert base is not None
        assert evaluate.measure(work, tuned)
        session = newest_session(work, name)
        assert session.engine == "transformers"
        assert session.details["copy"] == newest_session(work).details["copy"]
        assert len(copies(work)) == 1


@pytest.mark.usefixtures("rates")
def test_a_copy_that_differs_from_the_file_is_not_used_and_not_made_again(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with job(tmp_path / "p", gguf) as work:
        with monkeypatch.context() as patch:
            patch.setattr(gguf_to_hf, "TOLERANCE", -1.0)
            sample.run(work)
        session = newest_session(work)
        assert session.engine == "llama.cpp"
        assert "logits" in session.details["no_copy"]
        assert copies(work) == []
        monkeypatch.setattr(gguf_to_hf, "convert_to_hf", None)
        base = models.by_name(work.conn, "alone/base")
        assert base is not None
        assert evaluate.measure(work, base)
        assert newest_session(work).engine == "llama.cpp"


@pytest.mark.usefixtures("rates")
def test_on_a_full_disk_llama_cpp_goes_on(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with job(tmp_path / "p", gguf) as work:
        usage = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        sample.run(work)
        session = newest_session(work)
        assert session.engine == "llama.cpp"
        assert "of disk, and 0.0 GiB are free" in session.details["no_copy"]
        assert paths.counts(work.conn, session.run_id).paths == 8


def test_what_a_killed_conversion_left_counts_as_free(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with job(tmp_path / "p", gguf) as work:
        folder = work.project.folder / "models" / "alone"
        usage = shutil.disk_usage(tmp_path)._replace(free=converted_copy.FREE_DISK + 90)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        assert converted_copy.no_room(work.project, folder, 100)
        left = gguf_to_hf.unfinished(folder)
        left.mkdir()
        (left / "model.safetensors").write_bytes(b"unfinished")
        assert converted_copy.no_room(work.project, folder, 100) is None


@pytest.mark.usefixtures("rates")
def test_what_a_failed_conversion_wrote_is_deleted(
    tmp_path: Path, gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_model: object, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with job(tmp_path / "p", gguf) as work:
        with monkeypatch.context() as patch:
            patch.setattr(gguf_to_hf, "_write_folder", fails)
            sample.run(work)
        assert newest_session(work).engine == "llama.cpp"
        assert "disk" in newest_session(work).details["no_copy"]
        assert copies(work) == []
        assert list((work.project.folder / "models").glob(".*")) == []
        base = models.by_name(work.conn, "alone/base")
        assert base is not None
        assert evaluate.measure(work, base)
        assert newest_session(work).engine == "transformers", "a later load tries again"

"""A model that was moved: what the commands say, and how the project follows it."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from engine.conversion.hf_to_gguf import convert_base
from engine.inference import engine_selection
from engine.jobs import stages
from engine.jobs.worker import do
from engine.project.folder import Project, open_project
from lmsi_tui.cli.main import run
from store import jobs, models
from store.connection import connect, transaction
from store.enums import JobKind, JobState, Stage
from store.records import Model, content_hash
from tests.engine.tiny import tiny_model

if TYPE_CHECKING:
    from pathlib import Path

QUESTION = '{"question": "What is 2 + 2?", "answer": "4"}\n'
OTHER = '{"question": "What is 2 + 3?", "answer": "5"}\n'


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as folder and as GGUF, and another one."""
    folder = tmp_path_factory.mktemp("originals")
    tiny_model(folder / "hf")
    tiny_model(folder / "other", seed=1)
    convert_base(folder / "hf", folder / "tiny.gguf")
    convert_base(folder / "other", folder / "other.gguf")
    return folder


@pytest.fixture(params=["hf", "tiny.gguf"])
def place(request: pytest.FixtureRequest, originals: Path, tmp_path: Path) -> Path:
    """A copy of the model, as a folder or as GGUF."""
    return copy(originals / request.param, tmp_path / request.param)


def copy(source: Path, target: Path) -> Path:
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    return target


def a_project(folder: Path, model: Path) -> Project:
    made = folder / "p"
    few = ["--set", "sample.max_tokens=4", "--set", "sample.m=2"]
    few += ["--set", "sample.format=zero-shot-direct", "--set", "sample.early_stop=off"]
    assert run(["init", str(made), "--model", str(model), "--name", "tiny", *few]) == 0
    for split, text in (("pool", QUESTION), ("eval", OTHER)):
        (folder / "q.jsonl").write_text(text)
        arguments = ["--task", "number", "--split", split, "--project", str(made)]
        assert run(["import", str(folder / "q.jsonl"), *arguments]) == 0
    return open_project(made)


def failed(project: Project, kind: JobKind) -> str:
    """The error of a job that is run in this process."""
    with connect(project.database) as conn:
        with transaction(conn):
            jobs.enqueue(conn, kind, {"settings": {}})
        job = jobs.claim(conn, 1, 1)
        assert job is not None
        do(project.folder, conn, job)
        job = jobs.get(conn, job.id)
    assert job.state is JobState.FAILED
    assert job.result["exit_code"] == 2
    return job.error or ""


def test_every_command_says_that_the_model_is_gone_and_how_to_follow_it(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = a_project(tmp_path, place)
    add_trained(project)
    place.rename(place.with_name("elsewhere"))
    command = f"lmsi-tui models {project.folder} --moved tiny/base=PATH"
    for kind in (JobKind.SAMPLE, JobKind.EVALUATE):
        error = failed(project, kind)
        assert f"There is no model at {place}" in error
        assert command in error
        assert problem(project, kind) == error
        with connect(project.database, read_only=True) as conn:
            (paths,) = conn.execute("SELECT count(*) FROM path").fetchone()
        assert paths == 0
    capsys.readouterr()
    assert run(["prompt", str(project.folder), "--set", "sample.style=chat"]) == 2
    assert f"There is no model at {place}" in capsys.readouterr().err


def add_trained(project: Project) -> Model:
    """A model with an adapter for the base."""
    folder = project.folder / "adapters" / "a"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    with connect(project.database) as conn:
        (base,) = models.all_of(conn)
        weights = content_hash([_sha256(b"weights")])
        return models.add(
            conn,
            Model(
                id=0,
                name="tiny/lmsi",
                stage=Stage.LMSI,
                location=base.location,
                gguf=base.gguf,
                adapter="adapters/a",
                adapter_gguf="adapters/a/adapter.gguf" if base.gguf else None,
                sha256=content_hash([base.sha256, weights]),
                tokenizer_sha256=base.tokenizer_sha256,
                base_id=base.id,
                training_set="s",
                parameters=None,
                created_at=1.0,
            ),
        )


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


def stored(project: Project) -> dict[str, Model]:
    with connect(project.database, read_only=True) as conn:
        return {model.name: model for model in models.all_of(conn)}


def test_a_moved_model_is_followed_with_all_that_share_its_files(
    place: Path, originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = a_project(tmp_path, place)
    add_trained(project)
    new = place.rename(tmp_path / f"new name{place.suffix}")
    before = stored(project)
    models_of = ["models", str(project.folder)]
    wrong = [
        ("tiny/base", str(originals / f"other{place.suffix}"), "another model"),
        ("tiny/base", str(tmp_path / "nowhere"), "no model at"),
        ("tiny/base", str(tmp_path), ""),
        ("nobody", str(new), "tiny/base"),
        ("tiny/base", "", "NAME=PATH"),
    ]
    for name, path, named in wrong:
        capsys.readouterr()
        assert run([*models_of, "--moved", f"{name}={path}"]) == 2
        assert named in capsys.readouterr().err
    assert stored(project) == before
    capsys.readouterr()
    assert run([*models_of, "--json"]) == 0
    listed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["missing"] for event in listed] == [str(place)] * 2
    # Any model that uses the files may be named.
    assert run([*models_of, "--moved", f"tiny/lmsi={new}"]) == 0
    after = stored(project)
    for name in ("tiny/base", "tiny/lmsi"):
        assert after[name].location == str(new)
        assert after[name].gguf == (str(new) if place.suffix else None)
        assert after[name].adapter == before[name].adapter
        assert after[name].sha256 == before[name].sha256
    assert problem(project, JobKind.SAMPLE) is None


def problem(project: Project, kind: JobKind) -> str | None:
    with connect(project.database, read_only=True) as conn:
        return stages.plan(conn, project, kind, project.settings).problem


def test_a_moved_adapter_is_followed(originals: Path, tmp_path: Path) -> None:
    project = a_project(tmp_path, originals / "tiny.gguf")
    add_trained(project)
    new = (project.folder / "adapters" / "a").rename(tmp_path / "adapter")
    assert run(["models", str(project.folder), "--moved", f"tiny/lmsi={new}"]) == 0
    moved = stored(project)["tiny/lmsi"]
    assert (moved.adapter, moved.adapter_gguf) == (str(new), str(new / "adapter.gguf"))
    (new / "adapter_model.safetensors").write_bytes(b"others")
    assert run(["models", str(project.folder), "--moved", f"tiny/lmsi={new}"]) == 2


def test_a_gguf_beside_a_folder_is_followed_on_its_own(originals: Path, tmp_path: Path) -> None:
    gguf = copy(originals / "tiny.gguf", tmp_path / "tiny.gguf")
    folder = tmp_path / "p"
    assert run(["init", str(folder), "--model", str(originals / "hf"), "--gguf", str(gguf)]) == 0
    new = gguf.rename(tmp_path / "new.gguf")
    assert run(["models", str(folder), "--moved", f"hf/base={new}"]) == 0
    (model,) = stored(open_project(folder)).values()
    assert (model.location, model.gguf) == (str(originals / "hf"), str(new))


def test_a_model_that_is_moved_while_it_is_loaded_is_named(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = a_project(tmp_path, place)

    def vanish(*_: object) -> None:
        place.rename(place.with_name("elsewhere"))
        raise RuntimeError("tensor file was truncated")

    with monkeypatch.context() as patched:
        patched.setattr(engine_selection, "open_fastest", vanish)
        assert f"There is no model at {place}" in failed(project, JobKind.SAMPLE)
    place.with_name("elsewhere").rename(place)
    assert problem(project, JobKind.SAMPLE) is None


def test_an_empty_folder_is_no_model(originals: Path, tmp_path: Path) -> None:
    place = copy(originals / "hf", tmp_path / "hf")
    project = a_project(tmp_path, place)
    for file in place.iterdir():
        file.unlink()
    assert f"There is no model at {place}" in failed(project, JobKind.SAMPLE)

"""Run a training in this process, or on several GPUs or machines.

Several processes are started with `accelerate launch` as children of the worker, one for each GPU.
Their task is written to a file, so that only the first of them opens the store. The others learn
that they are to stop when gradients are summed. On another machine, give the same command by hand:
`accelerate launch --config_file FILE --machine_rank 1 -m engine.training.launcher PROJECT`.

The children's standard input is a pipe that the worker holds. The kernel closes it however the
worker ends, and every child that reads the end of the file exits: no process is left behind.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.project.job_context import CancelRequested, PauseRequested, Progress
from engine.project.objectives import ContrastLoss, Objective
from engine.project.settings import Settings, changed
from engine.training import checkpoints, loop, tensorboard
from engine.training.contrast.losses import Contrast, ContrastSet
from engine.training.data_parallel import DataParallel
from engine.training.kl_divergence import read_top_k, write_top_k
from store import jobs
from store.atomic_file import atomic_file
from store.connection import DATABASE, connect
from store.enums import JobState, PromptFormat, PromptStyle
from store.errors import BadInput, LmsiError, WorkFailed
from store.records import Example

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from engine.packing.encoding import TopKLogprobs
    from engine.project.job_context import Work
    from engine.project.settings import TrainSettings
    from engine.training.loop import TrainingResult

TASK = "training.task.json"
"""File in the project's logs: the task of the processes."""
FAILURE = "training.failure.json"
"""File in the project's logs: the error of the first process that failed."""
TEACHER = "training.teacher.npz"
"""File beside the task: the teacher's log-probabilities."""
CHECKPOINT_TIMEOUT = 600.0
"""Seconds that the processes have to write a checkpoint when the worker is to end."""
EXIT_TIMEOUT = 10.0
"""Seconds that the processes have to exit when nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Training:
    """What is trained on what (the arguments of `loop.train`)."""

    base: Path
    examples: Sequence[Example]
    settings: TrainSettings
    out: Path
    work: Path
    style: PromptStyle
    threads: int | None
    """CPU threads for all processes of a machine together; None is all."""
    events: Path
    """Folder for TensorBoard's files, if the settings ask for them."""
    teacher: Mapping[int, TopKLogprobs] = field(default_factory=dict)
    """The teacher's log-probabilities by path id; empty without a teacher."""
    contrast: ContrastSet | None = None
    """The losing paths, if the objective is a contrast."""


def train(work: Work, training: Training) -> TrainingResult:
    """Train in as many processes as the settings say.

    Raises:
        BadInput, WorkFailed: as `loop.train`, in any process.
        PauseRequested, CancelRequested: after a checkpoint was written.
    """
    settings = training.settings
    if not settings.machines and _processes_here(settings) == 1:
        return _train(training, work.progress, DataParallel())
    purpose = checkpoints.fingerprint(
        training.base,
        training.examples,
        settings,
        training.style,
        training.contrast.content() if training.contrast else (),
    )
    summary = checkpoints.finished(training.out, purpose)
    while summary is None:
        ended_well = _run_processes(work, training)
        summary = checkpoints.finished(training.out, purpose)
        # If a pause was withdrawn in time, there is a checkpoint to continue from.
        if summary is None and not (ended_well and training.work.exists()):
            raise WorkFailed(
                "The training processes ended without a result: see the last lines of "
                f"logs/job-{work.progress.job_id}.log."
            )
    return loop.TrainingResult(**summary)


def _train(training: Training, watcher: loop.Watcher, parallel: DataParallel) -> TrainingResult:
    writes_events = training.settings.tensorboard and parallel.is_main
    folder = training.events if writes_events else None
    with tensorboard.event_files(folder, watcher) as progress:
        return loop.train(
            training.base,
            training.examples,
            training.settings,
            out=training.out,
            work=training.work,
            style=training.style,
            progress=progress,
            threads=training.threads,
            parallel=parallel,
            teacher=training.teacher,
            contrast=training.contrast,
        )


def _processes_here(settings: TrainSettings) -> int:
    """Number of processes on this machine."""
    import torch

    gpus = torch.cuda.device_count()
    count = settings.processes or max(1, gpus)
    if gpus and count > gpus:
        raise BadInput(
            f"This machine has {gpus} GPUs, fewer than the {count} processes of the settings: set "
            "finetune.processes (or distill.processes) to 0 to use every GPU."
        )
    return count


# In the worker.


def _run_processes(work: Work, training: Training) -> bool:
    """Start the processes and wait until all have ended.

    Returns:
        Whether all ended successfully.

    Raises:
        LmsiError: the error of the first process that failed.
        PauseRequested, CancelRequested: the job is to stop, and the checkpoint is written.
    """
    logs = work.project.folder / "logs"
    logs.mkdir(exist_ok=True)
    (logs / FAILURE).unlink(missing_ok=True)
    _write_task(logs / TASK, training)
    conn, job_id = work.conn, work.progress.job_id
    with _children(_command(work, training)) as launched:
        try:
            launched.wait()
        except BaseException:  # the worker is to end: the job waits for the next one
            jobs.request(conn, job_id, JobState.PAUSING)
            with suppress(subprocess.TimeoutExpired):
                launched.wait(CHECKPOINT_TIMEOUT)
            raise
    if (logs / FAILURE).exists():
        failure = json.loads((logs / FAILURE).read_text())
        error = BadInput if failure["exit_code"] == BadInput.exit_code else WorkFailed
        raise error(failure["message"])
    work.progress.look()
    return launched.returncode == 0


def _command(work: Work, training: Training) -> list[str]:
    settings = training.settings
    if settings.machines:
        config = work.project.inside(settings.machines)
        if not config.is_file():
            raise BadInput(
                f"{config} is not a file: write it with `accelerate config --config_file {config}`."
            )
        where = ["--config_file", str(config), "--machine_rank", "0"]
    else:
        # accelerate calls them GPUs; on a machine without any, the same processes use the CPU.
        where = ["--multi_gpu", "--num_machines", "1", "--machine_rank", "0"]
        where += ["--num_processes", str(_processes_here(settings)), "--gpu_ids", "all"]
        where += ["--main_process_ip", "127.0.0.1", "--main_process_port", str(_free_port())]
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", *where),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
        *("-m", "engine.training.launcher", str(work.project.folder.resolve())),
        *("--job", str(work.progress.job_id)),
    ]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def _children(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The processes, which end with this block at the latest, and with this process."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) as launched:
        try:
            yield launched
        finally:
            assert launched.stdin is not None
            launched.stdin.close()
            try:
                launched.wait(EXIT_TIMEOUT)
            except subprocess.TimeoutExpired:
                launched.kill()


def _write_task(path: Path, training: Training) -> None:
    task = {
        attribute.name: getattr(training, attribute.name)
        for attribute in dataclasses.fields(training)
        if attribute.name not in ("examples", "settings", "teacher", "contrast")
    } | {
        "settings": dataclasses.asdict(training.settings),
        "examples": [dataclasses.asdict(example) for example in training.examples],
        "contrast": _written_contrast(training.contrast),
    }
    write_top_k(path.with_name(TEACHER), training.teacher)
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(task, default=lambda value: str(value.absolute())))


def _written_contrast(contrast: ContrastSet | None) -> dict[str, object] | None:
    if contrast is None:
        return None
    return {
        "loss": dataclasses.asdict(contrast.contrast),
        "losers": [dataclasses.asdict(example) for example in contrast.losers],
        "margins": list(contrast.margins.items()),
    }


# In the processes.


class SilentWatcher:
    """The watcher of every process but the first: it ignores all progress."""

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """Do nothing."""

    def advance(self, done: int, total: int) -> None:
        """Do nothing."""

    def measure(self, step: int, values: Mapping[str, float], *, always: bool = False) -> None:
        """Do nothing."""

    def look(self) -> None:
        """Do nothing: the first process looks, and the others stop with it."""


def main(folder: Path, job_id: int | None) -> int:
    """Run one of the processes, as `accelerate launch` starts it.

    Args:
        folder: of the project.
        job_id: the worker's job; None on other machines, where the command is given by hand.

    Returns:
        The exit code.
    """
    import torch

    if job_id is not None:
        threading.Thread(target=_exit_with_the_worker, daemon=True).start()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    parallel = DataParallel(torch.distributed.get_rank(), torch.distributed.get_world_size())
    try:
        # Only now: the worker has written the task before its own processes join the group.
        training = _read_task(folder / "logs" / TASK)
        is_sharded = training.settings.sharded and parallel.processes > 1
        parallel = replace(parallel, is_sharded=is_sharded)
        if not parallel.is_main:
            _train(training, SilentWatcher(), parallel)
        elif job_id is None:
            raise BadInput(
                "The worker starts the first process: run this command on the other machines "
                "only, with --machine_rank 1 or higher."
            )
        else:
            with connect(folder / DATABASE) as conn:
                _train(training, Progress(conn, job_id), parallel)
    except LmsiError as error:
        with suppress(FileExistsError), (folder / "logs" / FAILURE).open("x") as file:
            json.dump({"message": str(error), "exit_code": error.exit_code}, file)
        return error.exit_code
    except (PauseRequested, CancelRequested):
        pass  # the worker sees the same request, or continues if it was withdrawn
    torch.distributed.destroy_process_group()
    return 0


def _exit_with_the_worker() -> None:
    """Wait until the worker closes the pipe, then exit."""
    os.read(0, 1)  # not sys.stdin: its lock must not be held when Python exits
    os._exit(1)


def _read_task(path: Path) -> Training:
    task = json.loads(path.read_text())
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    threads = task["threads"] or os.cpu_count() or 1
    return Training(
        base=Path(task["base"]),
        examples=list(map(_read_example, task["examples"])),
        settings=_read_settings(task["settings"]),
        out=Path(task["out"]),
        work=Path(task["work"]),
        style=PromptStyle(task["style"]),
        threads=max(1, threads // processes),
        events=Path(task["events"]),
        teacher=read_top_k(path.with_name(TEACHER)),
        contrast=_read_contrast(task["contrast"]),
    )


def _read_example(written: dict[str, Any]) -> Example:
    prompt_format = PromptFormat(written["prompt_format"])
    token_ids = tuple(written["token_ids"])
    return Example(**{**written, "prompt_format": prompt_format, "token_ids": token_ids})


def _read_settings(written: dict[str, Any]) -> TrainSettings:
    # Only distillation has the setting top_k_logits, and only fine-tuning has other objectives.
    section = "distill" if written["objective"] == Objective.MAJORITY else "finetune"
    settings: TrainSettings = getattr(changed(Settings(), {section: written}), section)
    return settings


def _read_contrast(written: dict[str, Any] | None) -> ContrastSet | None:
    if written is None:
        return None
    loss = written["loss"]
    return ContrastSet(
        Contrast(ContrastLoss(loss["loss"]), loss["beta"], loss["likelihood_weight"]),
        list(map(_read_example, written["losers"])),
        dict(written["margins"]),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m engine.training.launcher")
    parser.add_argument("project", type=Path)
    parser.add_argument("--job", type=int)
    args = parser.parse_args()
    sys.exit(main(args.project, args.job))

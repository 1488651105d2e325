"""A training in this process, or on several GPUs or machines.

Several processes are started with `accelerate launch` as children of the worker, one for each GPU.
What they are to do stands in a file, so that only the first of them opens the store. The others
hear of a wish to stop when they sum their gradients. On another machine the same command is
given by hand:
`accelerate launch --config_file FILE --machine_rank 1 -m engine.training.launcher PROJECT`.

The children's input is a pipe that the worker holds. The kernel closes it when the worker dies,
however it dies, and every child that reads its end ends too: no process is left behind.
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
from typing import TYPE_CHECKING

from engine.project.job_context import CancelWished, PauseWished, Progress
from engine.project.settings import Settings, changed
from engine.training import checkpoints, loop, tensorboard
from engine.training.data_parallel import Ranks
from engine.training.kl_divergence import read_likely, write_likely
from store import jobs
from store.connection import DATABASE, connect
from store.enums import JobState, PromptFormat, PromptStyle
from store.errors import BadInput, LmsiError, WorkFailed
from store.records import Example

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from engine.project.job_context import Work
    from engine.project.settings import TrainSettings
    from engine.training.kl_divergence import Likely
    from engine.training.loop import Trained

TASK, FAILURE = "training.task.json", "training.failure.json"
"""Files in the project's logs: what the processes are to do, and why the first one that failed
did."""
TEACHER = "training.teacher.npz"
"""The file beside the task that holds what a teacher thought likely."""
STOP_SECONDS = 600.0
"""How long the processes may take to write a checkpoint when the worker is told to end."""
ENDING_SECONDS = 10.0
"""How long they may take to end when nothing is left to do."""


@dataclass(frozen=True, slots=True)
class Training:
    """What is to be trained on what (the arguments of `finetune.train`)."""

    base: Path
    examples: Sequence[Example]
    settings: TrainSettings
    out: Path
    work: Path
    style: PromptStyle
    threads: int | None
    """Of the processor, all processes of a machine together; None is all."""
    events: Path
    """Folder for TensorBoard's files, where they are wanted."""
    teacher: Mapping[int, Likely] = field(default_factory=dict)
    """What a teacher thought likely, by path id; empty where there is none to learn from."""


def train(work: Work, training: Training) -> Trained:
    """Train, in as many processes as the settings say.

    Raises:
        BadInput, WorkFailed: as `finetune.train`, in whichever process it happened.
        PauseWished, CancelWished: after a checkpoint was written.
    """
    settings = training.settings
    if not settings.machines and _processes(settings) == 1:
        return _train(training, work.progress, Ranks())
    purpose = checkpoints.fingerprint(training.base, training.examples, settings, training.style)
    done = checkpoints.finished(training.out, purpose)
    while done is None:
        ended_well = _run(work, training)
        done = checkpoints.finished(training.out, purpose)
        # Where a wish to stop was taken back in time, there is a checkpoint to go on from.
        if done is None and not (ended_well and training.work.exists()):
            raise WorkFailed(
                "The processes that trained together ended without a result: the last lines of "
                f"logs/job-{work.progress.job_id}.log say why."
            )
    return loop.Trained(**done)


def _train(training: Training, progress: loop.Watcher, ranks: Ranks) -> Trained:
    wanted = training.settings.tensorboard and ranks.writes
    with tensorboard.written(training.events if wanted else None, progress) as watcher:
        return loop.train(
            training.base,
            training.examples,
            training.settings,
            out=training.out,
            work=training.work,
            style=training.style,
            progress=watcher,
            threads=training.threads,
            ranks=ranks,
            teacher=training.teacher,
        )


def _processes(settings: TrainSettings) -> int:
    """Processes on this machine."""
    import torch

    gpus = torch.cuda.device_count()
    count = settings.processes or max(1, gpus)
    if gpus and count > gpus:
        raise BadInput(
            f"There are {gpus} GPUs here and {count} processes were asked for: set "
            "finetune.processes (or distill.processes) to 0, which takes every GPU."
        )
    return count


# The worker's side.


def _run(work: Work, training: Training) -> bool:
    """Start the processes, and wait until all have ended.

    Returns:
        Whether all ended as they should.

    Raises:
        LmsiError: what the first process that failed said.
        PauseWished, CancelWished: the person wished it, and the checkpoint is written.
    """
    logs = work.project.folder / "logs"
    logs.mkdir(exist_ok=True)
    (logs / FAILURE).unlink(missing_ok=True)
    _write_task(logs / TASK, training)
    conn, job_id = work.conn, work.progress.job_id
    with _children(_command(work, training)) as launched:
        try:
            launched.wait()
        except BaseException:  # the worker is told to end: the job waits for the next one
            jobs.wish(conn, job_id, JobState.PAUSING)
            with suppress(subprocess.TimeoutExpired):
                launched.wait(STOP_SECONDS)
            raise
    if (logs / FAILURE).exists():
        failure = json.loads((logs / FAILURE).read_text())
        kind = BadInput if failure["exit_code"] == BadInput.exit_code else WorkFailed
        raise kind(failure["sentence"])
    work.progress.look()
    return launched.returncode == 0


def _command(work: Work, training: Training) -> list[str]:
    settings = training.settings
    if settings.machines:
        file = work.project.inside(settings.machines)
        if not file.is_file():
            raise BadInput(
                f"{file} is no file: write it with `accelerate config --config_file {file}`."
            )
        where = ["--config_file", str(file), "--machine_rank", "0"]
    else:
        # accelerate calls it GPUs; on a machine without one the same processes use the processor.
        where = ["--multi_gpu", "--num_machines", "1", "--machine_rank", "0"]
        where += ["--num_processes", str(_processes(settings)), "--gpu_ids", "all"]
        where += ["--main_process_ip", "127.0.0.1", "--main_process_port", str(_free_port())]
    return [
        *(sys.executable, "-m", "accelerate.commands.launch", *where),
        *("--mixed_precision", "no", "--dynamo_backend", "no"),
        *("-m", "engine.training.launcher", str(work.project.folder.resolve())),
        *("--job", str(work.progress.job_id)),
    ]


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


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
                launched.wait(ENDING_SECONDS)
            except subprocess.TimeoutExpired:
                launched.kill()


def _write_task(path: Path, training: Training) -> None:
    task = {
        one.name: getattr(training, one.name)
        for one in dataclasses.fields(training)
        if one.name not in ("examples", "settings", "teacher")
    } | {
        "settings": dataclasses.asdict(training.settings),
        "examples": [dataclasses.asdict(one) for one in training.examples],
    }
    write_likely(path.with_name(TEACHER), training.teacher)
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(task, default=lambda value: str(value.absolute())))
    temporary.replace(path)


# The processes' side.


class Silent:
    """The watcher of the processes that write nothing."""

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """Nobody is told."""

    def advance(self, done: int, total: int) -> None:
        """Nobody is told."""

    def measure(self, step: int, values: Mapping[str, float], *, always: bool = False) -> None:
        """Nobody is told."""

    def look(self) -> None:
        """The first process looks, and the others hear of it."""


def main(folder: Path, job_id: int | None) -> int:
    """One of the processes, as `accelerate launch` starts it; `job_id` where the worker did."""
    import torch

    if job_id is not None:
        threading.Thread(target=_end_with_the_worker, daemon=True).start()
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if torch.cuda.is_available():
        torch.cuda.set_device(local)
    torch.distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    ranks = Ranks(torch.distributed.get_rank(), torch.distributed.get_world_size())
    try:
        # Only now: the worker wrote the task before its own processes were there to be met.
        training = _read_task(folder / "logs" / TASK)
        ranks = replace(ranks, divided=training.settings.sharded and ranks.count > 1)
        if not ranks.writes:
            _train(training, Silent(), ranks)
        elif job_id is None:
            raise BadInput(
                "The first process is started by the worker: give this command on the other "
                "machines only, with --machine_rank 1 and on."
            )
        else:
            with connect(folder / DATABASE) as conn:
                _train(training, Progress(conn, job_id), ranks)
    except LmsiError as failure:
        with suppress(FileExistsError), (folder / "logs" / FAILURE).open("x") as file:
            json.dump({"sentence": str(failure), "exit_code": failure.exit_code}, file)
        return failure.exit_code
    except (PauseWished, CancelWished):
        pass  # the worker sees the same wish, or goes on when it was taken back
    torch.distributed.destroy_process_group()
    return 0


def _end_with_the_worker() -> None:
    """Wait for the end of the pipe that the worker holds."""
    os.read(0, 1)  # not sys.stdin: its lock must not be held when Python ends
    os._exit(1)


def _read_task(path: Path) -> Training:
    task = json.loads(path.read_text())
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    threads = task["threads"] or os.cpu_count() or 1
    return Training(
        base=Path(task["base"]),
        examples=[
            Example(
                **{
                    **one,
                    "prompt_format": PromptFormat(one["prompt_format"]),
                    "token_ids": tuple(one["token_ids"]),
                }
            )
            for one in task["examples"]
        ],
        settings=changed(Settings(), {"distill": task["settings"]}).distill,
        out=Path(task["out"]),
        work=Path(task["work"]),
        style=PromptStyle(task["style"]),
        threads=max(1, threads // processes),
        events=Path(task["events"]),
        teacher=read_likely(path.with_name(TEACHER)),
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m engine.training.launcher")
    parser.add_argument("project", type=Path)
    parser.add_argument("--job", type=int)
    given = parser.parse_args()
    sys.exit(main(given.project, given.job))

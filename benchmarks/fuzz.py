"""Read damaged files with every reader of lmsi-tui: `python -m benchmarks.fuzz`.

Each case damages a valid file (`benchmarks.mutations`) and reads it as a user would. It must be
accepted, or refused with one sentence that names the file. Anything else is a fault: another
exception, a crash of the process, more memory or time than the bounds below. Cases are numbered and
seeded: `--kind gguf --first 17 --cases 1` repeats one.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import io
import json
import lzma
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from benchmarks import mutations
from lmsi_tui.cli.main import run
from store.errors import LmsiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from multiprocessing.connection import Connection

SECONDS = 10.0
"""Most time of one case."""

MEMORY = 2 * 2**30
"""Most bytes of address space that a case may take in addition to what the valid file takes."""

LONGEST = 1200
"""Most characters of a sentence."""

ACCEPTED, REFUSED, FAULT = "accepted", "refused", "fault"


class _TooSlow(BaseException):
    """A case took longer than `SECONDS`."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of file."""

    mutate: Callable[[bytes, Random], bytes]
    prepare: Callable[[Path], Sequence[Path]]
    """Writes valid files into an empty folder; returns those that are damaged."""
    read: Callable[[Path, Path, int], str | None]
    """Reads the damaged file, given its folder, its path and the case's number; returns the
    sentence of a refusal, or None."""


def command(*arguments: Path | str) -> str | None:
    """Run a command of lmsi-tui in this process; the sentence that it ends in, None on success.

    Raises:
        AssertionError: it printed something other than one sentence.
    """
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = run([str(argument) for argument in arguments])
    if "--json" in arguments:
        for line in out.getvalue().splitlines():
            json.loads(line, parse_constant=_not_json)
    out.getvalue().encode()  # no surrogate
    if not code:
        return None
    printed = err.getvalue().strip("\n")
    assert "\n" not in printed, f"more than one line: {printed}"
    assert printed.startswith("lmsi-tui: "), printed
    return printed.removeprefix("lmsi-tui: ")


def _not_json(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


# The kinds.

_QUESTIONS = [
    {"question": "What is 2 + 3?", "answer": "5", "options": ["4", "5"], "id": 1},
    {"question": "A pen costs 4. Two pens?", "answer": "#### 8", "options": ["8", "9"], "id": 2},
    {"question": "Is 7 prime?", "answer": "7", "options": ["yes", "no"], "id": 3},
]


def _write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def _json_lines(folder: Path) -> list[Path]:
    lines = "".join(json.dumps(row) + "\n" for row in _QUESTIONS)
    document = {"data": _QUESTIONS, "version": 1}
    passages = {"p": {"passage": "A text.", "qa_pairs": [_QUESTIONS[0]]}}
    return [
        _write(folder / "questions.jsonl", lines),
        _write(folder / "document.json", json.dumps(document)),
        _write(folder / "passages.json", json.dumps(passages)),
    ]


def _mutate_json(content: bytes, random: Random) -> bytes:
    is_lines = content.count(b"\n") > 1
    return (mutations.json_lines if is_lines else mutations.json_text)(content, random)


def _tables(folder: Path) -> list[Path]:
    rows = [
        ["question", "answer", "A", "B"],
        ["What, now?", "5", "4", '"5"'],
        ["B?", "1", "2", "3"],
    ]
    return [
        _write(folder / "q.csv", "\n".join(",".join(row) for row in rows) + "\n"),
        _write(folder / "quoted.csv", 'question;answer\n"a ""b"";\nc";5\nd;6\n'),
        _write(folder / "q.tsv", "\n".join("\t".join(row) for row in rows) + "\n"),
        _write(folder / "q.txt", "What is 2 + 3?\nIs 7 prime?\n"),
    ]


def _parquet(folder: Path) -> list[Path]:
    import pyarrow
    from pyarrow import parquet

    rows = [{**row, "passage": {"text": ["a"], "n": 1}} for row in _QUESTIONS]
    table = pyarrow.Table.from_pylist(rows)
    parquet.write_table(table, folder / "q.parquet")
    with pyarrow.ipc.new_file(str(folder / "q.arrow"), table.schema) as writer:
        writer.write_table(table)
    lines = "".join(json.dumps(row) + "\n" for row in _QUESTIONS).encode()
    return [
        folder / "q.parquet",
        folder / "q.arrow",
        _write(folder / "q.jsonl.gz", gzip.compress(lines)),
        _write(folder / "q.jsonl.xz", lzma.compress(lines)),
        _write(folder / "q.jsonl.bz2", bz2.compress(lines)),
    ]


def _import(folder: Path, path: Path, number: int) -> str | None:
    task = ("number", "choice", "span", "yes-no", "math", "nli", "")[number % 7]
    split = ("pool", "eval")[number % 2]
    options: list[Path | str] = ["--task", task] if task else []
    options += ["--json"] if number % 3 == 0 else []
    if number % 8 == 0:
        shutil.rmtree(folder / "project", ignore_errors=True)
        options += ["--project", _project(folder)]
    else:
        options += ["--preview"]
    return command("import", path, "--split", split, *options)


def _paths(folder: Path) -> list[Path]:
    rows = [
        {"question": "2 + 3? (A) 4 (B) 5", "samples": ["so 5", "The answer is 5."], "gold": "5"},
        {"question": "1?", "samples": [{"text": "1", "finish_reason": "stop"}], "options": ["1"]},
    ]
    return [_write(folder / "paths.jsonl", "".join(json.dumps(row) + "\n" for row in rows))]


def _import_paths(_folder: Path, path: Path, number: int) -> str | None:
    return command("import-paths", path, "--task", ("number", "span", "choice")[number % 3])


def _gguf(folder: Path) -> list[Path]:
    from engine.demo.project import MODELS

    return [Path(shutil.copy(MODELS / "pebble-s" / "pebble-s.gguf", folder / "model.gguf"))]


def _init(folder: Path, path: Path, _number: int) -> str | None:
    model = path if path.suffix == ".gguf" else path.parent
    refused = command("init", folder / "new", "--model", model, "--preview", "--json")
    if refused is None and path.suffix == ".gguf":
        from engine.conversion.gguf_to_hf import why_not_convertible

        why_not_convertible(path)
    return refused


def _model(folder: Path) -> Path:
    from tests.engine.tiny import tiny_model

    return tiny_model(folder / "model", layers=1, width=16, heads=2, key_heads=1)


def _safetensors(folder: Path) -> list[Path]:
    return [_model(folder) / "model.safetensors"]


def _config(folder: Path) -> list[Path]:
    model = _model(folder)
    return [model / "config.json", model / "generation_config.json"]


def _tokenizer(folder: Path) -> list[Path]:
    model = _model(folder)
    return [model / "tokenizer.json", model / "tokenizer_config.json"]


def _load(folder: Path, path: Path, number: int) -> str | None:
    """Preview the folder as a new project would, then load it as the worker does."""
    from engine.inference.hf.backend import open_transformers
    from engine.inference.hf.loading import read_token_config
    from engine.models.folder_tokenizer import load_tokenizer

    refused = _init(folder, path, number) if path.suffix != ".safetensors" or number % 2 else None
    if refused is not None:
        return refused
    try:
        if path.name.startswith("tokenizer"):
            read_token_config(path.parent, load_tokenizer(path.parent))
        open_transformers(path.parent, threads=1, batch_size=4).close()
    except LmsiError as error:
        return str(error)
    return None


def _adapter(folder: Path) -> list[Path]:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(_model(folder))
    adapted: Any = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.save_pretrained(folder / "adapter")
    config, weights = "adapter_config.json", "adapter_model.safetensors"
    return [folder / "adapter" / config, folder / "adapter" / weights]


def _mutate_adapter(content: bytes, random: Random) -> bytes:
    is_config = content.lstrip()[:1] == b"{"
    return (mutations.json_text if is_config else mutations.safetensors)(content, random)


def _load_adapter(folder: Path, path: Path, _number: int) -> str | None:
    from engine.inference.hf.backend import open_transformers

    try:
        open_transformers(folder / "model", adapter=path.parent, threads=1, batch_size=4).close()
    except LmsiError as error:
        return str(error)
    return None


def _project(folder: Path) -> Path:
    from tests.projects import scripted_project

    return scripted_project(folder / "project", pool=2, evaluation=1).folder


def _settings(folder: Path) -> list[Path]:
    return [_project(folder) / "lmsi.toml"]


def _show_settings(_folder: Path, path: Path, _number: int) -> str | None:
    return command("settings", path.parent)


def _set_options(folder: Path) -> list[Path]:
    _project(folder)
    options = ("sample.m=16", "sample.threshold=3/5", 'curate.formats=["zero-shot-cot"]')
    return [_write(folder / f"{n}.option", option) for n, option in enumerate(options)]


def _set(folder: Path, path: Path, _number: int) -> str | None:
    option = path.read_bytes().decode("utf-8", "surrogateescape")
    return command("prompt", folder / "project", f"--set={option}")


def _exemplars(folder: Path) -> list[Path]:
    return [_project(folder) / "examples.toml"]


def _prompt(folder: Path, _path: Path, _number: int) -> str | None:
    return command("prompt", folder / "project")


def _rules(folder: Path) -> list[Path]:
    rules = {"patterns": [r"RESULT=(\d+)"], "units": ["pieces"], "same": [["12", "1200"]]}
    return [_write(folder / "rules.option", json.dumps(rules))]


def _reader(_folder: Path, path: Path, _number: int) -> str | None:
    from engine.answers.custom_rules import from_json
    from store.enums import AnswerType

    try:
        from_json(AnswerType.NUMBER, path.read_bytes().decode("utf-8", "surrogateescape"))
    except LmsiError as error:
        return str(error)
    return None


def _app_config(folder: Path) -> list[Path]:
    text = (
        'theme = "lmsi-light"\n'
        f'recent = ["{folder}", "/nowhere"]\n[keys]\n"review.majority" = "enter,a"\n'
    )
    return [_write(folder / "config" / "lmsi-tui" / "config.toml", text)]


def _start(folder: Path, _path: Path, _number: int) -> str | None:
    """Read the app's configuration as the app does at its start."""
    from lmsi_tui.screens.modes import load_all
    from lmsi_tui.screens.setup.welcome import WelcomeScreen
    from lmsi_tui.shell.config import read_config
    from lmsi_tui.shell.keys import keymap_of, wrong_keys

    os.environ["XDG_CONFIG_HOME"] = str(folder / "config")
    try:
        config = read_config()
    except LmsiError as error:
        return str(error)
    load_all()
    keymap_of(config.keys)
    for sentence in wrong_keys(config.keys):
        assert sentence.endswith("."), sentence
    WelcomeScreen()
    return None


KINDS = {
    "gguf": Kind(mutations.bytes_of, _gguf, _init),
    "safetensors": Kind(mutations.safetensors, _safetensors, _load),
    "json": Kind(_mutate_json, _json_lines, _import),
    "csv": Kind(mutations.text, _tables, _import),
    "binary": Kind(mutations.bytes_of, _parquet, _import),
    "paths": Kind(mutations.json_lines, _paths, _import_paths),
    "settings": Kind(mutations.text, _settings, _show_settings),
    "set": Kind(mutations.text, _set_options, _set),
    "exemplars": Kind(mutations.text, _exemplars, _prompt),
    "rules": Kind(mutations.json_text, _rules, _reader),
    "app": Kind(mutations.text, _app_config, _start),
    "config": Kind(mutations.json_text, _config, _load),
    "tokenizer": Kind(mutations.json_text, _tokenizer, _load),
    "adapter": Kind(_mutate_adapter, _adapter, _load_adapter),
}


# The runner.


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case ended in."""

    number: int
    result: str
    detail: str = ""
    """The sentence of a refusal, or what is wrong."""


def fuzz(name: str, cases: int, *, first: int = 0, seed: int = 0) -> list[Outcome]:
    """Run cases of one kind in child processes; a child that dies is followed by another one."""
    outcomes: list[Outcome] = []
    # Not fork: torch has threads by then.
    context = multiprocessing.get_context("spawn")
    while (number := first + len(outcomes)) < first + cases:
        receiver, sender = context.Pipe(duplex=False)
        child = context.Process(target=_work, args=(sender, name, number, first + cases, seed))
        child.start()
        sender.close()
        try:
            receiver.recv()
        except EOFError:
            raise RuntimeError(f"The valid files of {name} cannot be read.") from None
        try:
            while receiver.poll(2 * SECONDS):
                outcomes.append(receiver.recv())
            child.kill()  # it hangs where no signal handler runs
        except EOFError:
            pass
        child.join()
        if len(outcomes) < cases and (child.exitcode != 0):
            reason = f"the process died with exit code {child.exitcode}"
            outcomes.append(Outcome(first + len(outcomes), FAULT, reason))
    return outcomes


def _work(sender: Connection, name: str, first: int, end: int, seed: int) -> None:
    """Send the outcomes of cases, with limits of memory and time."""
    warnings.simplefilter("ignore")
    os.environ["LMSI_DEBUG"] = "1"  # internal errors are raised
    signal.signal(signal.SIGALRM, _too_slow)
    with tempfile.TemporaryDirectory(prefix="lmsi-fuzz-") as scratch:
        files = prepare(name, Path(scratch))
        sender.send("ready")
        _limit_memory()
        for number in range(first, end):
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                outcome = case(name, Path(scratch), files, number, seed)
            except _TooSlow:
                outcome = Outcome(number, FAULT, f"it takes more than {SECONDS:g} seconds")
            signal.setitimer(signal.ITIMER_REAL, 0)
            sender.send(outcome)


def prepare(name: str, folder: Path) -> dict[Path, bytes]:
    """Write the valid files of a kind and read each of them; returns those that are damaged."""
    kind = KINDS[name]
    files = {path: path.read_bytes() for path in kind.prepare(folder)}
    for path in files:
        refused = kind.read(folder, path, 0)
        assert refused is None, f"the valid file is refused: {refused}"
    return files


def case(name: str, folder: Path, files: Mapping[Path, bytes], number: int, seed: int) -> Outcome:
    """Damage one of the files, read it, and write it back."""
    kind, random = KINDS[name], Random(f"{seed}:{name}:{number}")
    path = random.choice(list(files))
    path.write_bytes(kind.mutate(files[path], random))
    try:
        sentence = kind.read(folder, path, number)
        problem = _problem(sentence, path) if sentence is not None else ""
    except Exception:
        sentence, problem = None, traceback.format_exc()
    finally:
        path.write_bytes(files[path])
    if problem:
        return Outcome(number, FAULT, problem)
    return Outcome(number, ACCEPTED if sentence is None else REFUSED, sentence or "")


def _problem(sentence: str, path: Path) -> str:
    """What is wrong with the sentence of a refusal; empty if nothing is."""
    names = {path.name, path.parent.name} if path.suffix != ".option" else {""}
    if not any(name in sentence for name in names):
        return f"does not name {path.name}: {sentence}"
    if "\n" in sentence or not sentence.endswith("."):
        return f"is not one sentence: {sentence!r}"
    if len(sentence) > LONGEST:
        return f"has {len(sentence)} characters: {sentence[:300]}"
    return ""


def _too_slow(*_: object) -> None:
    raise _TooSlow


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> int:
    """Fuzz every kind, print a table, and return 1 if there was a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000, help="of each kind (default: 2000)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="default: all")
    args = parser.parse_args()
    faults = 0
    print(f"{'kind':<12} {'cases':>6} {'accepted':>9} {'refused':>8} {'faults':>7}")
    for name in args.kind or KINDS:
        outcomes = fuzz(name, args.cases, first=args.first, seed=args.seed)
        counts = Counter(outcome.result for outcome in outcomes)
        print(
            f"{name:<12} {len(outcomes):6} {counts[ACCEPTED]:9} {counts[REFUSED]:8} "
            f"{counts[FAULT]:7}",
            flush=True,
        )
        faults += counts[FAULT]
        for outcome in outcomes:
            if outcome.result == FAULT:
                print(f"  case {outcome.number}: {outcome.detail}", file=sys.stderr)
    return int(faults > 0)


if __name__ == "__main__":
    sys.exit(main())

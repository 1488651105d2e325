"""Measure the readers: `python -m benchmarks.readers [--base TREE]`.

Three parts, each of which can be chosen with `--only`:

- `accuracy`: the share of public texts, and of rewrites of them that begin with a label or end in
  `ans = …`, that are read as the known answer;
- `rereading`: the time to read 100,000 stored paths again and count the votes, as `lmsi-tui vote`;
- `preview`: the time to preview changed rules on 100,000 stored paths.

With `--base TREE` (a checkout of an older commit, such as `git worktree add --detach /tmp/base
COMMIT`), the first two are measured for both trees in turn, each in its own process.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.reading_texts import Text, read_all
from engine.answers import custom_rules, extraction
from engine.answers.custom_rules import BUILT_IN, checked
from engine.review.rule_preview import preview
from engine.sampling import scheduler
from store import models, paths, questions
from store.connection import connect, transaction
from store.enums import AnswerType, EndReason, Split
from store.records import Reading, Run
from store.schema import ensure_schema
from tests.projects import a_question
from tests.store.conftest import a_model, a_path, a_run

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Sequence
    from typing import Any

TREE = Path(__file__).parents[1]
SHARED = TREE.parent / "shared"
SAMPLES = TREE / "tests" / "data"
PARTS = ("accuracy", "rereading", "preview")
M = 8
STEP = "There are {a} boxes with {b} pieces each, which is {a} * {b} = {c} pieces. "
NUMBER = AnswerType.NUMBER


@dataclass(slots=True)
class Worker:
    """`benchmarks/reader_worker.py` in a process that imports this tree."""

    tree: Path
    process: subprocess.Popen[str] = field(init=False)

    def __post_init__(self) -> None:
        self.process = subprocess.Popen(
            # -P: the folder of the script is not on the import path, only the tree is.
            [sys.executable, "-P", str(TREE / "benchmarks" / "reader_worker.py")],
            cwd=self.tree,  # `python -m`, which compares formulas, imports from there first
            env=os.environ | {"PYTHONPATH": str(self.tree)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: object) -> Any:
        """The answer to one request."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps(request), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"The worker of {self.tree} ended; its message is above.")
        return json.loads(line)

    def stop(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    """Measure the parts that are asked for, and print tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, help="an older source tree to compare with")
    parser.add_argument("--only", choices=PARTS, action="append", help="measure only this part")
    parser.add_argument("--paths", type=int, default=100_000, help="number of stored paths")
    parser.add_argument("--rounds", type=int, default=5, help="times that paths are read again")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of outputs/ and data/")
    args = parser.parse_args()
    parts = args.only or PARTS
    trees = [tree.resolve() for tree in (args.base, TREE) if tree]
    outputs, data = args.shared / "outputs", args.shared / "data"
    if not outputs.exists():
        print(f"{args.shared} has no outputs/: the samples in {SAMPLES} are read.")
        outputs, data = SAMPLES / "sampled_outputs", SAMPLES
    texts = list(read_all(outputs, data)) if {"accuracy", "rereading"} & set(parts) else []
    if "accuracy" in parts:
        measure_accuracy(trees, texts)
        print(
            "outputs/game24_100 is left out: an answer there is any right expression, not a value."
        )
    if "rereading" in parts:
        measure_rereading(trees, texts, args.paths, args.rounds)
    if "preview" in parts:
        measure_preview(args.paths)


def measure_accuracy(trees: Sequence[Path], texts: Sequence[Text]) -> None:
    """Print the share of right answers of each set, as published and rewritten.

    "Lost" compares a rewrite with the same texts as published, both read by the current tree.
    """
    by_source: dict[str, list[Text]] = defaultdict(list)
    for text in texts:
        by_source[text.source].append(text)
    workers = [Worker(tree) for tree in trees]
    names = ["before", "now"][-len(trees) :]
    print(
        f"{'right, in %':<52}{'texts':>8}" + "".join(f"{name:>9}" for name in names) + "     lost"
    )
    with tempfile.TemporaryDirectory() as folder:
        for source, members in by_source.items():
            published: list[str] = []
            for variant in dict.fromkeys(name for text in members for name in text.variants()):
                chosen = [text for text in members if variant in text.variants()]
                path = Path(folder) / "texts.jsonl"
                _write(path, ((text, text.variants()[variant]) for text in chosen))
                judged = [worker.ask(do="read", path=str(path)) for worker in workers]
                line = f"{f'{source}: {variant}':<52}{len(chosen):>8,}"
                line += "".join(f"{100 * bits.count('1') / len(chosen):>9.2f}" for bits in judged)
                if not published:
                    published = judged
                    print(line + _agreement(chosen, judged))
                    continue
                same = [bit for bit, text in zip(published[-1], members, strict=True)
                        if variant in text.variants()]  # fmt: skip
                lost = same.count("1") - judged[-1].count("1")
                print(f"{line}{100 * lost / len(chosen):>9.2f}")
    for worker in workers:
        worker.stop()


def _agreement(texts: Sequence[Text], judged: Sequence[str]) -> str:
    """How many texts are judged otherwise than published, if the verdicts were published."""
    if texts[0].published is None:
        return ""
    differ = [
        sum((bit == "1") != text.published for bit, text in zip(bits, texts, strict=True))
        for bits in judged
    ]
    return f"     judged otherwise than published: {', '.join(map(str, differ))}"


def _write(path: Path, texts: Iterable[tuple[Text, str]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for text, written in texts:
            row = {
                "type": text.answer_type,
                "text": written,
                "gold": text.gold,
                "options": text.options,
            }
            print(json.dumps(row), file=file)


def measure_rereading(
    trees: Sequence[Path], texts: Sequence[Text], count: int, rounds: int
) -> None:
    """Print the median time of reading stored paths again; the trees take turns."""
    workers = [Worker(tree) for tree in trees]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "texts.jsonl"
        sampled = [text for text in texts if text.source.startswith("outputs/")]
        _write(path, ((text, text.text) for text in sampled))
        for worker in workers:
            worker.ask(do="store", path=str(path), count=count)
    # The first time compares formulas that are then known.
    times = [[worker.ask(do="again") for worker in workers] for _ in range(rounds + 1)][1:]
    for worker in workers:
        worker.stop()
    print(f"\n{count:,} stored paths read again, median of {rounds}, in s")
    for measure in ("seconds", "processor"):
        medians = [statistics.median(row[at][measure] for row in times) for at in range(len(trees))]
        ratio = f"  ratio {medians[-1] / medians[0]:.2f}" if len(trees) > 1 else ""
        names = ["before", "now"][-len(trees) :]
        shown = "  ".join(
            f"{name} {median:.2f}" for name, median in zip(names, medians, strict=True)
        )
        print(f"  {'elapsed' if measure == 'seconds' else 'processor':<10}{shown}{ratio}")


def measure_preview(count: int) -> None:
    """Fill a store, preview several kinds of rules, and print the seconds of each."""
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "lmsi.db"
        ensure_schema(database)
        with connect(database) as conn:
            with transaction(conn):
                run = paths.open_run(conn, a_run(models.add(conn, a_model("base")).id, m=M))
                questions.add(conn, [a_question(n) for n in range(count // M)], {})
            _fill(conn, run)
            print()
            for name, rules in (
                ("no rules", BUILT_IN),
                ("one pair of equal answers", checked(NUMBER, same=[("12", "1200")])),
                ("a unit that no path has", checked(NUMBER, units=["zorkmids"])),
                ("a pattern that no path has", checked(NUMBER, patterns=[r"RESULT=(\d+)"])),
                ("a pattern that every path has", checked(NUMBER, patterns=[r"answer is (\d+)"])),
                ("a unit that every path has", checked(NUMBER, units=["pieces"])),
            ):
                start = time.perf_counter()
                result = preview(conn, run, NUMBER, rules)
                seconds = time.perf_counter() - start
                print(
                    f"{name:<30} {result.paths:>9,} paths {seconds:7.2f} s "
                    f"{len(result.winners):>7,} winners changed"
                )


def _fill(conn: sqlite3.Connection, run: Run) -> None:
    """Eight paths of about 600 characters for each question, and their votes."""
    rng = random.Random(1)
    reader = custom_rules.reader_name(NUMBER)
    pool = questions.by_split(conn, Split.POOL)
    with transaction(conn):
        for question in pool:
            texts = []
            for _ in range(M):
                factors = [(rng.randint(2, 9), rng.randint(10, 99)) for _ in range(9)]
                steps = "".join(STEP.format(a=a, b=b, c=a * b) for a, b in factors)
                texts.append(f"{steps}The answer is {rng.choice((12, 12, 12, 1200, 7))} pieces.")
            extractions = [extraction.extract(NUMBER, text, end=EndReason.END) for text in texts]
            paths.add(
                conn,
                run.id,
                [a_path(question.id, index, text=text) for index, text in enumerate(texts)],
                [
                    Reading(0, reader, read.answer, read.shown, read.abstention)
                    for read in extractions
                ],
            )
    scheduler.unsettled(conn, run, pool)


if __name__ == "__main__":
    main()

"""Time a preview of changed reader rules on many stored paths: `python -m benchmarks.readers`."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

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

M = 8
STEP = "There are {a} boxes with {b} pieces each, which is {a} * {b} = {c} pieces. "
NUMBER = AnswerType.NUMBER


def main() -> None:
    """Fill a store, preview several kinds of rules, and print the seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paths", type=int, default=100_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "lmsi.db"
        ensure_schema(database)
        with connect(database) as conn:
            with transaction(conn):
                run = paths.open_run(conn, a_run(models.add(conn, a_model("base")).id, m=M))
                questions.add(conn, [a_question(n) for n in range(args.paths // M)], {})
            _fill(conn, run)
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

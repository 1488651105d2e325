"""How long a trial of other rules takes on many stored paths: `python -m benchmarks.readers`."""

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
    """Fill a store, try four kinds of rules, print the seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--paths", type=int, default=100_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "lmsi.db"
        ensure_schema(database)
        with connect(database) as conn:
            with transaction(conn):
                run = paths.open_run(conn, a_run(models.add(conn, a_model("base")).id, m=M))
                questions.add(conn, [a_question(n) for n in range(asked.paths // M)], {})
            _fill(conn, run)
            for name, rules in (
                ("no rules", BUILT_IN),
                ("one pair of equal answers", checked(NUMBER, same=[("12", "1200")])),
                ("a unit that no path has", checked(NUMBER, units=["zorkmids"])),
                ("a pattern that no path has", checked(NUMBER, patterns=[r"RESULT=(\d+)"])),
                ("a pattern that every path has", checked(NUMBER, patterns=[r"answer is (\d+)"])),
                ("a unit that every path has", checked(NUMBER, units=["pieces"])),
            ):
                began = time.perf_counter()
                found = preview(conn, run, NUMBER, rules)
                seconds = time.perf_counter() - began
                print(
                    f"{name:<30} {found.paths:>9,} paths {seconds:7.2f} s "
                    f"{len(found.winners):>7,} winners changed"
                )


def _fill(conn: sqlite3.Connection, run: Run) -> None:
    """Eight paths of about 600 characters for each question, and their votes."""
    draw = random.Random(1)
    reader = custom_rules.reader_name(NUMBER)
    asked = questions.by_split(conn, Split.POOL)
    with transaction(conn):
        for question in asked:
            texts = []
            for _ in range(M):
                told = [(draw.randint(2, 9), draw.randint(10, 99)) for _ in range(9)]
                words = "".join(STEP.format(a=a, b=b, c=a * b) for a, b in told)
                texts.append(f"{words}The answer is {draw.choice((12, 12, 12, 1200, 7))} pieces.")
            read = [extraction.extract(NUMBER, one, end=EndReason.END) for one in texts]
            paths.add(
                conn,
                run.id,
                [a_path(question.id, index, text=one) for index, one in enumerate(texts)],
                [Reading(0, reader, one.answer, one.shown, one.abstention) for one in read],
            )
    scheduler.unsettled(conn, run, asked)


if __name__ == "__main__":
    main()

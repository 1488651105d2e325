"""Read texts, or stored paths again, with the readers of one source tree.

`benchmarks.readers` runs this file in a process for each tree, with the tree on the import path, so
it uses only what both trees have. It reads a request per line and answers each with a line of JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from engine.answers import extraction
from engine.sampling import reextraction, scheduler
from store import models, paths, questions
from store.connection import connect, transaction
from store.enums import Abstention, AnswerType, EndReason, Split
from store.records import Reading
from store.schema import ensure_schema
from tests.projects import a_question
from tests.store.conftest import a_model, a_path, a_run

M = 8


def read_texts(path: str) -> str:
    """A character for each text of a JSONL file: `1` right, `0` wrong, `-` no answer."""
    with Path(path).open(encoding="utf-8") as lines:
        return "".join(_judged(json.loads(line)) for line in lines)


def _judged(row: dict[str, Any]) -> str:
    kind, options = AnswerType(row["type"]), row["options"]
    answer = extraction.extract(kind, row["text"], options=options, end=EndReason.END).answer
    if answer is None:
        return "-"
    accepted = (_known(kind, gold, options) for gold in row["gold"])
    return str(int(any(gold and extraction.equal(kind, answer, gold) for gold in accepted)))


def _known(kind: AnswerType, gold: str, options: list[str]) -> str | None:
    """The canonical form of a known answer, which may be the end of a worked solution."""
    form = extraction.canonical(kind, gold, options) if "\n" not in gold else None
    return form or extraction.extract(kind, gold, options=options, end=EndReason.END).answer


class StoredPaths:
    """A store whose paths are these texts, for reading them again as `lmsi-tui vote` does."""

    def __init__(self, path: str, count: int) -> None:
        with Path(path).open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        self._folder = tempfile.TemporaryDirectory()
        database = Path(self._folder.name) / "lmsi.db"
        ensure_schema(database)
        self._connected = connect(database)
        self.conn = self._connected.__enter__()
        self._fill((rows * (count // len(rows) + 1))[: count - count % M])
        progress = SimpleNamespace(
            begin=lambda *_, **__: None, advance=lambda *_, **__: None, look=lambda: None
        )
        self.work: Any = SimpleNamespace(conn=self.conn, progress=progress)

    def _fill(self, rows: list[dict[str, Any]]) -> None:
        with transaction(self.conn):
            model = models.add(self.conn, a_model("base"))
            self.run = paths.open_run(self.conn, a_run(model.id, m=M))
            by_type: dict[str, list[dict[str, Any]]] = {}
            for row in rows:
                by_type.setdefault(row["type"], []).append(row)
            groups = [
                group[start : start + M]
                for group in by_type.values()
                for start in range(0, len(group), M)
            ]
            asked = [
                a_question(
                    number, answer_type=AnswerType(group[0]["type"]), options=_options(group)
                )
                for number, group in enumerate(groups)
            ]
            questions.add(self.conn, asked, {})
            self.pool = questions.by_split(self.conn, Split.POOL)
            for question, group in zip(self.pool, groups, strict=True):
                readings = [Reading(0, "old/0", None, None, Abstention.NO_ANSWER) for _ in group]
                stored = [
                    a_path(question.id, index, text=row["text"]) for index, row in enumerate(group)
                ]
                paths.add(self.conn, self.run.id, stored, readings)

    def read_again(self) -> dict[str, float]:
        """Seconds that reading every path again and counting the votes took."""
        wall, processor = time.perf_counter(), time.process_time()
        reextraction.reextract(self.work, self.run, self.pool)
        scheduler.unsettled(self.conn, self.run, self.pool)
        return {
            "seconds": time.perf_counter() - wall,
            "processor": time.process_time() - processor,
        }


def _options(group: list[dict[str, Any]]) -> tuple[str, ...]:
    return max((tuple(row["options"]) for row in group), key=len)


def main() -> None:
    """Answer requests until the input ends."""
    stored: StoredPaths | None = None
    for line in sys.stdin:
        request = json.loads(line)
        match request["do"]:
            case "read":
                answer: object = read_texts(request["path"])
            case "store":
                stored = StoredPaths(request["path"], request["count"])
                answer = len(stored.pool)
            case _:
                assert stored is not None
                answer = stored.read_again()
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()

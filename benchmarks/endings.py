"""Compare what is read of whole paths and of the same paths ended after their answer.

`python -m benchmarks.endings [PROJECT ...]` reads the texts of `benchmarks.readers` and the stored
paths of projects (folders), and prints for each source how many paths would have ended earlier, and
every one whose answer would be another. A path that was truncated has no answer to compare: such
paths are counted apart, with those that would have an answer.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.reading_texts import read_all
from engine.answers.extraction import extract
from engine.inference.answer_sentence import end_in_text
from store import paths, questions
from store.connection import DATABASE, connect
from store.enums import EndReason

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from store.enums import AnswerType

SHARED = Path("../shared")

Row = tuple[str, "AnswerType", str, tuple[str, ...], EndReason]
"""Source, type, text, options, how it ended."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("projects", nargs="*", type=Path, help="folders of projects")
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder of outputs/ and data/")
    args = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    for row in (*texts(args.shared), *stored(args.projects)):
        source, _, text, *_ = row
        counts[source, "paths"] += 1
        for kind in compare(row):
            counts[source, kind] += 1
            if kind == "read differently":
                print(f"{source}: {text[-400:]!r}")
    kinds = ("paths", "end earlier", "read differently", "truncated", "answered instead")
    print(f"{'source':48}", *(f"{kind:>17}" for kind in kinds))
    for source in sorted({source for source, _ in counts}):
        print(f"{source:48}", *(f"{counts[source, kind]:17,}" for kind in kinds))


def compare(row: Row) -> Iterator[str]:
    """What ending a path after its answer changes."""
    _, answer_type, text, options, reason = row
    if reason is EndReason.LENGTH:
        yield "truncated"
    end = end_in_text(answer_type, text)
    if end is None:
        return
    yield "end earlier"
    cut = extract(answer_type, text[:end], options=options, end=EndReason.STOP).answer
    if reason is EndReason.LENGTH:
        yield "answered instead"
    elif cut != extract(answer_type, text, options=options, end=reason).answer:
        yield "read differently"


def texts(shared: Path) -> Iterator[Row]:
    """The texts of other models and data sets."""
    for text in read_all(shared / "outputs", shared / "data"):
        yield text.source, text.answer_type, text.text, text.options, EndReason.STOP


def stored(projects: Sequence[Path]) -> Iterator[Row]:
    """The paths that projects have stored."""
    for project in projects:
        with connect(project / DATABASE, read_only=True) as conn:
            for run in paths.runs(conn):
                for question in questions.by_split(conn, run.split):
                    for path, _ in paths.for_question(conn, run.id, question.id):
                        yield (
                            f"{project.name}, {run.prompt_format} ({run.prompt_style})",
                            question.answer_type,
                            path.text,
                            question.options,
                            path.end,
                        )


if __name__ == "__main__":
    main()

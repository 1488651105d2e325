"""The weights of a run's paths in votes that count them by confidence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.voting.confidence import path_weights, score
from store import confidence
from store.errors import BadInput

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Mapping

    from store.records import Run, Vote


def check_complete(conn: sqlite3.Connection, run: Run) -> None:
    """Check that the confidence of every path of a run is known.

    Raises:
        BadInput: it is not known of some paths. They cannot be compared with the others.
    """
    paths, without = confidence.counts(conn, run.id)
    if without:
        raise BadInput(
            f"{without:,} of the {paths:,} paths of this run have no log-probabilities (they were "
            "imported, sampled by an older version, or by a server that gives none): set "
            "curate.counting to plain, or sample new paths with another sample.seed."
        )


def weights_by_question(
    conn: sqlite3.Connection, run: Run, votes_by_id: Mapping[int, Vote], temperature: float
) -> dict[int, tuple[float, ...]]:
    """The weights of the paths that each vote counts, in index order, by question id.

    Raises:
        BadInput: the confidence of some paths of the run is not known.
    """
    check_complete(conn, run)
    known = confidence.by_question(conn, run.id, votes_by_id)
    return {
        question_id: path_weights(
            [score(known[question_id][index]) for index in range(vote.drawn)], temperature
        )
        for question_id, vote in votes_by_id.items()
        if vote.drawn
    }

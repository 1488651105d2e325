"""The acceptance test for models that were trained and measured outside of rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from engine.evaluation import accuracy, drift_alarms
from engine.evaluation.acceptance import decide
from store import models, rounds
from store.enums import Method, Outcome, Split, Stage

if TYPE_CHECKING:
    import sqlite3

    from engine.statistics.intervals import Paired


@dataclass(frozen=True, slots=True)
class StandaloneTest:
    """A trained model against its own base."""

    model: str
    base: str
    method: Method
    outcome: Outcome
    gain: Paired
    """On the evaluation questions."""
    out_of_domain: Paired | None
    alarms: tuple[str, ...]
    """From the paths that both sampled on the evaluation questions."""


def standalone_tests(conn: sqlite3.Connection, method: Method = Method.COT) -> list[StandaloneTest]:
    """Test every trained model that no round tested and that was measured like its own base.

    Controls are not tested: nobody is to use them.
    """
    by_name = {model.name: model for model in models.all_of(conn)}
    in_rounds = {round_.trained_id for round_ in rounds.all_of(conn)}
    comparisons = [
        comparison
        for comparison in accuracy.comparisons(conn)
        if comparison.method is method
        and by_name[comparison.after].base_id == by_name[comparison.before].id
        and by_name[comparison.after].id not in in_rounds
        and by_name[comparison.after].stage is not Stage.CONTROL
    ]
    out_of_domain = {
        comparison.after: comparison.result
        for comparison in comparisons
        if comparison.split is Split.OOD
    }
    tests = []
    for comparison in comparisons:
        if comparison.split is not Split.EVAL:
            continue
        before, after = (
            drift_alarms.indicators_of_model(conn, by_name[name], Split.EVAL)
            for name in (comparison.before, comparison.after)
        )
        tests.append(
            StandaloneTest(
                model=comparison.after,
                base=comparison.before,
                method=method,
                outcome=decide(comparison.result, out_of_domain.get(comparison.after)),
                gain=comparison.result,
                out_of_domain=out_of_domain.get(comparison.after),
                alarms=tuple(drift_alarms.alarms(before, after)) if before and after else (),
            )
        )
    return tests

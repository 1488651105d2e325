"""Ways to count compared on questions whose confident paths are right, or wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.evaluation.calibration import calibrations
from engine.evaluation.confidence import WholeQuestion, compare_counting, label_of, replay_counting
from lmsi_tui.cli.main import run
from store import models
from store.confidence import PathConfidence
from store.connection import connect
from store.enums import Counting
from tests.projects import TEACHER, command, scripted_project

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ANSWERS = st.lists(st.sampled_from(["4", "5", "6", None]), min_size=8, max_size=8)


def whole(
    answers: Sequence[str | None], scores: Sequence[float], correct: str | None = None
) -> WholeQuestion:
    return WholeQuestion(
        tuple(answers),
        tuple(PathConfidence(0, value, 2 * value, value, -value) for value in scores),
        None if correct is None else frozenset([correct]).intersection(answers),
    )


SURE_AND_RIGHT = whole(["4", "4", "4", "5", "5"], [-1.0, -1.0, -1.0, -0.1, -0.1], "5")
SURE_AND_WRONG = whole(["4", "4", "4", "5", "5"], [-1.0, -1.0, -1.0, -0.1, -0.1], "4")


@given(ANSWERS, st.floats(-9, 0), st.sampled_from(["0", "0.5", "0.75", "1"]))
def test_equal_confidence_chooses_as_the_plain_vote(
    answers: list[str | None], score: float, threshold: str
) -> None:
    question = whole(answers, [score] * len(answers))
    plain = label_of(question, Counting.PLAIN, threshold, 0.1)
    assert label_of(question, Counting.WEIGHTED, threshold, 0.1) == plain
    soft = label_of(question, Counting.SOFT, threshold, 0.1)
    assert (soft.answer, soft.share) == (plain.answer, plain.share)
    assert soft.kept is (plain.answer is not None)


def test_a_weighted_vote_changes_winners_where_the_minority_is_surer() -> None:
    result = compare_counting([SURE_AND_RIGHT, SURE_AND_WRONG], "0.6", 0.1)
    plain, weighted, soft = result.rows
    assert (plain.kept, plain.changed_winners) == (2, 0)
    assert (weighted.kept, weighted.changed_winners) == (2, 2)
    assert (soft.kept, soft.newly_kept, soft.no_longer_kept) == (2, 0, 0)


def test_the_auroc_is_over_pairs_of_the_same_question() -> None:
    only_right = compare_counting([SURE_AND_RIGHT] * 3, "0.6", 0.1).discrimination
    assert [row.auroc.value for row in only_right if row.auroc] == [1.0] * 4
    assert {(row.questions, row.pairs) for row in only_right} == {(3, 18)}
    both = compare_counting([SURE_AND_RIGHT, SURE_AND_WRONG], "0.6", 0.1).discrimination
    assert [row.auroc.value for row in both if row.auroc] == [0.5] * 4
    # The model is surer of the other question, whose paths are all wrong: that is no evidence.
    sure = whole(["7"] * 5, [-0.01] * 5, "8")
    assert compare_counting([SURE_AND_RIGHT, sure], "0.6", 0.1).discrimination[0].pairs == 6


def test_precision_is_compared_at_equal_yields() -> None:
    result = compare_counting([SURE_AND_RIGHT] * 4 + [SURE_AND_WRONG], "0.6", 0.1)
    rows = {(row.counting, row.yields): row for row in result.precision}
    assert rows[Counting.PLAIN, 1.0].precision.value == pytest.approx(0.2)
    weighted = rows[Counting.WEIGHTED, 1.0]
    assert weighted.precision.value == pytest.approx(0.8)
    assert weighted.gain is not None
    assert weighted.gain.value == pytest.approx(0.6)
    (soft,) = (row for row in result.precision if row.counting is Counting.SOFT)
    assert soft.precision.value == pytest.approx(0.8)
    assert 0 < soft.yields < 1


def test_without_known_answers_only_the_choices_are_compared() -> None:
    result = compare_counting([whole(["4"] * 4, [-0.1] * 4)], "0.6", 0.1)
    assert (result.known, result.discrimination, result.precision) == (0, (), ())


def sure_of(folder: Path, mean: float, changes: dict[str, dict[str, object]]) -> None:
    """A project whose right paths have this mean log-probability, and the others -0.5."""
    project = scripted_project(folder, pool=12, evaluation=24, changes=changes)
    script = project.folder / "models" / "script.json"
    rules = json.loads(script.read_text())
    for rule in rules["rules"]:
        right = rule["contains"].split("before ")[1].split(" in")[0]
        rule["confidence"] = {str(int(right) - 1): mean}
    script.write_text(json.dumps(rules))


def test_a_replay_compares_pool_and_evaluation_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "p"
    sure_of(folder, -0.05, {"sample": {"early_stop": "off"}, "evaluate": {"k": 8}})
    for stage in ("sample", "evaluate"):
        assert command(stage, folder).returncode == 0
    assert run(["vote", str(folder), "--replay", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    pool, evaluation = (line for line in lines if line["event"] == "counting")
    assert (pool["split"], pool["questions"], pool["known"]) == ("pool", 12, 0)
    assert (evaluation["split"], evaluation["questions"], evaluation["m"]) == ("eval", 24, 8)
    assert evaluation["discrimination"][0]["auroc"]["value"] > 0.9
    weighted = [row for row in evaluation["precision"] if row["counting"] == "weighted"]
    assert weighted[-1]["gain"]["value"] > 0
    assert run(["vote", str(folder), "--replay"]) == 0
    out = capsys.readouterr().out
    assert "12 pool questions" in out
    assert "24 evaluation questions" in out
    assert run(["calibration", str(folder)]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {score} " in out for score in ("agreement", "confidence", "both"))


def test_paths_without_confidence_are_not_compared(tmp_path: Path) -> None:
    project = scripted_project(tmp_path / "p", pool=12, evaluation=8)
    for stage in ("sample", "evaluate"):
        assert command(stage, project.folder).returncode == 0
    with connect(project.database) as conn:
        conn.execute("DROP TRIGGER path_confidence_is_not_deleted")
        conn.execute("DELETE FROM path_confidence")
        assert replay_counting(conn, project, None) == []
        teacher = models.by_name(conn, TEACHER)
        assert teacher is not None
        (calibration,) = calibrations(conn, project, teacher)
        assert calibration.scores == ()
    assert run(["vote", str(project.folder), "--replay", "--m", "4"]) == 0

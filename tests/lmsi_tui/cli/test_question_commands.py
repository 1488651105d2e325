"""Known answers that differ at a second import, and questions that are removed or replaced."""

from __future__ import annotations

import json
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from engine.training_data import provenance
from lmsi_tui.cli.main import run
from store import evaluations, examples, paths, questions, votes
from store.connection import connect, transaction
from store.enums import JobKind, Method, Split
from tests.projects import a_question, claimed, command, scripted_project

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project
    from store.records import Question


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return scripted_project(tmp_path / "p", pool=4, evaluation=4)


def typed(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[int, str, str]:
    code = run([str(argument) for argument in args])
    told = capsys.readouterr()
    return code, told.out, told.err


def measured(project: Project, answers: dict[int, str] | None = None) -> Path:
    """The evaluation file, with other answers for some questions."""
    rows = [
        {"question": a_question(n, Split.EVAL).text, "answer": (answers or {}).get(n, str(n))}
        for n in range(4)
    ]
    path = project.folder / "measured.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def gold(project: Project) -> list[str]:
    with connect(project.database, read_only=True) as conn:
        known = questions.gold_for(conn, Split.EVAL)
        return [known[question.id][0] for question in questions.by_split(conn, Split.EVAL)]


def accuracies(project: Project) -> dict[Method, tuple[int, int]]:
    """(correct, n) of each evaluation."""
    with connect(project.database, read_only=True) as conn:
        return {one.method: (one.correct, one.n) for one in evaluations.all_of(conn)}


def one(project: Project, split: Split, number: int) -> Question:
    with connect(project.database, read_only=True) as conn:
        return questions.by_split(conn, split)[number]


def test_the_same_answers_again_change_nothing(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--task", "number", "--split", "eval", "--project", project.folder)
    # The same numbers, written otherwise.
    code, out, _ = typed(capsys, "import", measured(project, {3: "3.0", 2: " 2 "}), *options)
    assert (code, gold(project)) == (0, ["0", "1", "2", "3"])
    assert "differ" not in out


def test_other_known_answers_are_told_and_nothing_changes_without_a_decision(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    path = measured(project, {2: "7"})
    with path.open("a") as file:
        file.write('{"question": "Which number is new?", "answer": "1"}\n')
    options = ("--task", "number", "--split", "eval", "--project", project.folder)
    code, _, err = typed(capsys, "import", path, *options)
    assert code == 2
    for part in ("1 question ", "before 3 in eval", "2 → 7", "--replace-answers", "--keep-answers"):
        assert part in err
    assert gold(project) == ["0", "1", "2", "3"]
    code, out, _ = typed(capsys, "import", path, *options, "--preview")
    assert (code, "2 → 7" in out) == (0, True)
    code, out, _ = typed(capsys, "import", path, *options, "--keep-answers", "--json")
    event = json.loads(out)
    assert (code, event["added"], len(event["changed_answers"])) == (0, 1, 1)
    assert gold(project) == ["0", "1", "2", "3", "1"]


def test_replaced_answers_change_the_evaluations_that_used_the_older_ones(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("evaluate", project.folder).returncode == 0
    before = accuracies(project)
    # The script answers 3 to question 3 in every greedy path, so 1000 is wrong there.
    path = measured(project, {3: "1000"})
    options = ("--task", "number", "--split", "eval", "--project", project.folder)
    code, out, _ = typed(capsys, "import", path, *options, "--replace-answers", "--json")
    assert code == 0
    assert gold(project) == ["0", "1", "2", "1000"]
    after = accuracies(project)
    changed = {method for method in before if before[method] != after[method]}
    assert len(changed) == json.loads(out)["scored_again"]
    assert changed
    assert {n for _, n in after.values()} == {4}
    # Scoring the stored paths once more gives the same numbers.
    assert command("evaluate", project.folder).returncode == 0
    assert accuracies(project) == after
    with sqlite3.connect(project.database) as conn:
        assert conn.execute("SELECT count(*) FROM gold").fetchone() == (4,), "the history stays"
    status = typed(capsys, "status", project.folder)[1]
    assert "known answers changed 1" in status
    code, _, _ = typed(capsys, "import", measured(project), *options, "--replace-answers")
    assert (code, accuracies(project)) == (0, before)


def test_a_known_answer_is_corrected_without_a_file(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    key = one(project, Split.EVAL, 1).key
    code, out, _ = typed(capsys, "questions", project.folder, "--replace", key, "--answer", "7")
    assert (code, "7" in out, gold(project)) == (0, True, ["0", "7", "2", "3"])
    code, _, err = typed(capsys, "questions", project.folder, "--replace", key, "--answer", "many")
    assert (code, "cannot be read as number" in err) == (2, True)
    pool = one(project, Split.POOL, 1).key
    code, _, err = typed(capsys, "questions", project.folder, "--replace", pool, "--answer", "7")
    assert (code, "has no known answer" in err) == (2, True)


def test_questions_are_listed_with_their_keys(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = typed(capsys, "questions", project.folder, "--split", "pool", "--json")
    listed = [json.loads(line) for line in out.splitlines()]
    assert (code, len(listed)) == (0, 4)
    assert listed[0]["text"] == a_question(0).text
    code, out, _ = typed(capsys, "questions", project.folder, "--words", "before 3")
    assert (code, out.count("before 3")) == (0, 2)
    assert "2 questions" in out


def test_a_removed_pool_question_is_left_out_everywhere_and_can_come_back(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("sample", project.folder).returncode == 0
    assert command("curate", project.folder).returncode == 0
    gone = one(project, Split.POOL, 1)
    with connect(project.database, read_only=True) as conn:
        (pool_run,) = paths.runs(conn)
        counted = paths.counts(conn, pool_run.id)
        (frozen,) = examples.sets(conn)
        before = votes.for_run(conn, pool_run.id)
    code, out, _ = typed(capsys, "questions", project.folder, "--remove", gone.key[:8])
    assert (code, "training sets hold" in out) == (0, True)
    with connect(project.database, read_only=True) as conn:
        assert gone.key not in {asked.key for asked in questions.by_split(conn, Split.POOL)}
        assert [asked.key for asked in questions.removed(conn)] == [gone.key]
        assert gone.id not in {vote.question_id for vote in votes.for_run(conn, pool_run.id)}
        assert paths.counts(conn, pool_run.id) == counted, "the paths stay"
        assert provenance.rebuild(project, conn, frozen).same, "as of its time"
    assert command("curate", project.folder).returncode == 0
    with connect(project.database, read_only=True) as conn:
        newest = examples.sets(conn)[-1]
        assert gone.id not in {line.question_id for line in examples.examples(conn, newest.key)}
    status = typed(capsys, "status", project.folder)[1]
    assert "removed 1" in status
    imported = project.folder / "again.jsonl"
    imported.write_text(json.dumps({"question": gone.text}))
    options = ("--task", "number", "--project", project.folder, "--json")
    code, out, _ = typed(capsys, "import", imported, *options)
    assert (code, json.loads(out)["removed"], json.loads(out)["added"]) == (0, 1, 0)
    assert typed(capsys, "questions", project.folder, "--restore", gone.key)[0] == 0
    assert command("vote", project.folder).returncode == 0
    with connect(project.database, read_only=True) as conn:
        assert votes.for_run(conn, pool_run.id) == before


def test_a_removed_evaluation_question_leaves_its_evaluations(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("evaluate", project.folder).returncode == 0
    keys = [one(project, Split.EVAL, n).key for n in range(4)]
    assert typed(capsys, "questions", project.folder, "--remove", keys[2])[0] == 0
    assert {n for _, n in accuracies(project).values()} == {3}
    assert typed(capsys, "questions", project.folder, "--remove", *keys)[0] == 0
    assert accuracies(project) == {}
    assert typed(capsys, "questions", project.folder, "--restore", *keys)[0] == 0
    assert command("evaluate", project.folder).returncode == 0
    assert {n for _, n in accuracies(project).values()} == {4}


def test_a_replaced_question_is_a_new_one_and_the_old_one_is_removed(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    for split, answer in ((Split.POOL, None), (Split.EVAL, "2")):
        old = one(project, split, 2)
        text = f"Which number is one less than three in {split}?"
        code, out, _ = typed(
            capsys, "questions", project.folder, "--replace", old.key, "--text", text, "--json"
        )
        event: dict[str, Any] = json.loads(out)
        assert (code, event["old_key"], event["text"]) == (0, old.key, text)
        with connect(project.database, read_only=True) as conn:
            texts = {asked.text: asked for asked in questions.by_split(conn, split)}
            assert text in texts
            assert old.text not in texts
            assert (texts[text].source, texts[text].position) == (old.source, old.position)
            if answer:
                assert questions.gold_for(conn, split)[texts[text].id] == (answer,)
    again = one(project, Split.POOL, 0)
    code, _, err = typed(
        capsys, "questions", project.folder, "--replace", again.key, "--text", a_question(1).text
    )
    assert (code, "already" in err) == (2, True)


def test_questions_are_not_changed_while_a_job_uses_them(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    with connect(project.database) as conn, transaction(conn):
        claimed(conn, project, JobKind.SAMPLE)
    key = one(project, Split.POOL, 1).key
    code, _, err = typed(capsys, "questions", project.folder, "--remove", key)
    assert (code, "pause it first" in err) == (2, True)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--remove", "no-such-key"), "no-such-key"),
        (("--remove", ""), "8 questions"),
        (("--replace", "KEY"), "--text"),
        (("--text", "New?"), "--replace"),
        (("--remove", "KEY", "--restore", "KEY"), "one of"),
    ],
)
def test_wrong_options_are_refused(
    project: Project, options: tuple[str, ...], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    key = one(project, Split.POOL, 1).key
    given = [key if option == "KEY" else option for option in options]
    code, _, err = typed(capsys, "questions", project.folder, *given)
    assert (code, part in err) == (2, True)

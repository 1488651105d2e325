"""A pilot measures few questions first and goes on only while its verdict is open."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from engine.evaluation import pilot
from engine.evaluation.pilot_verdict import Obstacle, Usefulness
from engine.inference.scripted import Scripted
from engine.jobs import evaluate, stages
from engine.jobs.pilot import looks
from store import evaluations, models
from store.connection import connect, transaction
from store.enums import JobKind, Method, Split
from store.errors import BadInput
from tests.engine.evaluation.scripted import rule, write_script
from tests.projects import TEACHER, a_question, claimed, scripted_project

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from engine.inference.backend import PathRequest
    from engine.inference.scripted import ScriptRule
    from engine.project.folder import Project

SCATTERED = {str(number): 1.0 for number in range(5000, 5040)}
STUDENT = "scripted/student"


def project_whose_model_answers(
    folder: Path, answers: Mapping[int, Mapping[str, float]], n: int = 80
) -> Project:
    """A project whose teacher answers question i with the weights at i, and the others wrongly."""
    project = scripted_project(folder, pool=4, evaluation=n, changes={"evaluate": {"k": 8}})
    rules = [rule(a_question(i, Split.EVAL).text, weights) for i, weights in answers.items()]
    write_script(project.folder / "models" / "script.json", [*rules, rule("", SCATTERED)])
    return project


def run_pilot(project: Project, most: int = 80, *names: str) -> pilot.Pilot:
    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.EVALUATE, models=[TEACHER, *names], pilot=most)
        stages.RUN[JobKind.EVALUATE](work)
        teacher, *students = (models.by_name(conn, name) for name in (TEACHER, *names))
        assert teacher is not None
        return pilot.from_evaluations(
            conn, teacher, project.settings.sample, [each for each in students if each]
        )


def add_student(project: Project, answers: Mapping[int, Mapping[str, float]]) -> None:
    script = project.folder / "models" / "student.json"
    rules = [rule(a_question(i, Split.EVAL).text, weights) for i, weights in answers.items()]
    write_script(script, [*rules, rule("", SCATTERED)])
    with connect(project.database) as conn, transaction(conn):
        teacher = models.by_name(conn, TEACHER)
        assert teacher is not None
        models.add(
            conn,
            replace(teacher, id=0, name=STUDENT, location=project.stored(script), sha256="student"),
        )


def test_the_looks_grow_and_end_at_the_limit() -> None:
    assert list(looks(0, 30)) == [10, 20, 30]
    assert list(looks(0, 10)) == [10]
    assert list(looks(0, 4)) == [4]
    assert list(looks(25, 40)) == [25, 32, 40]
    assert list(looks(25, 25)) == [25]
    many = list(looks(0, 300))
    assert many == sorted(set(many))
    assert many[-1] == 300


def test_a_model_that_is_never_right_is_told_so_after_few_questions(tmp_path: Path) -> None:
    result = run_pilot(project_whose_model_answers(tmp_path, {}))
    assert result.n == 32
    assert result.outlook.answer is Usefulness.NO
    assert result.outlook.obstacles[0] is Obstacle.FEW_RIGHT_LABELS
    assert result.labels.kept == 0
    assert any("Easier questions" in sentence for sentence in pilot.advice(result))


def test_a_model_that_is_always_right_has_nothing_to_learn(tmp_path: Path) -> None:
    answers = {i: {str(i): 1.0} for i in range(80)}
    result = run_pilot(project_whose_model_answers(tmp_path, answers))
    assert result.outlook.answer is Usefulness.NO
    assert result.outlook.obstacles[0] is Obstacle.NEARLY_ALL_RIGHT
    assert any("Harder questions" in sentence for sentence in pilot.advice(result))
    assert not any("larger teacher" in sentence for sentence in pilot.advice(result))


def test_a_model_with_headroom_and_right_labels_gets_a_yes(tmp_path: Path) -> None:
    wrong = {answer: 0.2 / len(SCATTERED) for answer in SCATTERED}
    answers = {i: {str(i): 0.8} | wrong for i in range(80)}
    result = run_pilot(project_whose_model_answers(tmp_path, answers))
    assert result.labels.kept > 0.5 * result.n
    assert result.labels.right == result.labels.kept
    assert (result.outlook.answer, result.outlook.obstacles) == (Usefulness.YES, ())
    assert result.n < 80


def test_a_pilot_never_measures_fewer_questions_than_before(tmp_path: Path) -> None:
    project = project_whose_model_answers(tmp_path, {})
    with connect(project.database) as conn:
        evaluate.run(
            claimed(
                conn,
                project,
                JobKind.EVALUATE,
                models=[TEACHER],
                settings={"evaluate": {"limit": 50}},
            )
        )
    assert run_pilot(project, 20).n == 50


def test_a_pilot_stops_at_its_limit_while_it_cannot_tell(tmp_path: Path) -> None:
    half = {i: {str(i): 1.0} for i in range(0, 80, 2)}
    result = run_pilot(project_whose_model_answers(tmp_path, half), 16)
    assert result.n == 16
    assert result.outlook.answer is Usefulness.UNKNOWN
    assert Obstacle.NO_HEADROOM in result.outlook.obstacles


def test_the_first_questions_are_not_the_first_of_the_file(tmp_path: Path) -> None:
    # Files are often sorted: here the model is right on the first questions only.
    answers = {i: {str(i): 1.0} for i in range(10)}
    result = run_pilot(project_whose_model_answers(tmp_path, answers), 10)
    assert result.greedy.correct < 10


def test_the_yield_of_the_teacher_and_the_headroom_of_the_student_decide(tmp_path: Path) -> None:
    sure = {i: {str(i): 1.0} for i in range(0, 80)}
    project = project_whose_model_answers(tmp_path, sure)
    add_student(project, {})
    result = run_pilot(project, 80, STUDENT)
    (student,) = result.students
    assert result.outlook.answer is Usefulness.NO, "the teacher has nothing to learn from itself"
    assert student.outlook.answer is Usefulness.YES, "and much to teach"
    assert student.greedy.correct == 0
    assert student.gap.gain == 1
    with connect(project.database, read_only=True) as conn:
        stored = models.by_name(conn, STUDENT)
        assert stored is not None
        methods = {method for id_, _, method in evaluations.newest(conn) if id_ == stored.id}
    assert methods == {Method.COT}, "a student's votes are not needed"


def test_a_teacher_without_right_labels_has_nothing_to_teach(tmp_path: Path) -> None:
    project = project_whose_model_answers(tmp_path, {})
    add_student(project, {})
    (student,) = run_pilot(project, 80, STUDENT).students
    assert student.outlook.answer is Usefulness.NO
    assert student.outlook.obstacles[0] is Obstacle.FEW_RIGHT_LABELS


def test_a_pilot_without_known_answers_says_what_to_do(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, evaluation=0)
    with pytest.raises(BadInput, match="--split eval"):
        run_pilot(project)


def test_each_question_is_asked_again_after_a_path_of_its_majority(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {i: {str(i): 1.0} for i in range(80)}
    project = project_whose_model_answers(tmp_path, answers)
    prompts: list[str] = []
    rule_for = Scripted._rule_for

    def noted(self: Scripted, prompt: str, request: PathRequest) -> ScriptRule:
        prompts.append(prompt)
        return rule_for(self, prompt, request)

    monkeypatch.setattr(Scripted, "_rule_for", noted)
    result = run_pilot(project)
    after = result.after_majority
    assert after is not None
    assert (after.shown.n, after.shown.correct, after.gap.gain) == (result.n, result.n, 0)
    again = [prompt for prompt in prompts if prompt.count(" in eval?") == 2]
    assert len(again) == result.n
    assert f"Q: {a_question(5, Split.EVAL).text}\nA: The answer is 5.\n\n" in "".join(again)
    count = len(prompts)
    with connect(project.database) as conn:
        conn.execute("UPDATE job SET state = 'done'")
    assert run_pilot(project).after_majority == after
    assert len(prompts) == count, "everything is stored"
    with connect(project.database, read_only=True) as conn:
        measured = {(each.method, each.k) for each in evaluations.all_of(conn)}
    assert measured == {(Method.COT, 1), (Method.SINGLE, 1), (Method.SC, 8)}


def test_a_context_without_room_for_a_path_of_the_majority_costs_only_that_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = {i: {str(i): 1.0} for i in range(80)}
    project = project_whose_model_answers(tmp_path, answers)
    rule_for = Scripted._rule_for

    def no_room(self: Scripted, prompt: str, request: PathRequest) -> ScriptRule:
        if prompt.count(" in eval?") == 2:
            raise BadInput("The prompt and its path do not fit into the context.")
        return rule_for(self, prompt, request)

    monkeypatch.setattr(Scripted, "_rule_for", no_room)
    result = run_pilot(project)
    assert result.n > 0
    assert result.after_majority is None

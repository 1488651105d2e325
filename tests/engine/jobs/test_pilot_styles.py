"""The same questions are sampled in each style, and the share of right paths is compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine.evaluation import pilot_styles
from engine.inference import prompt_style
from engine.jobs import stages
from engine.sampling import completion
from store import evaluations, inference_sessions, models, paths, questions
from store.connection import connect, transaction
from store.enums import AnswerType, EndReason, JobKind, PromptFormat, PromptStyle, Split
from store.errors import BadInput
from tests.engine.evaluation.scripted import rule, write_script
from tests.projects import TEACHER, a_question, claimed, scripted_project

if TYPE_CHECKING:
    from pathlib import Path

    from engine.evaluation.pilot_styles import StylePilot
    from engine.project.folder import Project

N = 12


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A model that is right four times in five in a chat, and once in ten in plain text."""
    monkeypatch.setattr(prompt_style, "usable_template", lambda *_: "{{ messages }}")
    made = scripted_project(tmp_path, pool=2, evaluation=N, changes={"evaluate": {"k": 8}})
    asked = [a_question(number, Split.EVAL) for number in range(N)]
    rules = [
        *(rule(f"user: {each.text}", {str(each.position): 4.0, "1000": 1.0}) for each in asked),
        *(rule(f"Q: {each.text}", {str(each.position): 1.0, "1000": 9.0}) for each in asked),
    ]
    write_script(made.folder / "models" / "script.json", rules)
    return made


def compared(project: Project, count: int) -> StylePilot:
    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.EVALUATE, models=[TEACHER], styles=count)
        result = stages.RUN[JobKind.EVALUATE](work)
        teacher = models.by_name(conn, TEACHER)
        assert teacher is not None
        run_ids, question_ids = result["runs"], result["questions"]
        assert isinstance(run_ids, list)
        assert isinstance(question_ids, list)
        begun = [paths.run_by_id(conn, id_) for id_ in run_ids]
        measured = list(questions.by_ids(conn, question_ids).values())
        return pilot_styles.compare(conn, teacher, begun, measured, "0.6")


def test_the_style_with_most_right_paths_is_recommended(project: Project) -> None:
    result = compared(project, N)
    base, *chats = result.styles
    assert (base.style, base.format) == (PromptStyle.BASE, PromptFormat.FEW_SHOT_COT)
    assert [style.style for style in chats] == [PromptStyle.CHAT] * 2
    assert (result.n, result.k) == (N, 8)
    assert result.recommended in (1, 2)
    assert base.is_worse
    assert base.difference_low < base.difference < base.difference_high < 0
    assert base.low < base.right < base.high < min(style.right for style in chats)
    assert base.majority < min(style.majority for style in chats)
    assert all(style.kept_right <= style.kept <= N for style in result.styles)
    assert result.styles[result.recommended].difference == 0


def test_answers_that_are_equal_but_written_differently_are_one_majority(project: Project) -> None:
    following = a_question(
        N,
        Split.EVAL,
        key="sum",
        text="What follows x?",
        task="math",
        answer_type=AnswerType.MATH,
    )
    with connect(project.database) as conn, transaction(conn):
        questions.add(conn, [following], {"sum": ("x+1",)})
    rules = [rule(following.text, {"x+1": 1.0, "1+x": 1.0, "x+2-1": 1.0}), rule("", {"7": 1.0})]
    write_script(project.folder / "models" / "script.json", rules)
    result = compared(project, N + 1)
    assert result.n == N + 1
    assert {(style.ties, style.kept) for style in result.styles} == {(0, N + 1)}


def test_nothing_is_stored_that_a_measurement_of_the_project_could_be_mistaken_for(
    project: Project,
) -> None:
    compared(project, 4)
    with connect(project.database) as conn:
        assert not evaluations.all_of(conn)
        assert {each.split for each in paths.runs(conn)} == {Split.EVAL}


def test_runs_in_several_styles_go_on_though_the_template_takes_no_system_turn(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts = {PromptStyle.BASE: "", PromptStyle.CHAT: "system-in-user"}
    monkeypatch.setattr(completion, "_chat_layout", lambda _, run, __: layouts[run.prompt_style])
    compared(project, 2)
    assert compared(project, 4).n == 4
    with connect(project.database) as conn:
        for begun in paths.runs(conn):
            sessions = inference_sessions.of_run(conn, begun.id)
            stored = [session.details.get("chat_layout", "") for session in sessions]
            assert stored == [layouts[begun.prompt_style]] * 2


def test_a_model_without_a_template_has_one_style(tmp_path: Path) -> None:
    project = scripted_project(tmp_path, pool=2, evaluation=2)
    with connect(project.database) as conn:
        work = claimed(conn, project, JobKind.EVALUATE, models=[TEACHER], styles=2)
        with pytest.raises(BadInput, match="no chat template"):
            stages.RUN[JobKind.EVALUATE](work)


def test_the_interval_of_a_mean_holds_it_and_is_the_same_each_time() -> None:
    values = [0.0, 0.125, 0.5, 1.0, 0.875, 0.25]
    low, high = pilot_styles.bootstrap(values)
    assert low < sum(values) / len(values) < high
    assert pilot_styles.bootstrap(values) == (low, high)
    assert pilot_styles.bootstrap([0.5] * 4) == (0.5, 0.5)


def test_paths_end_after_their_answer(project: Project) -> None:
    asked = a_question(0, Split.EVAL)
    repeats = rule(asked.text, {"7": 1.0}) | {"texts": [" The answer is {answer}." * 9]}
    write_script(project.folder / "models" / "script.json", [repeats, rule("", {"7": 1.0})])
    compared(project, N)
    with connect(project.database) as conn:
        first = questions.by_split(conn, Split.EVAL)[0]
        for begun in paths.runs(conn):
            stored = [path for path, _ in paths.for_question(conn, begun.id, first.id)]
            assert {path.text for path in stored} == {" The answer is 7."}
            assert {path.end for path in stored} == {EndReason.STOP}

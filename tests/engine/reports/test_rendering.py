"""The full report: its sections, its three formats, and hostile text shown as text."""

from __future__ import annotations

import dataclasses
import json
import time
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.jobs import curate, evaluate, sample
from engine.reports import document, project_report, rendering, svg_charts
from engine.reports.sections import gains, reproduction
from engine.statistics import intervals
from store import models, paths, questions, reviews
from store.connection import connect, transaction
from store.enums import JobKind, Queue, Split, Stage, Verdict
from store.records import Review, content_hash, question_key
from tests.engine.evaluation.scripted import rule, write_script
from tests.projects import TEACHER, a_question, claimed, command, scripted_project

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.folder import Project

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = (
    'Is <script>alert(1)</script> | "a" & `b` **c** \x1b[31m [d](http://e) {{ 7 * 7 }} the\nsame 7?'
)


def add_trained_model(project: Project, right: int) -> None:
    """Add a trained model that answers the first `right` evaluation questions right."""
    script = project.folder / "models" / "successor.json"
    rules = [rule(a_question(i, Split.EVAL).text, {str(i): 1.0}) for i in range(right)]
    write_script(script, [*rules, rule("", {"9999": 1.0})])
    with connect(project.database) as conn, transaction(conn):
        base = models.by_name(conn, TEACHER)
        assert base is not None
        models.add(
            conn,
            dataclasses.replace(
                base,
                id=0,
                name="scripted/lmsi",
                stage=Stage.LMSI,
                location=project.stored(script),
                sha256=content_hash(script.read_text()),
                base_id=base.id,
            ),
        )


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with something for every section of the report, and without a gain."""
    n = 40
    project = scripted_project(tmp_path_factory.mktemp("complete"), pool=40, evaluation=n)
    script = json.loads((project.folder / "models" / "script.json").read_text())
    script["rules"].append(rule("same 7", {"7": 9.0, "8": 1.0}))
    (project.folder / "models" / "script.json").write_text(json.dumps(script))
    hostile = a_question(500, text=HOSTILE, key=question_key("number", HOSTILE, (), ""))
    add_trained_model(project, 20)
    with connect(project.database) as conn:
        with transaction(conn):
            questions.add(conn, [hostile], {})
        sample.run(claimed(conn, project, JobKind.SAMPLE))
        (run,) = paths.runs(conn)
        for question, queue, verdict in (
            (hostile, Queue.TRIAGE, Verdict.NONE),
            (a_question(1), Queue.AUDIT, Verdict.MAJORITY),
            (a_question(2), Queue.AUDIT, Verdict.NONE),
        ):
            stored = questions.by_key(conn, Split.POOL, question.key)
            assert stored is not None
            reviews.add(
                conn,
                Review(0, stored.id, run.id, queue, verdict, None, None, None, 1.0, time.time()),
            )
        curate.run(claimed(conn, project, JobKind.CURATE))
        evaluate.run(claimed(conn, project, JobKind.EVALUATE))
    return project


def report_of(project: Project) -> document.Document:
    with connect(project.database, read_only=True) as conn:
        return project_report.build(project, conn)


# The verdict on a gain.


def compared(won: int, lost: int, n: int) -> intervals.Paired:
    before = [False] * won + [True] * lost + [False] * (n - won - lost)
    after = [True] * won + [False] * lost + [False] * (n - won - lost)
    return intervals.paired(before, after)


def test_a_missing_gain_is_reported_with_the_detectable_gain() -> None:
    verdict = gains.no_gain(compared(12, 10, 200))
    assert verdict is not None
    assert verdict.startswith("no gain shown")
    assert "6.5 points" in verdict
    assert gains.no_gain(compared(40, 5, 200)) is None
    assert gains.no_gain(compared(5, 40, 200)) == "worse by 17.5 points"
    assert "too few questions" in str(gains.no_gain(compared(1, 0, 3)))


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 60))
def test_a_gain_is_shown_exactly_if_its_interval_is_above_zero(
    won: int, lost: int, rest: int
) -> None:
    difference = compared(won, lost, won + lost + rest)
    assert (gains.no_gain(difference) is None) == (difference.low > 0)
    detectable = intervals.detectable_by(difference)
    assert detectable is None or 0 < detectable <= 1


# The document.


def test_the_report_states_that_no_gain_is_shown(complete: Project) -> None:
    text = rendering.markdown(report_of(complete))
    assert "no gain shown; with this many questions only a gain above" in text
    assert "scripted/lmsi against scripted/base, greedy chain of thought, n = 40" in text
    assert "lost " in text


def test_every_section_is_present(complete: Project) -> None:
    report = report_of(complete)
    titles = [section.title for section in report.sections]
    assert titles == [
        "Gains",
        "Acceptance tests",
        "Accuracy",
        "Questions",
        "Votes",
        "Audit",
        "Questions excluded from training",
        "Calibration",
        "Training sets",
        "Versions and hashes",
        "Reproducing these results",
    ]
    text = rendering.markdown(report)
    for fact in (
        "no answer is right | 1",
        "the winner is wrong | 1",
        "human-assisted",
        "expected calibration error",
        "sample.m = 8",
        "database schema",
        "| scripted/lmsi | undecided |",
        "not measured",
        "no audit shows that the answers became better",
    ):
        assert fact in text, fact


def test_text_of_data_sets_is_shown_and_never_interpreted(complete: Project) -> None:
    hostile = document.Document(
        HOSTILE,
        (document.ReportSection(HOSTILE, (HOSTILE, document.Table((HOSTILE,), ((HOSTILE,),)))),),
    )
    page = rendering.html_page(hostile)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "{{ 7 * 7 }}" in page
    text = rendering.markdown(hostile)
    assert "<script" not in text
    assert r"\[d\]" in text
    assert all(line.count("|") - line.count(r"\|") in (0, 2) for line in text.splitlines())
    assert "http:" not in rendering.html_page(report_of(complete)).replace(SVG.strip("{}"), "")


def test_the_plots_are_well_formed_and_part_of_the_page(complete: Project) -> None:
    report = report_of(complete)
    plots = [
        block.svg
        for section in report.sections
        for block in section.blocks
        if isinstance(block, document.Plot)
    ]
    assert len(plots) >= 4
    page = rendering.html_page(report)
    for svg in plots:
        assert ET.fromstring(svg).tag == f"{SVG}svg"  # noqa: S314 - our own drawing
        assert svg in page


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000)), min_size=0, max_size=20
    ),
    st.text(max_size=20),
)
def test_charts_of_any_values_are_well_formed(
    values: list[tuple[float, float, int]], name: str
) -> None:
    name = "".join(character for character in name if character.isprintable())
    points = tuple(svg_charts.PlotPoint(x, y, y / 2, (1 + y) / 2, n) for x, y, n in values)
    bars = [svg_charts.IntervalBar(name, x, x - 1, x + 1) for x, _, _ in values]
    columns = [(name, n) for _, _, n in values]
    for svg in (
        svg_charts.chart(name, [svg_charts.PlotSeries(name, points)], x="x", y="y", x_range=(0, 1)),
        svg_charts.intervals(name, bars, x="x"),
        svg_charts.histogram(name, columns, x="x", y="y"),
    ):
        assert ET.fromstring(svg).tag == f"{SVG}svg"  # noqa: S314 - our own drawing


def test_the_command_of_a_job_can_be_run_again() -> None:
    from store.enums import JobState
    from store.records import Job

    job = Job(
        1, JobKind.EVALUATE, {}, "k", JobState.DONE, 1, 1, "", None, {}, None, None, 0.0, None,
        None, None,
    )  # fmt: skip
    params: dict[str, object] = {
        "models": ["a b", "c"],
        "settings": {"evaluate": {"k": 4, "ood": False}},
    }
    assert reproduction.command_of(dataclasses.replace(job, params=params)) == (
        "lmsi-tui evaluate --model 'a b' --model c --set evaluate.k=4 --set evaluate.ood=false"
    )


def test_the_report_is_written_in_three_formats(complete: Project, tmp_path: Path) -> None:
    for name, start in (
        ("md", "# LMSI report"),
        ("html", "<!doctype html>"),
        ("json", '{"event"'),
    ):
        done = command("report", complete.folder, "--format", name)
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(start)
        assert "\x1b" not in done.stdout
        out = tmp_path / f"report.{name}"
        assert command("report", complete.folder, "--format", name, "--out", out).stdout == ""
        assert out.read_text().strip() == done.stdout.strip()
    event = json.loads(out.read_text())
    assert event["evaluations"]
    gains_section = event["document"]["sections"][0]
    assert gains_section["title"] == "Gains"
    assert list(gains_section["tables"][0][0]) == [
        *("before", "after", "trained", "on", "asked", "n", "gain in points (95 %)", "p"),
        *("flips to right / to wrong", "verdict"),
    ]
    refused = command("report", complete.folder, "--format", "md", "--out", tmp_path)
    assert refused.returncode == 2
    assert "cannot be written" in refused.stderr

"""The plan of a job: its facts, its settings, and what happens to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from textual.widgets import Input, Static

from engine.demo.project import make_demo
from engine.jobs import study_arms
from engine.jobs.job_settings import RELEVANT, settings_of
from engine.jobs.memory_estimate import Part
from engine.jobs.plan import ArmPlan, ContrastPlan, Plan
from engine.project.folder import SETTINGS, create_project, open_project
from engine.project.objectives import FIRST_TOKENS
from engine.project.settings import Settings
from lmsi_tui.screens.home import HomeScreen
from lmsi_tui.screens.plan import PlanScreen, job_parameters, params_of
from lmsi_tui.shell.messages import JobRequested, StageRequested
from lmsi_tui.widgets.option_cycler import OptionCycler
from lmsi_tui.widgets.plan_summary import PlanSummary, summary_rows
from lmsi_tui.widgets.setting_row import SettingRow, read_value, shown
from store import jobs
from store.connection import connect
from store.enums import Arm, EarlyStop, JobKind, PromptFormat
from store.schema import ensure_schema
from tests.lmsi_tui.driving import driven, settled
from tests.seed import STUDENT, TEACHER, at_work, seeded_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from textual.message import Message
    from textual.pilot import Pilot

    from engine.project.folder import Project
    from store.records import Job


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """The seeded project, with a worker that only seems to run."""
    project = seeded_project(tmp_path / "story")
    with at_work(project):
        yield project


def rows(project: Project) -> list[Job]:
    with connect(project.database, read_only=True) as conn:
        return jobs.all_of(conn)


async def opened(pilot: Pilot[None], kind: JobKind) -> PlanScreen:
    pilot.app.post_message(StageRequested(kind))
    await settled(pilot)
    await settled(pilot)
    screen = pilot.app.screen
    assert isinstance(screen, PlanScreen)
    return screen


def row(screen: PlanScreen, path: str) -> SettingRow:
    return next(row for row in screen.query(SettingRow) if row.setting.path == path)


async def write(pilot: Pilot[None], screen: PlanScreen, path: str, text: str) -> None:
    """Replace the value of a setting by typing."""
    field = row(screen, path).query_one(Input)
    field.focus()
    field.value = ""
    await pilot.press(*text)
    await settled(pilot)


def error(screen: PlanScreen, path: str) -> str:
    setting_row = row(screen, path)
    if not setting_row.has_class("-wrong"):
        return ""
    return str(setting_row.query_one(".wrong", Static).render())


def hint(screen: PlanScreen) -> str:
    return str(screen.query_one("#hint", Static).render())


def facts(screen: PlanScreen) -> dict[str, str]:
    made = screen.query_one(PlanSummary).plan
    assert made is not None
    return {name: text for name, text, _ in summary_rows(made)}


def requests(messages: list[Message]) -> list[JobRequested]:
    return list(
        {id(message): message for message in messages if isinstance(message, JobRequested)}.values()
    )


# The plan.


@pytest.mark.parametrize("kind", list(JobKind))
async def test_every_kind_of_job_has_a_plan_with_its_settings(
    project: Project, kind: JobKind
) -> None:
    async with driven(project) as pilot:
        screen = await opened(pilot, kind)
        paths = [row.setting.path for row in screen.query(SettingRow) if row.setting.section]
        assert paths == list(RELEVANT[kind])
        for setting_row in screen.query(SettingRow):
            assert setting_row.setting.meaning
        assert facts(screen)


async def test_a_sampling_plan_shows_the_number_of_missing_paths(project: Project) -> None:
    async with driven(project) as pilot:
        screen = await opened(pilot, JobKind.SAMPLE)
        assert facts(screen)["paths"].startswith("none to sample")
        assert "stored and count" in facts(screen)["reused"]
        assert facts(screen)["time"] == "nothing to do"


async def test_the_focused_setting_shows_its_whole_meaning(project: Project) -> None:
    async with driven(project) as pilot:
        screen = await opened(pilot, JobKind.SAMPLE)
        meaning = screen.query_one("#meaning", Static)
        assert str(meaning.render()) == row(screen, "sample.m").setting.meaning
        await pilot.press("down")
        await pilot.pause()
        assert str(meaning.render()) == row(screen, "sample.threshold").setting.meaning
        await pilot.press("up")
        await pilot.pause()
        assert str(meaning.render()) == row(screen, "sample.m").setting.meaning


async def test_the_arrow_keys_select_settings_when_some_are_out_of_view(project: Project) -> None:
    async with driven(project, size=(80, 24)) as pilot:
        screen = await opened(pilot, JobKind.SAMPLE)
        setting_rows, settings = list(screen.query(SettingRow)), screen.query_one("#settings")
        assert settings.max_scroll_y > 0
        for key, expected in [("down", n) for n in range(1, 9)] + [("up", 7), ("up", 6)]:
            await pilot.press(key)
            await pilot.pause()
            (focused,) = [row for row in setting_rows if row.has_focus_within]
            assert focused is setting_rows[expected]
            assert settings.region.contains_region(focused.region)


async def test_an_edited_value_updates_the_plan(project: Project) -> None:
    async with driven(project) as pilot:
        screen = await opened(pilot, JobKind.SAMPLE)
        await write(pilot, screen, "sample.m", "32")
        assert " to sample" in facts(screen)["paths"]
        assert facts(screen)["paths"] != "none to sample: all are stored"
        assert row(screen, "sample.m").has_class("-changed")
        assert "saves settings" in hint(screen)
        await write(pilot, screen, "sample.m", "16")
        assert facts(screen)["paths"].startswith("none to sample")
        assert not row(screen, "sample.m").has_class("-changed")
        assert "saves" not in hint(screen)


# Starting.


async def test_enter_starts_the_job_and_leaves_the_file_alone_when_nothing_changed(
    project: Project,
) -> None:
    before = (project.folder / SETTINGS).read_bytes()
    messages: list[Message] = []
    async with driven(project, messages=messages) as pilot:
        await opened(pilot, JobKind.SAMPLE)
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, HomeScreen)
    assert requests(messages) == [JobRequested(JobKind.SAMPLE, {"settings": {}})]
    assert (project.folder / SETTINGS).read_bytes() == before
    assert (rows(project)[-1].kind, rows(project)[-1].params) == (
        JobKind.SAMPLE,
        {"settings": {}},
    )


async def test_changed_settings_are_saved_and_comments_are_kept(project: Project) -> None:
    file = project.folder / SETTINGS
    file.write_text("# My own words.\n" + file.read_text())
    async with driven(project) as pilot:
        screen = await opened(pilot, JobKind.SAMPLE)
        await write(pilot, screen, "sample.m", "20")
        await write(pilot, screen, "sample.threshold", "0.5")
        row(screen, "sample.early_stop").query_one(OptionCycler).focus()
        await pilot.press("right")
        await settled(pilot)
        await pilot.press("enter")
        await settled(pilot)
        assert isinstance(pilot.app.screen, HomeScreen)
        kept = pilot.app.project.settings  # type: ignore[attr-defined]
    assert file.read_text().startswith("# My own words.\n")
    sample = open_project(project.folder).settings.sample
    assert (sample.m, sample.threshold, sample.early_stop) == (20, "0.5", EarlyStop.FAST)
    assert kept.sample == sample
    assert rows(project)[-1].params == {"settings": {}}


async def test_edits_of_the_file_by_hand_are_kept(project: Project) -> None:
    file = project.folder / SETTINGS
    async with driven(project) as pilot:
        file.write_text(file.read_text().replace("rank = 16", "rank = 5"))
        screen = await opened(pilot, JobKind.SAMPLE)
        await write(pilot, screen, "sample.m", "20")
        await pilot.press("enter")
        await settled(pilot)
    settings = open_project(project.folder).settings
    assert settings.sample.m == 20
    assert settings.finetune.rank == 5


async def test_settings_that_cannot_be_saved_start_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    jobs_before = rows(project)
    monkeypatch.setattr("engine.project.folder.save_settings", full)
    async with driven(project) as pilot:
        screen = await opened(pilot, JobKind.SAMPLE)
        await write(pilot, screen, "sample.m", "20")
        await pilot.press("enter")
        await settled(pilot)
        assert pilot.app.screen is screen
        (notification,) = pilot.app._notifications
        assert "No space left on device" in notification.message
    assert rows(project) == jobs_before


async def test_escape_changes_nothing(project: Project) -> None:
    before, jobs_before = (project.folder / SETTINGS).read_bytes(), rows(project)
    messages: list[Message] = []
    async with driven(project, messages=messages) as pilot:
        screen = await opened(pilot, JobKind.SAMPLE)
        await write(pilot, screen, "sample.m", "20")
        await pilot.press("escape")
        assert isinstance(pilot.app.screen, HomeScreen)
        assert pilot.app.project.settings.sample.m == 16  # type: ignore[attr-defined]
    assert requests(messages) == []
    assert (project.folder / SETTINGS).read_bytes() == before
    assert rows(project) == jobs_before


# Invalid values.

INVALID = [
    (JobKind.SAMPLE, "sample.m", "0", "sample.m is 0: it must be"),
    (JobKind.SAMPLE, "sample.m", "many", "sample.m is 'many': it must be a whole number"),
    (JobKind.SAMPLE, "sample.m", "2.5", "sample.m is 2.5: it must be a whole number"),
    (JobKind.SAMPLE, "sample.threshold", "2", "it must lie between 0 and 1."),
    (JobKind.SAMPLE, "sample.threshold", "", "give a share such as 0.6 or 3/5."),
    (JobKind.CURATE, "curate.formats", "sung", "it must be a list of few-shot-cot"),
    (JobKind.CURATE, "curate.formats", "", "curate.formats is []"),
    (JobKind.FINETUNE, "finetune.epochs", "-1", "finetune.epochs is -1: it must be"),
    (JobKind.EVALUATE, "evaluate.k", "0", "evaluate.k is 0: it must be"),
]


@pytest.mark.parametrize(("kind", "path", "text", "sentence"), INVALID)
async def test_an_invalid_value_is_reported_under_its_field(
    project: Project, kind: JobKind, path: str, text: str, sentence: str
) -> None:
    before, jobs_before = (project.folder / SETTINGS).read_bytes(), rows(project)
    async with driven(project) as pilot:
        screen = await opened(pilot, kind)
        await write(pilot, screen, path, text)
        assert sentence in error(screen, path)
        assert sum(row.has_class("-wrong") for row in screen.query(SettingRow)) == 1
        assert "Fix the invalid value" in hint(screen)
        await pilot.press("enter")
        await settled(pilot)
        assert pilot.app.screen is screen
    assert (project.folder / SETTINGS).read_bytes() == before
    assert rows(project) == jobs_before


async def test_a_fixed_value_is_accepted_and_the_right_field_is_blamed(project: Project) -> None:
    async with driven(project) as pilot:
        screen = await opened(pilot, JobKind.SAMPLE)
        await write(pilot, screen, "sample.m", "0")
        await write(pilot, screen, "sample.threshold", "0.5")
        assert error(screen, "sample.m")
        assert not error(screen, "sample.threshold")
        await write(pilot, screen, "sample.m", "8")
        assert not error(screen, "sample.m")
        await pilot.press("enter")
        await settled(pilot)
    sample = open_project(project.folder).settings.sample
    assert (sample.m, sample.threshold) == (8, "0.5")


async def test_conflicting_values_are_reported_where_they_were_edited(
    project: Project,
) -> None:
    async with driven(project) as pilot:
        screen = await opened(pilot, JobKind.CURATE)
        row(screen, "curate.weighting").query_one(OptionCycler).focus()
        await pilot.press("left")
        await settled(pilot)
        assert "set sample.early_stop to off" in error(screen, "curate.weighting")


async def test_a_plan_that_cannot_start_names_the_stage_before_it(tmp_path: Path) -> None:
    project = make_demo(tmp_path / "demo", pool=3, evaluation=3)
    async with driven(project) as pilot:
        screen = await opened(pilot, JobKind.FINETUNE)
        assert "lmsi-tui curate" in facts(screen)["cannot start"]
        assert "press c" in hint(screen)
        await pilot.press("enter")
        await settled(pilot)
        assert pilot.app.screen is screen
    assert rows(project) == []


@pytest.mark.parametrize("kind", list(JobKind))
async def test_the_plan_of_an_empty_project_says_what_is_missing(
    tmp_path: Path, kind: JobKind
) -> None:
    project = create_project(tmp_path / "empty", Settings())
    ensure_schema(project.database)
    async with driven(project) as pilot:
        screen = await opened(pilot, kind)
        assert facts(screen)["cannot start"]
        await pilot.press("enter")
        await settled(pilot)
    assert rows(project) == []


async def test_an_invalid_settings_file_is_reported(project: Project) -> None:
    async with driven(project) as pilot:
        (project.folder / SETTINGS).write_text("[sample\n")
        await opened(pilot, JobKind.SAMPLE)
        (told,) = pilot.app._notifications
        assert "fix that line" in told.message


# Parameters of a job.


async def test_a_single_model_can_be_evaluated(project: Project) -> None:
    messages: list[Message] = []
    async with driven(project, messages=messages) as pilot:
        screen = await opened(pilot, JobKind.EVALUATE)
        assert facts(screen)["models"].count(",") == 3
        cycler = row(screen, ".models").query_one(OptionCycler)
        assert cycler.values[0] == "all"
        cycler.focus()
        await pilot.press("right")
        await settled(pilot)
        assert facts(screen)["models"] == f"{TEACHER}/base"
        await pilot.press("enter")
        await settled(pilot)
    (request,) = requests(messages)
    assert request.params == {"settings": {}, "models": [f"{TEACHER}/base"]}


async def test_an_export_asks_for_content_model_and_folder(project: Project) -> None:
    messages: list[Message] = []
    async with driven(project, messages=messages) as pilot:
        screen = await opened(pilot, JobKind.EXPORT)
        assert [row.setting.name for row in screen.query(SettingRow)] == ["what", "model", "out"]
        assert row(screen, ".what").query_one(OptionCycler).values == ("adapter", "training-set")
        row(screen, ".what").query_one(OptionCycler).focus()
        await pilot.press("space")
        row(screen, ".model").query_one(OptionCycler).focus()
        await pilot.press("left")
        await write(pilot, screen, ".out", "elsewhere")
        await pilot.press("enter")
        await settled(pilot)
    (request,) = requests(messages)
    assert request.params == {
        "what": "training-set",
        "model": f"{TEACHER}/lmsi",
        "out": str((project.folder / "elsewhere").resolve()),
    }


def test_missing_parameters_are_left_to_the_job(tmp_path: Path) -> None:
    made = Plan(JobKind.EXPORT, models=(f"{STUDENT}/distilled",))
    (what, model, out) = job_parameters(JobKind.EXPORT, made)
    assert what.choices == ("adapter",)
    assert model.value == f"{STUDENT}/distilled"
    assert out.value == "exports"
    parameters = {"what": "adapter", "model": f"{STUDENT}/distilled", "out": ""}
    assert params_of(JobKind.EXPORT, parameters, tmp_path)["out"] is None
    assert job_parameters(JobKind.SAMPLE, Plan(JobKind.SAMPLE)) == []
    assert params_of(JobKind.SAMPLE, {}, tmp_path) == {"settings": {}}


# Parts.


@pytest.mark.parametrize("kind", list(JobKind))
def test_a_shown_value_is_read_back_unchanged(kind: JobKind) -> None:
    for setting in settings_of(Settings(), kind):
        value = setting.value
        read = read_value(shown(value), value)
        assert read == (list(value) if isinstance(value, tuple) else value)


READ = [
    ("7", 1, 7),
    ("7.5", 1, 7.5),
    ("1e-4", 0.1, 1e-4),
    ("x", 1, "x"),
    (" few-shot-cot , zero-shot-cot ", tuple(PromptFormat), ["few-shot-cot", "zero-shot-cot"]),
    ("", (), []),
    ("true", False, True),
    ("perhaps", False, "perhaps"),
    ("0.6", "0.5", "0.6"),
]


@pytest.mark.parametrize(("text", "current", "value"), READ)
def test_typed_text_is_parsed_as_the_type_of_the_current_value(
    text: str, current: object, value: object
) -> None:
    assert read_value(text, current) == value


def test_memory_that_does_not_fit_is_marked() -> None:
    made = Plan(JobKind.FINETUNE, memory=(Part("weights", 8 << 30),), available=4 << 30)
    (memory,) = [text for name, text, _ in summary_rows(made) if name == "memory"]
    assert memory.startswith("! about 8.0 GiB of 4.0 GiB")
    assert "weights 8.0 GiB" in memory
    fits = Plan(JobKind.FINETUNE, memory=(Part("weights", 2 << 30),), available=4 << 30)
    assert not {name: text for name, text, _ in summary_rows(fits)}["memory"].startswith("!")


TIMES = [
    (None, "unknown until measured once"),
    ((30.0, 30.0), "about 0:30"),
    ((30.0, 90.0), "0:30 to 1:30"),
    ((0.0, 0.0), "nothing to do"),
]


@pytest.mark.parametrize(("seconds", "expected"), TIMES)
def test_the_time_is_as_precise_as_it_is_known(
    seconds: tuple[float, float] | None, expected: str
) -> None:
    made = Plan(JobKind.SAMPLE, seconds=seconds)
    assert {name: text for name, text, _ in summary_rows(made)}["time"] == expected


@pytest.mark.parametrize("size", [(40, 16), (80, 24), (120, 36), (200, 50)])
async def test_facts_fields_and_keys_are_all_in_view(
    project: Project, size: tuple[int, int]
) -> None:
    async with driven(project, size=size) as pilot:
        screen = await opened(pilot, JobKind.SAMPLE)
        await pilot.pause()
        assert screen.query_one(".dialog").region.right <= size[0]
        assert screen.query_one(".dialog").region.bottom <= size[1]
        if size[1] >= 24:
            assert screen.query_one("#hint").region.bottom <= size[1]
            assert screen.query_one("#settings").region.height >= 5


def test_a_contrast_is_planned_with_its_pairs_margins_and_questions_without_a_loser() -> None:
    contrast = ContrastPlan("kto", 4000, 1200, 9600, 500, 120, (10, 20, 70, 200, 200))
    rows = {name: text for name, text, _ in summary_rows(Plan(JobKind.FINETUNE, contrast=contrast))}
    for words in ("9,600 pairs", "4,000 kept", "1,200 losing", "380 of 500", "kto", "120 have no"):
        assert words in rows["contrast"]
    assert "0.0 to 0.2: 10" in rows["margins"]
    assert "0.8 to 1.0: 200" in rows["margins"]
    assert "contrast" not in {name for name, _, _ in summary_rows(Plan(JobKind.FINETUNE))}


async def test_a_study_is_planned_and_started_from_the_home_screen(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Plan(
        JobKind.FINETUNE,
        arms=(
            ArmPlan(Arm.VOTED, 100, 4, 1600, "maple-1b/lmsi"),
            ArmPlan(Arm.RANDOM, 100, 4, 1600, ""),
        ),
    )
    asked: list[object] = []

    def planned(*_: object, arms: object, **__: object) -> Plan:
        asked.append(arms)
        return made

    monkeypatch.setattr("lmsi_tui.screens.plan.plan", planned)
    async with driven(project) as pilot:
        await pilot.press("a")
        await settled(pilot)
        await settled(pilot)
        screen = pilot.app.screen
        assert isinstance(screen, PlanScreen)
        assert "maple-1b/lmsi is the result" in facts(screen)["arms"]
        assert any("1,600 learned tokens" in text for _, text, _ in summary_rows(made))
        await pilot.press("enter")
        await settled(pilot)
    assert asked == [(list(Arm), FIRST_TOKENS)]
    (job,) = [job for job in rows(project) if "study" in job.params]
    assert job.kind is JobKind.FINETUNE
    assert job.params == study_arms.params({}, list(Arm), FIRST_TOKENS)

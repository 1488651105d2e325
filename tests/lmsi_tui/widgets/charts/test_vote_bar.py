"""The vote on one line: every number is shown, and it fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from lmsi_tui.widgets.charts.vote_bar import VoteBar, Votes, bar
from tests.nasty import FORBIDDEN, NASTY

THREE = Votes(
    answers=(("10", 14), ("600", 11), ("12", 3)),
    m=32,
    abstained=(("no answer", 2), ("cut off", 2)),
    visible=(0, 1),
    right=1,
)


class Bar(App[None]):
    def __init__(self, votes: Votes | None) -> None:
        super().__init__()
        self.votes = votes
        self.clicked: list[int] = []

    def compose(self) -> ComposeResult:
        yield VoteBar()

    def on_mount(self) -> None:
        self.query_one(VoteBar).votes = self.votes

    def on_vote_bar_answer_clicked(self, message: VoteBar.AnswerClicked) -> None:
        self.clicked.append(message.place)


async def line(votes: Votes | None, width: int) -> str:
    async with Bar(votes).run_test(size=(width, 3)) as pilot:
        content = pilot.app.query_one(VoteBar).render()
        assert content.cell_length <= max(1, width - 2)
        return content.plain


async def test_key_bar_count_and_answer_are_shown() -> None:
    text = await line(THREE, 120)
    assert "1 ██████████ 14 10" in text
    assert "✓2 ███████▉ 11 600" in text
    assert "3 ██▏ 3 12" in text
    assert text.endswith("∅ 4: 2 no answer, 2 cut off")


async def test_answers_that_do_not_fit_are_counted() -> None:
    many = Votes(tuple((f"answer {number}", 1) for number in range(20)), m=32, not_sampled=12)
    text = await line(many, 80)
    assert "+17 more" in text
    assert text.endswith("… 12 not sampled")


async def test_the_tenth_answer_has_no_key() -> None:
    many = Votes(tuple((str(number), 1) for number in range(10)), m=10)
    text = await line(many, 220)
    assert "9 ██▍ 1 8" in text
    assert "· ██▍ 1 9" in text


async def test_a_vote_without_an_answer_says_so() -> None:
    assert (await line(Votes((), m=4, abstained=(("empty", 4),)), 80)).startswith(
        "no path has an answer"
    )
    assert await line(None, 80) == ""


@pytest.mark.parametrize("width", [10, 40, 120])
@pytest.mark.parametrize("name", NASTY)
async def test_a_hostile_answer_stays_on_its_line(name: str, width: int) -> None:
    text = await line(Votes(((NASTY[name], 3), ("7", 1)), m=4), width)
    assert not FORBIDDEN & set(text)


async def test_a_click_reports_the_answer_under_it() -> None:
    app = Bar(THREE)
    async with app.run_test(size=(120, 3)) as pilot:
        text = app.query_one(VoteBar).render().plain
        for answer in ("10", "600", "12"):
            await pilot.click(VoteBar, offset=(text.index(f" {answer}") + 2, 0))
        await pilot.click(VoteBar, offset=(text.index("∅") + 3, 0))
    assert app.clicked == [0, 1, 2]


@given(st.floats(0, 1), st.integers(1, 40))
def test_a_bar_is_as_long_as_its_share(share: float, columns: int) -> None:
    drawn = bar(share, columns)
    assert len(drawn) <= columns
    assert bool(drawn) == (share > 0)
    assert abs(len(drawn) - share * columns) <= 1

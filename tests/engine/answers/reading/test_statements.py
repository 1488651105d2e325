"""Finding answer statements."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from engine.answers.reading.statements import STATEMENT, find_statements

PARTS = st.sampled_from(
    [
        "Answer",
        "answer",
        "ans",
        "ANS = ",
        "Final answer: ",
        "The answer is ",
        "A: ",
        "**A:** ",
        "#### ",
        "\\boxed{",
        "Answer(",
        "<answer>",
        '"answer": ',
        "'result': ",
        "答案：",
        "Antwort: ",
        "Ответ: ",
        "the correct option is ",
        "the best choice is ",
        "most likely ",
        "I choose ",
        "I'd pick ",
        "Solution:",
        "total = ",
        "result",
        "\n",
        "\n\n",
        "  ",
        "> ",
        "- ",
        "# ",
        "(",
        '"',
        "_",
        "*",
        "İ",
        "B",
        "12",
        ".",
        "word ",
        ": ",
        "= ",
        "is ",
    ]
)


@settings(max_examples=500)
@given(st.lists(PARTS, max_size=14).map("".join))
def test_the_fast_search_finds_every_statement(text: str) -> None:
    assert [match.span() for match in find_statements(text)] == [
        match.span() for match in STATEMENT.finditer(text)
    ]

"""The commands of the review screen."""

from __future__ import annotations

from lmsi_tui.shell.commands import Command

_ANY = "The answer with this number is right; in an audit: the option."


def _right(key: int) -> str:
    return f"Answer {key} is right; in an audit: option {key}."


COMMANDS = (
    Command("review.answer-1", "1", "answer(0)", "right", _ANY, display="1-9"),
    *(
        Command(
            f"review.answer-{key}", str(key), f"answer({key - 1})", "", _right(key), shown=False
        )
        for key in range(2, 10)
    ),
    Command("review.majority", "a", "majority", "majority", "The majority answer is right."),
    Command("review.none", "x", "none", "none", "No answer is right: leave the question out."),
    Command("review.type", "t", "type", "type", "Type the right answer."),
    Command("review.same", "m", "same", "merge", "Merge two answers that mean the same."),
    Command("review.skip", "space", "skip", "skip", "Skip: let the vote decide."),
    Command("review.undo", "u", "undo", "undo", "Undo the last decision."),
    Command(
        "review.this",
        "enter",
        "this",
        "this",
        "The answer in the focused pane is right; after an audit: continue.",
        shown=False,
    ),
    Command("review.path", "tab", "path(1)", "path", "The next path of this answer."),
    Command(
        "review.path-back",
        "shift+tab",
        "path(-1)",
        "path back",
        "The previous path of this answer.",
        shown=False,
    ),
    Command(
        "review.group",
        "g",
        "group",
        "group",
        "Show another answer's paths in this pane.",
        shown=False,
    ),
    Command("review.left", "left", "pane('left')", "left", "Focus the left pane.", shown=False),
    Command(
        "review.right", "right", "pane('right')", "right", "Focus the right pane.", shown=False
    ),
    Command(
        "review.next",
        "n",
        "go(1)",
        "next",
        "Go to the next question without deciding.",
        shown=False,
    ),
    Command("review.previous", "p", "go(-1)", "back", "Go to the previous question.", shown=False),
    Command("review.find", "slash", "find", "find", "Filter and sort the queue."),
    Command("review.list", "l", "list", "list", "Show the queue as a list."),
    Command("review.audit", "b", "audit", "audit", "Switch between blind audit and triage."),
    Command("review.copy", "y", "copy", "copy", "Copy the path.", shown=False),
    Command(
        "review.open", "o", "open", "open", "Open question and path in your pager.", shown=False
    ),
)

FOR_A_QUESTION = frozenset(
    f"review.{name}"
    for name in ("answer-1", "majority", "none", "type", "same", "skip", "path", "list")
)
"""Commands that need an open question."""
BEFORE_THE_ANSWER = frozenset({"review.answer-1", "review.none", "review.type"})
"""Commands that answer the question of an audit."""
AUDIT_TITLES = {
    "review.answer-1": "pick",
    "review.none": "broken",
    "review.skip": "cannot judge",
    "review.audit": "triage",
}
TRIAGE_ONLY = frozenset({"majority", "same", "find", "list"})
"""Actions that an audit lacks: its sample is random, and its vote is hidden."""

"""The keys of review."""

from __future__ import annotations

from lmsi_tui.shell.commands import Command

_ANY = "The answer with this number is right; in an audit, the option."


def _right(key: int) -> str:
    return f"Answer {key} is right; in an audit: option {key}."


COMMANDS = (
    Command("review.answer-1", "1", "answer(0)", "is right", _ANY, display="1-9"),
    *(
        Command(
            f"review.answer-{key}", str(key), f"answer({key - 1})", "", _right(key), shown=False
        )
        for key in range(2, 10)
    ),
    Command("review.majority", "a", "majority", "majority", "The majority is right."),
    Command("review.none", "x", "none", "none", "No answer is right: leave the question out."),
    Command("review.type", "t", "type", "type", "Type the right answer."),
    Command("review.same", "m", "same", "same", "Two answers are the same answer."),
    Command("review.skip", "space", "skip", "skip", "Leave it as the vote left it."),
    Command("review.undo", "u", "undo", "undo", "Take back the last decision."),
    Command(
        "review.this",
        "enter",
        "this",
        "this",
        "The answer in the chosen pane is right; after an audit: go on.",
        shown=False,
    ),
    Command("review.path", "tab", "path(1)", "path", "The next path of this answer."),
    Command(
        "review.path-back",
        "shift+tab",
        "path(-1)",
        "path back",
        "The path before it.",
        shown=False,
    ),
    Command(
        "review.group",
        "g",
        "group",
        "group",
        "Another answer's paths in this pane.",
        shown=False,
    ),
    Command("review.left", "left", "pane('left')", "left", "Choose the left pane.", shown=False),
    Command(
        "review.right", "right", "pane('right')", "right", "Choose the right pane.", shown=False
    ),
    Command("review.next", "n", "go(1)", "next", "The next question, undecided.", shown=False),
    Command("review.previous", "p", "go(-1)", "back", "The question before.", shown=False),
    Command("review.find", "slash", "find", "find", "Filter and sort the queue."),
    Command("review.list", "l", "list", "list", "The queue as a list."),
    Command("review.audit", "b", "audit", "audit", "Blind audit, and back to triage."),
    Command("review.copy", "y", "copy", "copy", "Copy the path.", shown=False),
    Command(
        "review.open", "o", "open", "open", "Read question and path in your pager.", shown=False
    ),
)

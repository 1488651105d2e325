"""The commands that show how far labels and measurements can be trusted, and `why`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.evaluation.ledger_choices import LedgerSort, QuestionClass
from lmsi_tui.cli.options import add_command, add_json, add_project, add_settings, positive
from store.enums import AnswerType

if TYPE_CHECKING:
    import argparse

    from lmsi_tui.cli.options import Commands


def add_trust(commands: Commands) -> None:
    """Commands that show how far the labels and measurements can be trusted."""
    pilot = add_command(
        commands,
        "pilot",
        "lmsi_tui.cli.trust_commands:run_pilot",
        "estimate from a few questions with known answers whether LMSI can help",
        "Measure on a few questions with known answers how many labels the vote would keep, how "
        "many of them are right, and how much better the vote is than a single greedy answer. Stop "
        "as soon as the verdict is certain, and estimate what a full run would cost.",
    )
    add_project(pilot)
    pilot.add_argument(
        "--questions",
        type=positive,
        metavar="N",
        help="most questions to measure; fewer if the verdict is certain earlier (default: 80, "
        "with --styles 20)",
    )
    pilot.add_argument(
        "--styles",
        action="store_true",
        help="compare the styles in which the model can be asked: plain text with worked examples, "
        "a chat without and with them",
    )
    add_settings(pilot)
    add_json(pilot)

    audit = add_command(
        commands,
        "audit",
        "lmsi_tui.cli.trust_commands:show_audit",
        "estimate label precision from a blind audit",
        "Estimate label precision from a blind audit, certify thresholds, and list the next "
        "questions to audit. Audit them in the app (lmsi-tui review). The interval is valid "
        "whenever you stop.",
    )
    add_project(audit)
    audit.add_argument(
        "--precision",
        default="0.95",
        metavar="SHARE",
        help="label precision to certify (default: 0.95)",
    )
    audit.add_argument(
        "--confidence",
        default="0.95",
        metavar="SHARE",
        help="confidence of a certificate (default: 0.95)",
    )
    audit.add_argument(
        "--planned",
        type=positive,
        metavar="N",
        help="also show the exact interval; use it only if you fixed the number of audits at N "
        "before the first one",
    )
    add_json(audit)

    calibration = add_command(
        commands,
        "calibration",
        "lmsi_tui.cli.trust_commands:show_calibration",
        "show how accuracy depends on agreement",
    )
    add_project(calibration)
    add_json(calibration)

    ledger = add_command(
        commands,
        "ledger",
        "lmsi_tui.cli.ledger_command:show_ledger",
        "follow the vote on each question from round to round",
        "Follow the vote on each question from round to round: which questions are solved, "
        "learnable or hopeless, and which answers the model gave up although it was trained on "
        "them. Needs no known answers.",
    )
    add_project(ledger)
    ledger.add_argument(
        "--class",
        type=QuestionClass,
        choices=list(QuestionClass),
        dest="question_class",
        help="list only questions of this class",
    )
    ledger.add_argument(
        "--flips", action="store_true", help="list only questions whose kept answer changed"
    )
    ledger.add_argument(
        "--sort",
        type=LedgerSort,
        choices=list(LedgerSort),
        default=LedgerSort.CHANGED,
        help="order of the questions: most changed, least agreement or as imported (default: "
        "changed)",
    )
    ledger.add_argument(
        "--limit", type=positive, default=50, metavar="N", help="list at most N (default: 50)"
    )
    add_json(ledger)

    reader = add_command(
        commands,
        "reader",
        "lmsi_tui.cli.reader_command:reader",
        "show and change the rules that extract answers",
        "Show the rules that extract answers, preview other rules on the stored paths, or put "
        "them in force. New rules are added to those in force.",
    )
    add_project(reader)
    _reader_options(reader)
    add_json(reader)

    leaks = add_command(
        commands,
        "leaks",
        "lmsi_tui.cli.trust_commands:list_leaks",
        "list pool questions that nearly match evaluation questions",
    )
    add_project(leaks)
    add_json(leaks)

    why = add_command(
        commands,
        "why",
        "lmsi_tui.cli.provenance_command:why",
        "trace a training example or a model to its sources",
        "Trace a training example or a model to its sources, and list what depends on it.",
    )
    why.add_argument(
        "target",
        metavar="EXAMPLE|ADAPTER",
        help="SET:POSITION or row number of a training example, name of a model, or key of a "
        "training set or question",
    )
    add_project(why)
    add_json(why)


def _reader_options(reader: argparse.ArgumentParser) -> None:
    """Rules to add to those in force, and what to do with them."""
    reader.add_argument(
        "--type",
        type=AnswerType,
        choices=list(AnswerType),
        help="answer type of the reader (default: the pool's, if it has only one)",
    )
    for name, meaning in (
        (
            "pattern",
            "regular expression with the answer in a group, tried before the built-in rules",
        ),
        ("fallback", "the same, tried when the built-in rules find no answer"),
    ):
        reader.add_argument(
            f"--{name}", action="append", default=[], metavar="REGEX", help=f"{meaning}; repeatable"
        )
    reader.add_argument(
        "--unit",
        action="append",
        default=[],
        metavar="WORDS",
        help="unit to remove next to a number; repeatable",
    )
    reader.add_argument(
        "--same",
        action="append",
        nargs=2,
        default=[],
        metavar=("A", "B"),
        help="two answers to treat as equal; repeatable",
    )
    action = reader.add_mutually_exclusive_group()
    action.add_argument(
        "--try",
        action="store_true",
        dest="try_rules",
        help="show what the rules would change, and change nothing (the default)",
    )
    action.add_argument(
        "--accept", action="store_true", help="put the rules in force and recount every vote"
    )
    reader.add_argument(
        "--rules", metavar="JSON", help="replace the rules in force; format as shown by --json"
    )
    reader.add_argument("--reset", action="store_true", help="restore the built-in rules")
    reader.add_argument("--detach", action="store_true", help="do not wait for the vote job")

"""The classes and sort orders of the ledger; without other imports, for the command line."""

from __future__ import annotations

from enum import StrEnum


class QuestionClass(StrEnum):
    """What the votes of all rounds say about a question."""

    SOLVED = "solved"
    """The same answer led by far in the last two rounds."""
    LEARNABLE = "learnable"
    HOPELESS = "hopeless"
    """There were two rounds or more, and no answer ever had more than half of the paths."""


class LedgerSort(StrEnum):
    """Sort order; ties in order of import."""

    CHANGED = "changed"
    """Most flips first, then as by agreement."""
    AGREEMENT = "agreement"
    """Smallest share of the leading answer in the last round first."""
    IMPORTED = "imported"

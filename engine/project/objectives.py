"""What fine-tuning learns from the paths of a vote."""

from __future__ import annotations

from enum import StrEnum

DPO_FROM = 3_000_000_000
"""Number of weights from which DPO is the default: up to there KTO gained more in the comparison of
multi-agent consensus alignment (arXiv 2509.15172)."""

FIRST_TOKENS = 16
"""Tokens of a path that the arm `first-tokens` of a study learns by default. UPFT (arXiv
2503.02875) tried 8 to 32."""


class Objective(StrEnum):
    """Which paths are learned from."""

    MAJORITY = "majority"
    CONTRAST = "contrast"
    TEACH = "teach"


class ContrastLoss(StrEnum):
    """How a contrast raises winning paths above losing ones."""

    AUTO = "auto"
    KTO = "kto"
    DPO = "dpo"

    def of_size(self, parameters: int | None) -> ContrastLoss:
        """KTO or DPO, for a model with this number of weights; unknown ones count as few."""
        if self is not ContrastLoss.AUTO:
            return self
        return ContrastLoss.KTO if (parameters or 0) < DPO_FROM else ContrastLoss.DPO

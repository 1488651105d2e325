"""The configuration of a llama.cpp context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from store.counted import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

PATHS_PER_PROMPT = 6
"""Slots per prompt: questions in flight ask for several paths at a time."""


@dataclass(frozen=True, slots=True)
class ContextConfig:
    """How a context computes; which is fastest depends on machine, model and lengths.

    In the `streams` layout each sequence has a KV buffer of its own. In the `unified` layout one
    buffer holds the cells of all sequences: a copy only marks cells, and a prompt is stored once,
    but without flash attention every token attends over every cell.
    """

    batch_size: int
    """Paths at a time."""
    unified: bool
    flash_attention: bool
    """Whether attention is one fused kernel."""
    threads: int

    @property
    def prompt_slots(self) -> int:
        """Prompts held at a time."""
        return -(-self.batch_size // PATHS_PER_PROMPT)

    @property
    def sequences(self) -> int:
        """One for each path and prompt, and one for the prefix."""
        return self.batch_size + self.prompt_slots + 1

    def as_json(self) -> dict[str, object]:
        """The config in the form that is stored with a run."""
        return {
            "width": self.batch_size,
            "layout": "unified" if self.unified else "streams",
            "flash_attention": self.flash_attention,
            "threads": self.threads,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ContextConfig:
        """A config that was stored with a run."""
        return cls(
            values["width"],
            values["layout"] == "unified",
            values["flash_attention"],
            values["threads"],
        )

    def __str__(self) -> str:
        layout = "unified" if self.unified else "streams"
        flash = ", flash attention" if self.flash_attention else ""
        threads = counted(self.threads, "thread")
        return f"{counted(self.batch_size, 'path')}, {layout}{flash}, {threads}"

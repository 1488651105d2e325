"""Public data sets and sampled model outputs that tests read.

`tests/data` holds a small sample of each, so these tests run in every clone. The complete sets are
not in the repository; tests also run on them when `../shared` exists. See tests/data/README.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

SAMPLES = Path(__file__).parent / "data"
SHARED = Path(__file__).parents[2] / "shared"
"""The complete sets, beside the checkout."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PublicData:
    """Either the samples or the complete sets."""

    complete: bool

    def questions(self, name: str) -> Path:
        """The file or folder of a question set."""
        return self._existing(name, SHARED / "data" if self.complete else SAMPLES)

    def outputs(self, name: str) -> Path:
        """The file of a set of sampled outputs."""
        folder = SHARED / "outputs" if self.complete else SAMPLES / "sampled_outputs"
        return self._existing(f"{name}/normalized.jsonl", folder)

    def expects(self, *, sample: T, complete: T) -> T:
        """The expected value for the data in use."""
        return complete if self.complete else sample

    def _existing(self, name: str, folder: Path) -> Path:
        path = folder / name
        if self.complete and not path.exists():
            pytest.skip(f"../shared has no complete {name}; the sample in tests/data is tested")
        return path

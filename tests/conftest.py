"""The libraries of tests are told what the libraries of a worker are told."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from engine import launch

if TYPE_CHECKING:
    from collections.abc import Iterator

for name, value in launch.ENVIRONMENT.items():
    os.environ.setdefault(name, value)  # before anything imports torch


@pytest.fixture(scope="session", autouse=True)
def _no_worker_is_left_behind() -> Iterator[None]:
    yield
    for process in launch.started:
        process.wait(60)

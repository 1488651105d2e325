"""Settings and fixtures of all tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from engine.jobs import launch

if TYPE_CHECKING:
    from collections.abc import Iterator

for name, value in (launch.ENVIRONMENT | launch.OFFLINE).items():
    os.environ.setdefault(name, value)  # before anything imports torch

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers of pytest-xdist share the cores, and the models of most tests are tiny.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Speed is measured in benchmarks/, never in a test. In CI, properties are tried on the same
# examples each time, elsewhere on new ones.
settings.register_profile("untimed", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _no_worker_is_left_behind() -> Iterator[None]:
    yield
    for process in launch.started:
        process.wait(60)


@pytest.fixture(autouse=True)
def _own_configuration(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep tests away from the configuration of whoever runs them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.delenv("NO_COLOR", raising=False)

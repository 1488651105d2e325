"""Tests of importing run on the samples in the repository and, if present, on the complete sets."""

from __future__ import annotations

import pytest

from tests.public import PublicData


@pytest.fixture(params=[False, True], ids=["sample", "complete"])
def public(request: pytest.FixtureRequest) -> PublicData:
    return PublicData(complete=request.param)

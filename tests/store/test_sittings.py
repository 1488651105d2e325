"""With which engine paths were drawn, noted at each load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store import sittings

if TYPE_CHECKING:
    from tests.store.conftest import Seeded


def test_sittings_come_back_in_their_order(seeded: Seeded) -> None:
    conn, run = seeded.conn, seeded.run
    planned = f"{run.engine} {run.engine_version}"
    assert sittings.engines_of(conn, run) == planned
    assert sittings.last_engine(conn, run) == run.engine
    details = {"width": 64, "layout": "streams", "flash_attention": False, "threads": 2}
    sittings.add(conn, [run.id], "llama.cpp", "0.3", {**details, "engines": {"llama.cpp": 9.0}})
    sittings.add(conn, [run.id], "server", "", {})
    first, second = sittings.of_run(conn, run.id)
    assert first.details["width"] == 64
    assert (second.engine, second.engine_version) == ("server", "")
    assert list(sittings.of_model(conn, run.model_id)) == [second, first]
    assert sittings.last_engine(conn, run) == "server"
    assert sittings.engines_of(conn, run) == "server, before that llama.cpp 0.3"
    assert sittings.said(first) == (
        "llama.cpp 0.3; 64 paths at a time; streams layout; flash attention off; 2 threads; "
        "a probe drew llama.cpp 9 tokens/s"
    )

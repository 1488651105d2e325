"""Which engine sampled a run, recorded at each load of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from store import inference_sessions

if TYPE_CHECKING:
    from tests.store.conftest import Seeded


def test_sessions_come_back_in_their_order(seeded: Seeded) -> None:
    conn, run = seeded.conn, seeded.run
    planned = f"{run.engine} {run.engine_version}"
    assert inference_sessions.engines_of(conn, run) == planned
    assert inference_sessions.last_engine(conn, run) == run.engine
    details = {"width": 64, "layout": "streams", "flash_attention": False, "threads": 2}
    inference_sessions.add(
        conn, [run.id], "llama.cpp", "0.3", {**details, "engines": {"llama.cpp": 9.0}}
    )
    inference_sessions.add(conn, [run.id], "server", "", {})
    first, second = inference_sessions.of_run(conn, run.id)
    assert first.details["width"] == 64
    assert (second.engine, second.engine_version) == ("server", "")
    assert list(inference_sessions.of_model(conn, run.model_id)) == [second, first]
    assert inference_sessions.last_engine(conn, run) == "server"
    assert inference_sessions.engines_of(conn, run) == "server, before that llama.cpp 0.3"
    assert inference_sessions.describe(first) == (
        "llama.cpp 0.3; 64 paths at a time; streams layout; flash attention off; 2 threads; "
        "measured llama.cpp 9 tokens/s"
    )

"""The servers that people have, with an embedded model: what they do is found and made use of."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from engine.demo import world
from engine.inference.backend import PathRequest, Sampling, path_seed
from engine.inference.llama.backend import open_llama_cpp
from engine.inference.server.backend import open_servers
from engine.inference.server.probe import Dialect
from store.enums import EndReason, Split
from tests.engine.inference.server.real_servers import (
    GGUF,
    llama_cpp_server,
    transformers_serve,
)
from tests.engine.tiny import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.inference.backend import Backend, Generation

ASKED = [drawn.text for drawn in world.draw(Split.EVAL, 4, 77)]
GREEDY = Sampling(temperature=0.0, max_tokens=96, stop=("\nQ:",))
SAMPLED = Sampling(temperature=0.7, max_tokens=96, stop=("\nQ:",))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with llama_cpp_server(tmp_path_factory.mktemp("cache")) as url:
        yield url


def drawn(
    backend: Backend, sampling: Sampling, paths: int = 1
) -> dict[tuple[str, int], Generation]:
    requests = [
        PathRequest(
            text, index, tuple(backend.tokenize(f"Q: {text}\nA:")), 0, path_seed(3, text, index)
        )
        for text in ASKED
        for index in range(paths)
    ]
    found = backend.sample(Waiting(requests), sampling)
    return {(one.question, one.index): one for one in found}


def test_llama_cpp_server_is_asked_path_by_path_in_its_own_words(llama: str) -> None:
    with closing(open_servers([llama])) as backend:
        (capabilities,) = backend.capabilities
    assert capabilities.served == "pebble-m"
    assert (capabilities.max_choices, capabilities.dialect, capabilities.seeds) == (
        1,
        Dialect.ZERO,
        True,
    )
    assert not capabilities.token_ids


def test_llama_cpp_server_says_greedily_what_our_own_engine_says(llama: str) -> None:
    with closing(open_servers([llama])) as servers:
        there = drawn(servers, GREEDY)
    with closing(open_llama_cpp(GGUF, threads=1, batch_size=8, context=512)) as own:
        here = drawn(own, GREEDY)
    assert {key: one.text for key, one in there.items()} == {
        key: one.text for key, one in here.items()
    }
    assert {one.end for one in there.values()} <= {EndReason.END, EndReason.STOP}


def test_paths_from_llama_cpp_server_differ_and_come_again_by_their_seeds(llama: str) -> None:
    with closing(open_servers([llama, llama])) as backend:
        first = drawn(backend, SAMPLED, paths=6)
        again = drawn(backend, SAMPLED, paths=6)
    assert len(first) == 6 * len(ASKED)
    assert {key: one.text for key, one in first.items()} == {
        key: one.text for key, one in again.items()
    }
    assert len({one.text for one in first.values()}) > len(ASKED)


def test_transformers_serve_is_made_to_sample_and_to_stop(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with (
        transformers_serve(tmp_path_factory.mktemp("cache")) as address,
        closing(open_servers([address])) as backend,
    ):
        (capabilities,) = backend.capabilities
        assert (capabilities.max_choices, capabilities.dialect) == (1, Dialect.GENERATION_CONFIG)
        greedy = drawn(backend, GREEDY)
        sampled = drawn(backend, SAMPLED, paths=4)
    assert len({one.text for one in sampled.values()}) > len(ASKED)
    assert not any("\nQ:" in one.text for one in sampled.values())
    with closing(open_llama_cpp(GGUF, threads=1, batch_size=8, context=512)) as own:
        here = drawn(own, GREEDY)
    assert {key: one.text for key, one in greedy.items()} == {
        key: one.text for key, one in here.items()
    }

"""Real servers with an embedded model: their features are found and used."""

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
from tests.engine.tiny import ListSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.inference.backend import Backend, Generation

QUESTIONS = [question.text for question in world.generate(Split.EVAL, 4, 77)]
GREEDY = Sampling(temperature=0.0, max_tokens=96, stop=("\nQ:",))
SAMPLED = Sampling(temperature=0.7, max_tokens=96, stop=("\nQ:",))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with llama_cpp_server(tmp_path_factory.mktemp("cache")) as url:
        yield url


def sampled(
    backend: Backend, sampling: Sampling, paths: int = 1
) -> dict[tuple[str, int], Generation]:
    requests = [
        PathRequest(
            text, index, tuple(backend.tokenize(f"Q: {text}\nA:")), 0, path_seed(3, text, index)
        )
        for text in QUESTIONS
        for index in range(paths)
    ]
    results = backend.sample(ListSource(requests), sampling)
    return {(path.question, path.index): path for path in results}


def test_llama_cpp_server_is_probed(llama: str) -> None:
    with closing(open_servers([llama])) as backend:
        (capabilities,) = backend.capabilities
    assert capabilities.served == "pebble-m"
    assert (capabilities.max_choices, capabilities.dialect, capabilities.seeds) == (
        1,
        Dialect.ZERO,
        True,
    )
    assert not capabilities.token_ids


def test_greedy_paths_of_llama_cpp_server_equal_those_of_the_local_engine(llama: str) -> None:
    with closing(open_servers([llama])) as servers:
        there = sampled(servers, GREEDY)
    with closing(open_llama_cpp(GGUF, threads=1, batch_size=8, context=512)) as own:
        here = sampled(own, GREEDY)
    assert {key: path.text for key, path in there.items()} == {
        key: path.text for key, path in here.items()
    }
    assert {path.end for path in there.values()} <= {EndReason.END, EndReason.STOP}


def test_paths_of_llama_cpp_server_differ_and_are_reproducible(llama: str) -> None:
    with closing(open_servers([llama, llama])) as backend:
        first = sampled(backend, SAMPLED, paths=6)
        again = sampled(backend, SAMPLED, paths=6)
    assert len(first) == 6 * len(QUESTIONS)
    assert {key: path.text for key, path in first.items()} == {
        key: path.text for key, path in again.items()
    }
    assert len({path.text for path in first.values()}) > len(QUESTIONS)


def test_transformers_serve_samples_and_stops(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with (
        transformers_serve(tmp_path_factory.mktemp("cache")) as address,
        closing(open_servers([address])) as backend,
    ):
        (capabilities,) = backend.capabilities
        assert (capabilities.max_choices, capabilities.dialect) == (1, Dialect.GENERATION_CONFIG)
        greedy = sampled(backend, GREEDY)
        paths = sampled(backend, SAMPLED, paths=4)
    assert len({path.text for path in paths.values()}) > len(QUESTIONS)
    assert not any("\nQ:" in path.text for path in paths.values())
    with closing(open_llama_cpp(GGUF, threads=1, batch_size=8, context=512)) as own:
        here = sampled(own, GREEDY)
    assert {key: path.text for key, path in greedy.items()} == {
        key: path.text for key, path in here.items()
    }

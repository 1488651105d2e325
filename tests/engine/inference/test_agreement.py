"""Both local engines sample the same model from the same distribution."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from scipy import stats

from engine.conversion.hf_to_gguf import convert_base
from engine.inference.backend import Generation, Sampling
from engine.inference.hf.backend import Transformers, open_transformers
from engine.inference.llama.backend import LlamaCpp, open_llama_cpp
from engine.inference.llama.context_config import ContextConfig
from engine.prompting.messages import ChatMessage
from tests.engine.families import FAMILIES, WINDOW
from tests.engine.inference.hf.tiny_backend import random_prompts
from tests.engine.tiny import ListSource, requests, tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.inference.backend import Backend, PathRequest

STORIES = Path(__file__).parents[4] / "shared" / "data" / "models" / "stories260K"
QUESTIONS = [
    "Q: Ann has 9 apples and buys 3 more. How many apples does Ann have?\nA:",
    "Q: A bus starts with 12 people. 5 get off. How many are left?\nA: Let's",
    "Q: Is the sky green?\nA: naïve 😀\n\n",
]
Pair = tuple[Transformers, LlamaCpp]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A tiny random model in both engines."""
    folder = tiny_model(tmp_path_factory.mktemp("model"), width=64, chat=True)
    convert_base(folder, folder / "model.gguf")
    with (
        closing(open_transformers(folder, threads=1, batch_size=32)) as ours,
        closing(
            open_llama_cpp(folder / "model.gguf", threads=1, batch_size=32, context=256)
        ) as llama_cpp,
    ):
        yield ours, llama_cpp


@pytest.fixture(scope="module")
def stories() -> Iterator[Pair]:
    """A trained model in both engines."""
    if not STORIES.exists():
        pytest.skip("the model stories260K is not there")
    with (
        closing(open_transformers(STORIES / "hf", threads=1, batch_size=64)) as ours,
        closing(
            open_llama_cpp(STORIES / "stories260K-f32.gguf", threads=1, batch_size=32, context=256)
        ) as llama_cpp,
    ):
        yield ours, llama_cpp


def sampled(
    backend: Backend, paths: Sequence[PathRequest], sampling: Sampling
) -> dict[tuple[str, int], Generation]:
    return {
        (path.question, path.index): path for path in backend.sample(ListSource(paths), sampling)
    }


@pytest.mark.parametrize("text", [*QUESTIONS, "", "a<|end|>b </s> <s>", "  two  spaces\t\n"])
def test_both_tokenize_text_equally(pair: Pair, text: str) -> None:
    ours, llama_cpp = pair
    assert ours.tokenize(text) == llama_cpp.tokenize(text)


def test_both_tokenize_a_chat_equally(pair: Pair) -> None:
    ours, llama_cpp = pair
    for last in (ChatMessage("user", "a<|end|>\n<|turn|>b"), ChatMessage("assistant", "It is")):
        chat = [ChatMessage("system", "Think."), ChatMessage("user", "1 + 1?"), last]
        assert ours.tokenize_chat(chat) == llama_cpp.tokenize_chat(chat)


def test_greedy_paths_are_equal(pair: Pair) -> None:
    ours, llama_cpp = pair
    prompts = [ours.tokenize(question) for question in QUESTIONS]
    path_requests = requests(prompts, paths=2, shared=1)
    greedy = Sampling(temperature=0, max_tokens=30, stop=("qq",))
    results = sampled(ours, path_requests, greedy)
    assert results == sampled(llama_cpp, path_requests, greedy)
    assert len(results) == 6


@pytest.mark.parametrize("family", ["gemma 2", "gemma 3"])
def test_both_respect_windows_that_are_shorter_than_shared_prompts(
    family: str, tmp_path: Path
) -> None:
    """Prompts and paths begin with copies, in both layouts of llama.cpp."""
    shape = FAMILIES[family] | {"query_pre_attn_scalar": 16}  # llama.cpp knows no other
    folder = tiny_model(tmp_path, **shape)
    convert_base(folder, folder / "model.gguf")
    path_requests = requests(random_prompts(5), paths=3, shared=30)
    greedy = Sampling(temperature=0, max_tokens=3 * WINDOW)
    with closing(open_transformers(folder, threads=1, batch_size=8)) as ours:
        assert ours.shares_prefix
        expected = sampled(ours, path_requests, greedy)
    assert len({path.token_ids for path in expected.values()}) == 5
    for unified in (False, True):
        config = ContextConfig(8, unified, flash_attention=False, threads=1)
        with closing(
            open_llama_cpp(folder / "model.gguf", threads=1, context=256, config=config)
        ) as llama_cpp:
            assert llama_cpp.details["layout"] == ("unified" if unified else "streams")
            assert sampled(llama_cpp, path_requests, greedy) == expected


def test_long_greedy_paths_of_a_trained_model_are_equal(stories: Pair) -> None:
    ours, llama_cpp = stories
    prompt = ours.tokenize("Once upon a time, there was a girl who")
    greedy = Sampling(temperature=0, max_tokens=60)
    path_requests = requests([prompt])
    assert sampled(ours, path_requests, greedy) == sampled(llama_cpp, path_requests, greedy)


def test_equal_seeds_give_almost_equal_paths(stories: Pair) -> None:
    """The random numbers are equal and the logits nearly: paths differ only through rounding."""
    ours, llama_cpp = stories
    path_requests = requests([ours.tokenize("Lily and Tom went to the")], paths=200)
    sampling = Sampling(temperature=1.0, max_tokens=8)
    results, other = (
        sampled(ours, path_requests, sampling),
        sampled(llama_cpp, path_requests, sampling),
    )
    assert np.mean([results[path] == other[path] for path in results]) >= 0.9


def test_both_sample_from_the_same_distribution(stories: Pair) -> None:
    """Chi-square of the last words of 2,000 independent paths each, at p = 0.001."""
    ours, llama_cpp = stories
    prompt = ours.tokenize("The color of the ball was")
    sampling = Sampling(temperature=1.0, max_tokens=12, stop=(".", "\n", "!", ","))
    answer_counts = [
        Counter(
            (path.text.split() or [""])[-1]
            for path in sampled(
                backend, requests([prompt], paths=2000, run_seed=seed), sampling
            ).values()
        )
        for backend, seed in ((ours, 1), (llama_cpp, 2))
    ]
    words = [word for word, count in (answer_counts[0] + answer_counts[1]).items() if count >= 20]
    table = np.array(
        [
            [
                *[counts[word] for word in words],
                sum(counts.values()) - sum(counts[word] for word in words),
            ]
            for counts in answer_counts
        ]
    )
    assert len(words) >= 8
    assert table.sum() == 4000
    assert stats.chi2_contingency(table).pvalue > 1e-3

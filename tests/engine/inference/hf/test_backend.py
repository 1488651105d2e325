"""Sampling from Hugging Face folders gives what the model gives for one path at a time."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import stats

from engine.inference.backend import Generation, PathRequest, Sampling
from engine.inference.path_confidence import path_confidence
from store.enums import EndReason
from store.errors import BadInput
from tests.engine.families import FAMILIES
from tests.engine.inference.hf.tiny_backend import SHAPES, hf_tokenizer, opened, random_prompts
from tests.engine.tiny import ListSource, StoppingSource, StopRequested, requests, tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.inference.hf.backend import Transformers

STORIES = Path(__file__).parents[5] / "shared" / "data" / "models" / "stories260K" / "hf"
GREEDY = Sampling(temperature=0, max_tokens=20)
PLAIN: dict[str, dict[str, Any]] = {
    "lfm2, with a convolution layer": {
        "family": "lfm2",
        "layer_types": ["conv", "full_attention"],
    },
    "bloom, which has no positions": {"family": "bloom"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=[1, 2], ids=["one running batch", "two running batches"])
def backend(folder: Path, request: pytest.FixtureRequest) -> Iterator[Transformers]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.inference.hf.backend.MIN_PATHS", 4)
        yield opened(folder, batch_size=8, threads=request.param)


def generated(folder: Path, prompt: Sequence[int], max_tokens: int = 20) -> list[int]:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = torch.tensor([prompt])
    out = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=max_tokens
    )
    return out[0, len(prompt) :].tolist()


def sampled(
    backend: Transformers, paths: Sequence[PathRequest], sampling: Sampling
) -> dict[tuple[str, int], Generation]:
    results = list(backend.sample(ListSource(paths), sampling))
    by_path = {(path.question, path.index): path for path in results}
    assert len(by_path) == len(results) == len(paths)
    return by_path


@pytest.mark.parametrize("shape", SHAPES)
def test_greedy_paths_equal_those_of_generate(shape: str, tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, **SHAPES[shape])
    backend = opened(folder, batch_size=4)
    assert backend.shares_prefix
    prompts = random_prompts(6)
    results = sampled(backend, requests(prompts, paths=2, shared=30), GREEDY)
    for i, prompt in enumerate(prompts):
        expected = generated(folder, prompt)
        assert [list(results[f"q{i}", j].token_ids) for j in range(2)] == [expected, expected]


@pytest.mark.parametrize("shape", PLAIN)
def test_a_model_that_cannot_share_prefixes_is_sampled_with_a_warning(
    shape: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny_model(tmp_path, **PLAIN[shape])
    with caplog.at_level(logging.WARNING):
        backend = opened(folder, batch_size=5)
    assert not backend.shares_prefix
    assert backend.details["reason"] is not None
    assert str(backend.details["reason"]) in caplog.text
    assert "cannot share" in caplog.text
    prompts = random_prompts(4)
    results = sampled(backend, requests(prompts, paths=3, shared=30), GREEDY)
    for i, prompt in enumerate(prompts):
        assert list(results[f"q{i}", 2].token_ids) == generated(folder, prompt)


@pytest.mark.parametrize("prefix", [100, 110, 140])
def test_paths_that_outgrow_the_short_rope_factors_equal_those_of_generate(
    prefix: int, tmp_path: Path
) -> None:
    """The limit is 128 tokens: some paths stay below, some cross it, some begin above it."""
    folder = tiny_model(tmp_path, **FAMILIES["phi 3, long context"])
    backend = opened(folder, batch_size=4)
    assert backend.shares_prefix
    prompts = random_prompts(5, prefix)
    results = sampled(backend, requests(prompts, paths=2, shared=prefix), GREEDY)
    for i, prompt in enumerate(prompts):
        expected = generated(folder, prompt)
        assert [list(results[f"q{i}", j].token_ids) for j in range(2)] == [expected, expected]


def test_the_details_are_json(folder: Path) -> None:
    backend = opened(folder, batch_size=3)
    sampled(backend, requests(random_prompts(2), shared=30), GREEDY)
    assert json.loads(json.dumps(backend.details)) == {
        "width": 3,
        "dtype": "float32",
        "products": "float",
        "shares_prefix": True,
        "reason": None,
        "threads": 1,
        "streams": 1,
    }


def test_the_details_state_the_width_that_the_memory_for_paths_allows(folder: Path) -> None:
    from engine.inference.hf.backend import MIN_WIDTH

    short, long = opened(folder, longest_path=1), opened(folder, longest_path=10**6)
    assert short.details["width"] == short.batch_size > MIN_WIDTH
    assert long.details["width"] == MIN_WIDTH
    assert opened(folder, longest_path=10**6, batch_size=100).details["width"] == 100


def test_a_large_batch_is_split_into_two_that_sample_equal_paths(folder: Path) -> None:
    import torch

    path_requests = requests(random_prompts(12), paths=20, shared=30)
    sampling = Sampling(temperature=0.8, max_tokens=15, stop=("a", "e"))
    single, double = opened(folder, batch_size=256), opened(folder, batch_size=256, threads=2)
    expected, results = (
        sampled(single, path_requests, sampling),
        sampled(double, path_requests, sampling),
    )
    assert (single.details["streams"], double.details["streams"]) == (1, 2)
    assert sum(expected[path] == results[path] for path in expected) >= 0.95 * len(path_requests)
    assert torch.get_num_threads() == 2


def test_running_batches_are_served_in_a_reproducible_order(backend: Transformers) -> None:
    sampling = Sampling(temperature=1.0, max_tokens=12, stop=("a", "e"))
    path_requests = requests(random_prompts(7), paths=6, shared=30)
    first, again = (list(backend.sample(ListSource(path_requests), sampling)) for _ in range(2))
    assert first == again
    assert backend.details["streams"] == backend.details["threads"]


def questions_by_batch(folder: Path, *, min_paths: int) -> list[set[str]]:
    """The questions whose paths start in each of two running batches, of four with five paths."""
    from engine.inference.hf.running_batch import RunningBatch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("engine.inference.hf.backend.MIN_PATHS", min_paths)
        started: list[tuple[int, str]] = []
        start = RunningBatch.start

        def recorded(batch: RunningBatch, request: PathRequest) -> None:
            started.append((id(batch), request.question))
            start(batch, request)

        patch.setattr(RunningBatch, "start", recorded)
        backend = opened(folder, batch_size=42, threads=2)
        sampled(backend, requests(random_prompts(4), paths=5), GREEDY)
        assert backend.details["streams"] == 2
    questions_of: dict[int, set[str]] = {}
    for batch, question in started:
        questions_of.setdefault(batch, set()).add(question)
    return list(questions_of.values())


def test_paths_are_divided_among_running_batches_by_question(folder: Path) -> None:
    assert sorted(map(len, questions_by_batch(folder, min_paths=4))) == [2, 2]


def test_few_paths_are_in_one_running_batch(folder: Path) -> None:
    assert list(map(len, questions_by_batch(folder, min_paths=21))) == [4]


def test_sampling_can_be_stopped_before_any_path_has_ended(backend: Transformers) -> None:
    source = StoppingSource(requests(random_prompts(2), paths=4, shared=30))
    with pytest.raises(StopRequested):
        next(backend.sample(source, Sampling(temperature=1.0, max_tokens=150)))


def test_sampling_with_and_without_shared_prefixes_gives_equal_paths(folder: Path) -> None:
    backend = opened(folder, batch_size=6)
    sampling = Sampling(temperature=0.8, max_tokens=15)
    path_requests = requests(random_prompts(5), paths=4, shared=30)
    shared = sampled(backend, path_requests, sampling)
    assert backend._model.config._attn_implementation == "shared-prefix"
    backend.shares_prefix = False
    backend._model.set_attn_implementation("sdpa")
    assert sampled(backend, path_requests, sampling) == shared


@pytest.mark.skipif(not STORIES.exists(), reason="the model stories260K is not there")
def test_a_long_path_of_a_trained_model_equals_that_of_generate() -> None:
    backend = opened(STORIES)
    prompt = backend.tokenize("Once upon a time, there was a")
    (path,) = sampled(backend, requests([prompt]), Sampling(temperature=0, max_tokens=100)).values()
    assert list(path.token_ids) == generated(STORIES, prompt, 100)
    assert path.text.startswith(" little")


@pytest.mark.parametrize("batch", [1, 3, 8, 64])
def test_greedy_paths_do_not_depend_on_the_batch_size(
    folder: Path, backend: Transformers, batch: int
) -> None:
    path_requests = requests(random_prompts(7), paths=3, shared=30)
    ended_early = Sampling(temperature=0, max_tokens=20, stop=("a", "1"))
    expected = sampled(backend, path_requests, ended_early)
    assert len({len(path.token_ids) for path in expected.values()}) > 2
    assert sampled(opened(folder, batch_size=batch), path_requests, ended_early) == expected


def test_sampled_paths_depend_on_the_batch_size_only_through_rounding(folder: Path) -> None:
    path_requests = requests(random_prompts(7), paths=6, shared=30)
    sampling = Sampling(temperature=1.0, max_tokens=12)
    narrow, wide = (sampled(opened(folder, batch_size=b), path_requests, sampling) for b in (2, 32))
    same = sum(narrow[path] == wide[path] for path in narrow)
    assert same >= 0.95 * len(path_requests)


def test_equal_seed_and_batch_size_give_equal_paths(backend: Transformers) -> None:
    sampling = Sampling(temperature=1.0, max_tokens=12)
    path_requests = requests(random_prompts(7), paths=6, shared=30)
    assert sampled(backend, path_requests, sampling) == sampled(backend, path_requests, sampling)
    others = requests(random_prompts(7), paths=6, shared=30, run_seed=2)
    assert sampled(backend, others, sampling) != sampled(backend, path_requests, sampling)


def test_tokens_are_sampled_with_the_probabilities_of_the_softmax(folder: Path) -> None:
    """Chi-square over 4,000 paths of two tokens, at p = 0.001 for each position."""
    import torch

    backend = opened(folder, batch_size=256)
    (prompt,) = random_prompts(1)
    sampling = Sampling(temperature=0.4, max_tokens=2)
    results = sampled(backend, requests([prompt], paths=4000, shared=10), sampling)
    token_pairs = [path.token_ids for path in results.values() if len(path.token_ids) == 2]

    def probabilities(*tokens: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        model = backend._model
        model.set_attn_implementation("sdpa")
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, -1].double()
        return (logits / sampling.temperature).softmax(-1).detach().numpy()

    assert _fits([first for first, _ in token_pairs], probabilities())
    common = np.bincount([first for first, _ in token_pairs]).argmax()
    assert _fits(
        [second for first, second in token_pairs if first == common], probabilities(int(common))
    )


def _fits(tokens: Sequence[int], probabilities: np.ndarray[Any, np.dtype[np.float64]]) -> bool:
    counts = np.bincount(tokens, minlength=len(probabilities))
    often = probabilities * len(tokens) >= 5
    observed = np.append(counts[often], counts[~often].sum())
    expected = np.append(probabilities[often], probabilities[~often].sum()) * len(tokens)
    assert len(observed) > 5
    return bool(stats.chisquare(observed, expected * observed.sum() / expected.sum()).pvalue > 1e-3)


def test_a_path_ends_at_the_token_limit(backend: Transformers) -> None:
    results = sampled(backend, requests(random_prompts(3)), Sampling(temperature=0, max_tokens=1))
    assert {(len(path.token_ids), path.end) for path in results.values()} == {(1, EndReason.LENGTH)}


def test_a_path_is_cut_before_its_stop_string(backend: Transformers) -> None:
    path_requests = requests(random_prompts(1))
    (whole,) = sampled(backend, path_requests, GREEDY).values()
    stop = whole.text[5:9]
    sampling = Sampling(temperature=0, max_tokens=20, stop=("never", stop))
    (path,) = sampled(backend, path_requests, sampling).values()
    assert path.end is EndReason.STOP
    assert path.text == whole.text[: whole.text.index(stop)]
    assert path.token_ids == whole.token_ids[: len(path.token_ids)]
    assert len(path.token_ids) < len(whole.token_ids)


def test_every_end_token_declared_in_the_folder_ends_a_path(tmp_path: Path) -> None:
    backend = opened(tiny_model(tmp_path, ends=tuple(range(100, 400))))
    results = sampled(backend, requests(random_prompts(6)), GREEDY)
    ended = [path for path in results.values() if path.end is EndReason.END]
    assert ended
    for path in ended:
        assert path.token_ids[-1] in {0, *range(100, 400)}
        assert not {0, *range(100, 400)} & set(path.token_ids[:-1])
        assert path.text == hf_tokenizer(backend).decode(
            path.token_ids[:-1], skip_special_tokens=True
        )


def test_paths_of_a_settled_question_are_dropped(backend: Transformers) -> None:
    source = ListSource(requests(random_prompts(3), paths=5, shared=30))
    seen = []
    for path in backend.sample(source, Sampling(temperature=1.0, max_tokens=30, stop=("a", "e"))):
        seen.append((path.question, path.index))
        source.settled.add("q0")
    assert {index for question, index in seen if question != "q0"} == set(range(5))
    assert len(seen) < 15


def test_a_source_may_give_more_paths_later(backend: Transformers) -> None:
    class Waves(ListSource):
        """Gives the next path only when an earlier one has finished."""

        ready = 2

        def next_path(self) -> PathRequest | None:
            if not self.ready:
                return None
            self.ready -= 1
            return super().next_path()

    source = Waves(requests(random_prompts(2), paths=6, shared=30))
    seen = []
    for path in backend.sample(source, Sampling(temperature=1.0, max_tokens=5)):
        seen.append((path.question, path.index))
        source.ready += 1
    assert len(seen) == 12


def test_more_questions_than_lanes_can_ask_for_more_paths(folder: Path) -> None:
    backend = opened(folder, batch_size=2)
    path_requests = requests(random_prompts(5), paths=3, shared=30)
    turns = sorted(path_requests, key=lambda path: path.index)
    sampling = Sampling(temperature=0.9, max_tokens=6)
    assert sampled(backend, turns, sampling) == sampled(backend, path_requests, sampling)


def test_prompts_without_a_shared_prefix_are_sampled(folder: Path, backend: Transformers) -> None:
    prompts = [*random_prompts(4, prefix=0), (7,)]
    mixed = [*requests(prompts[:1], shared=len(prompts[0])), *requests(prompts)[1:]]
    results = sampled(backend, mixed, GREEDY)
    for i, prompt in enumerate(prompts):
        assert list(results[f"q{i}", 0].token_ids) == generated(folder, prompt)


def test_tasks_with_different_prefixes_can_follow_each_other(
    folder: Path, backend: Transformers
) -> None:
    for seed in range(2):
        prompts = random_prompts(2, prefix=20, seed=seed)
        results = sampled(backend, requests(prompts, shared=20), GREEDY)
        assert list(results["q1", 0].token_ids) == generated(folder, prompts[1])


def test_sampling_again_after_an_abandoned_sampling(backend: Transformers) -> None:
    path_requests = requests(random_prompts(4), paths=2, shared=30)
    whole = sampled(backend, path_requests, GREEDY)
    next(backend.sample(ListSource(path_requests), GREEDY))
    assert list(backend.sample(ListSource([]), GREEDY)) == []
    assert sampled(backend, path_requests, GREEDY) == whole


def test_a_prompt_too_long_for_the_context_is_refused_with_the_numbers(
    backend: Transformers,
) -> None:
    paths = requests([tuple(range(2, 242))])
    with pytest.raises(BadInput, match=r"q0 has 240 tokens.*20, but .* 256"):
        list(backend.sample(ListSource(paths), GREEDY))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_an_adapter_gives_the_paths_of_peft(folder: Path, tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder)
    torch.manual_seed(3)
    tuned = get_peft_model(
        base, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    )
    tuned.save_pretrained(tmp_path / "adapter")
    backend = opened(folder, adapter=tmp_path / "adapter")
    (prompt,) = random_prompts(1)
    (path,) = sampled(backend, requests([prompt]), GREEDY).values()
    again = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(folder), tmp_path / "adapter"
    )
    ids = torch.tensor([prompt])
    out = again.eval().generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=20
    )
    assert list(path.token_ids) == out[0, len(prompt) :].tolist() != generated(folder, prompt)


def test_a_model_without_a_kv_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="mamba models cannot be sampled with transformers"):
        opened(tiny_model(tmp_path, family="mamba"))


@pytest.mark.parametrize("sampling", [Sampling(0.7, 40), Sampling(1.0, 40), Sampling(1.3, 40, 0.8)])
def test_the_confidence_of_a_path_is_that_of_a_full_log_softmax(
    backend: Transformers, folder: Path, sampling: Sampling
) -> None:
    prompts = random_prompts(5)
    results = sampled(backend, requests(prompts, paths=4, shared=30), sampling)
    check_confidence(folder, prompts, results)


def test_so_it_is_without_shared_prefixes(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path, **PLAIN["bloom, which has no positions"])
    backend, prompts = opened(folder, batch_size=5), random_prompts(3)
    results = sampled(backend, requests(prompts, paths=3, shared=30), Sampling(0.7, 30))
    check_confidence(folder, prompts, results)


def check_confidence(
    folder: Path,
    prompts: Sequence[Sequence[int]],
    results: dict[tuple[str, int], Generation],
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    for (question, _), path in results.items():
        prompt = prompts[int(question[1:])]
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *path.token_ids]])).logits[0]
        logprobs = torch.log_softmax(logits[len(prompt) - 1 : -1].double(), dim=1)
        each = logprobs.gather(1, torch.tensor(path.token_ids)[:, None])[:, 0]
        expected = path_confidence(each.numpy(), torch.special.entr(logprobs.exp()).sum(1).numpy())
        assert expected is not None
        assert path.confidence is not None
        assert dataclasses.astuple(path.confidence) == pytest.approx(
            dataclasses.astuple(expected), abs=1e-4
        )

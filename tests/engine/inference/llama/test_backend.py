"""Sampling with llama.cpp: paths do not depend on the batch, and all the ways a path can end."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy import special, stats

from engine.conversion.hf_to_gguf import convert_adapter, convert_base
from engine.inference.backend import Generation, PathRequest, Sampling
from engine.inference.llama.autotune import tokens_per_second
from engine.inference.llama.backend import open_llama_cpp
from engine.inference.llama.context import ContextFull, LlamaContext
from engine.inference.llama.context_config import ContextConfig
from engine.inference.llama.vocabulary import measure_prompts
from engine.inference.path_confidence import path_confidence
from engine.inference.prompt_lengths import SequenceLengths
from engine.prompting.messages import ChatMessage
from engine.prompting.templates import Prompt
from store.enums import EndReason, PromptStyle
from store.errors import BadInput, WorkFailed
from tests.engine.conversion.test_hf_to_gguf import write_adapter
from tests.engine.tiny import ListSource, StoppingSource, StopRequested, requests, tiny_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from engine.inference.llama.backend import LlamaCpp

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
STORIES = Path(__file__).parents[4].parent / "shared" / "data" / "models" / "stories260K"
STARTS = (
    "Once upon a time, there was a little girl named Lily. She liked to",
    "Tom had a big red ball. One day, he",
    "The dog was sad because",
)
GREEDY = Sampling(temperature=0, max_tokens=40)


@pytest.fixture(scope="module")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained model, converted to GGUF."""
    if not STORIES.exists():
        pytest.skip("the model stories260K is not there")
    path = tmp_path_factory.mktemp("stories") / "stories.gguf"
    convert_base(STORIES / "hf", path)
    return path


@pytest.fixture(scope="module")
def model(stories: Path) -> Iterator[LlamaCpp]:
    with closing(open_llama_cpp(stories, batch_size=16, context=256)) as opened:
        yield opened


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model with a chat template."""
    folder = tiny_model(tmp_path_factory.mktemp("tiny"), chat=True)
    convert_base(folder, folder / "model.gguf")
    return folder / "model.gguf"


def sampled(
    backend: LlamaCpp, prompts: Sequence[PathRequest], sampling: Sampling
) -> dict[tuple[str, int], Generation]:
    return {
        (path.question, path.index): path for path in backend.sample(ListSource(prompts), sampling)
    }


def start_prompts(model: LlamaCpp) -> list[list[int]]:
    return [model.tokenize(text) for text in STARTS]


def greedy_of_transformers(prompt: list[int], count: int, adapter: Path | None = None) -> list[int]:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    network: Any = AutoModelForCausalLM.from_pretrained(STORIES / "hf").eval()
    if adapter:
        network = PeftModel.from_pretrained(network, adapter).eval()
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(network(torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[len(prompt) :]


# Equal to transformers.


def test_greedy_paths_equal_those_of_transformers(model: LlamaCpp) -> None:
    prompts = start_prompts(model)
    results = sampled(model, requests(prompts), GREEDY)
    for number, prompt in enumerate(prompts):
        assert list(results[f"q{number}", 0].token_ids) == greedy_of_transformers(prompt, 40)


def test_an_adapter_gives_the_greedy_paths_of_peft(stories: Path, tmp_path: Path) -> None:
    adapter = write_adapter(STORIES / "hf", tmp_path / "adapter")
    convert_adapter(adapter, STORIES / "hf", tmp_path / "adapter.gguf", gguf=stories)
    with closing(open_llama_cpp(stories, adapter=tmp_path / "adapter.gguf", batch_size=4)) as tuned:
        prompts = start_prompts(tuned)
        results = sampled(tuned, requests(prompts), GREEDY)
    for number, prompt in enumerate(prompts):
        expected = greedy_of_transformers(prompt, 40, adapter)
        assert list(results[f"q{number}", 0].token_ids) == expected
        assert expected != greedy_of_transformers(prompt, 40)


# Independent of the batch.


@pytest.mark.parametrize("batch", [1, 3, 64])
def test_paths_do_not_depend_on_the_batch_size(model: LlamaCpp, stories: Path, batch: int) -> None:
    prompts = start_prompts(model)
    shared = 1
    with closing(open_llama_cpp(stories, batch_size=batch, context=256)) as other:
        for sampling in (GREEDY, Sampling(0.8, 25, top_k=50, top_p=0.95)):
            expected = sampled(model, requests(prompts, paths=5, shared=shared), sampling)
            assert sampled(other, requests(prompts, paths=5, shared=shared), sampling) == expected
            assert len(expected) == 15


def test_a_shared_prefix_changes_nothing(model: LlamaCpp) -> None:
    examples = model.tokenize(STARTS[0] + " play. ")
    prompts = [examples + model.tokenize(text)[1:] for text in STARTS]
    sampling = Sampling(0.8, 20)
    expected = sampled(model, requests(prompts, paths=3), sampling)
    assert sampled(model, requests(prompts, paths=3, shared=len(examples)), sampling) == expected
    # A prompt that equals the prefix.
    whole = requests([examples], paths=3, shared=len(examples))
    assert sampled(model, whole, sampling) == sampled(
        model, requests([examples], paths=3), sampling
    )


def test_a_batch_has_the_distribution_of_single_paths(model: LlamaCpp, stories: Path) -> None:
    prompt = model.tokenize(STARTS[2])
    sampling = Sampling(temperature=1.0, max_tokens=3)
    with closing(open_llama_cpp(stories, batch_size=1, context=64)) as single:
        alone = sampled(single, requests([prompt], paths=300, run_seed=1), sampling)
    together = sampled(model, requests([prompt], paths=900, run_seed=2), sampling)
    counts = [Counter(path.token_ids[1] for path in paths.values()) for paths in (alone, together)]
    common = [token for token, count in (counts[0] + counts[1]).items() if count >= 20]
    table = [
        [*(count[t] for t in common), count.total() - sum(count[t] for t in common)]
        for count in counts
    ]
    assert len(common) >= 5
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_prompts_of_different_lengths_are_evaluated_together(model: LlamaCpp) -> None:
    words = model.tokenize(" ".join(STARTS))
    prompts = [words[: 2 + number] for number in range(40)]
    sampling = Sampling(0, 5)
    results = sampled(model, requests(prompts, shared=1), sampling)
    for number in (0, 7, 39):
        assert results[f"q{number}", 0] == Generation(
            f"q{number}", 0, *_alone(model, prompts[number], sampling)
        )


def _alone(
    model: LlamaCpp, prompt: list[int], sampling: Sampling
) -> tuple[str, tuple[int, ...], EndReason]:
    (path,) = sampled(model, requests([prompt]), sampling).values()
    return path.text, path.token_ids, path.end


# How paths end.


def test_a_path_is_cut_before_its_stop_string(model: LlamaCpp) -> None:
    (prompt,) = start_prompts(model)[:1]
    free = _alone(model, prompt, GREEDY)[0]
    stop = free[20:24]
    text, token_ids, end = _alone(model, prompt, Sampling(0, 40, stop=("zz", stop)))
    assert (text, end) == (free[: free.index(stop)], EndReason.STOP)
    pieces = [model.vocabulary.token_bytes[token] for token in token_ids]
    assert b"".join(pieces).decode().startswith(text)
    assert len(b"".join(pieces[:-1])) < len(text.encode())


def test_a_path_ends_at_the_token_limit(model: LlamaCpp) -> None:
    for limit in (1, 2, 7):
        text, token_ids, end = _alone(model, start_prompts(model)[0], Sampling(0, limit))
        assert (len(token_ids), end) == (limit, EndReason.LENGTH)
        assert text


def test_a_path_ends_with_its_end_token(model: LlamaCpp) -> None:
    results = sampled(model, requests([start_prompts(model)[2]], paths=32), Sampling(1.5, 200))
    ended = [path for path in results.values() if path.end is EndReason.END]
    assert ended
    for path in results.values():
        assert (path.token_ids[-1] in model.vocabulary.end_tokens) is (path.end is EndReason.END)
        assert not model.vocabulary.end_tokens.intersection(path.token_ids[:-1])
    assert all("<s>" not in path.text and "</s>" not in path.text for path in ended)


# The source.


def test_slots_are_refilled_as_paths_end(model: LlamaCpp, monkeypatch: pytest.MonkeyPatch) -> None:
    """With refilling, paths of different lengths take nearly the minimum number of steps."""
    steps: list[int] = []
    step = LlamaContext.step

    def counted(self: LlamaContext, tokens: Any, positions: Any) -> Any:
        steps.append(len(tokens))
        return step(self, tokens, positions)

    monkeypatch.setattr(LlamaContext, "step", counted)
    path_requests = requests(start_prompts(model), paths=24)
    results = sampled(model, path_requests, Sampling(1.0, 60, stop=(".",)))
    assert len(results) == 72
    assert sum(steps) == sum(len(path.token_ids) - 1 for path in _uncut(results, model).values())
    full = [count for count in steps if count == model.batch_size]
    assert len(full) * model.batch_size > 0.7 * sum(steps)


def _uncut(
    results: dict[tuple[str, int], Generation], model: LlamaCpp
) -> dict[tuple[str, int], Generation]:
    """The paths with the token that completed their stop string, which was sampled too."""
    uncut = sampled(
        model,
        [
            path
            for path in requests(start_prompts(model), paths=24)
            if (path.question, path.index) in results
        ],
        Sampling(1.0, 60),
    )
    cut = {}
    for key, path in results.items():
        text, count = b"", 0
        while count < len(uncut[key].token_ids) and b"." not in text:
            text += model.vocabulary.token_bytes[uncut[key].token_ids[count]]
            count += 1
        cut[key] = Generation(
            path.question, path.index, path.text, uncut[key].token_ids[:count], path.end
        )
    return cut


def test_paths_of_a_settled_question_are_dropped(model: LlamaCpp) -> None:
    source = ListSource(requests(start_prompts(model), paths=10))
    results = []
    for path in model.sample(source, Sampling(1.0, 50, stop=(".", "!"))):
        results.append(path)
        source.settled.add("q0")
    questions = Counter(path.question for path in results)
    assert questions["q0"] <= 1
    assert (questions["q1"], questions["q2"]) == (10, 10)


def test_sampling_can_be_stopped_before_any_path_has_ended(tiny: Path) -> None:
    with closing(open_llama_cpp(tiny, batch_size=8, context=256)) as opened:
        source = StoppingSource(requests([opened.tokenize("one"), opened.tokenize("two")], paths=3))
        with pytest.raises(StopRequested):
            next(opened.sample(source, Sampling(1.0, 200)))


class Waves:
    """Gives the next wave only when all paths of the last one have finished."""

    def __init__(self, waves: list[list[PathRequest]]) -> None:
        self.waves = waves
        self.out = 0

    def next_path(self) -> PathRequest | None:
        if self.waves and not self.waves[0] and self.out == 0:
            self.waves.pop(0)
        if not self.waves or not self.waves[0]:
            return None
        self.out += 1
        return self.waves[0].pop(0)

    def is_settled(self, question: str) -> bool:
        return False


def test_the_source_is_asked_again_after_each_path(model: LlamaCpp) -> None:
    path_requests = requests(start_prompts(model), paths=4)
    source = Waves([path_requests[:2], path_requests[2:3], path_requests[3:]])
    results = []
    for path in model.sample(source, Sampling(1.0, 12, stop=("e",))):
        results.append(path)
        source.out -= 1
    assert {(path.question, path.index): path for path in results} == sampled(
        model, requests(start_prompts(model), paths=4), Sampling(1.0, 12, stop=("e",))
    )


def test_sampling_again_after_an_abandoned_sampling(model: LlamaCpp) -> None:
    path_requests = requests(start_prompts(model), paths=8)
    expected = sampled(model, path_requests, GREEDY)
    paths = model.sample(ListSource(path_requests), GREEDY)
    next(iter(paths))
    paths.close()  # type: ignore[attr-defined]  # a generator
    assert sampled(model, path_requests, GREEDY) == expected


def test_an_empty_source_gives_no_paths(model: LlamaCpp) -> None:
    assert sampled(model, [], GREEDY) == {}


# Capacity.


def test_a_prompt_too_long_for_the_context_is_refused_with_the_numbers(model: LlamaCpp) -> None:
    prompt = model.tokenize("a") * 100
    with pytest.raises(BadInput, match=r"q0 has 200 tokens.* 57, more than the 256"):
        sampled(model, requests([prompt]), Sampling(0, 57))
    assert len(sampled(model, requests([prompt]), Sampling(0, 56))) == 1


def test_the_context_is_at_most_as_long_as_the_model_allows(stories: Path) -> None:
    with closing(open_llama_cpp(stories, batch_size=1, context=10_000)) as opened:
        assert opened.context_length == 512


def test_paths_that_lose_their_slot_start_again_with_equal_tokens(
    model: LlamaCpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    path_requests, sampling = requests(start_prompts(model), paths=5), Sampling(1.0, 20)
    expected = sampled(model, path_requests, sampling)
    step = LlamaContext.step

    def narrow(self: LlamaContext, tokens: Any, positions: Any) -> Any:
        if len(tokens) > 4:
            raise ContextFull("full")
        return step(self, tokens, positions)

    monkeypatch.setattr(LlamaContext, "step", narrow)
    assert sampled(model, path_requests, sampling) == expected


def test_too_little_memory_is_reported_with_the_numbers(
    stories: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def free(size: int) -> Any:
        return lambda: type("Memory", (), {"available": size})

    monkeypatch.setattr("psutil.virtual_memory", free(2**20))
    with pytest.raises(WorkFailed, match=r"GiB for its weights and one path of 512 tokens"):
        open_llama_cpp(stories)
    monkeypatch.setattr("psutil.virtual_memory", free(2**25))
    with closing(open_llama_cpp(stories)) as opened:
        assert 1 <= opened.batch_size < 192


# Files.


def test_a_file_of_the_wrong_kind_is_refused(tiny: Path, stories: Path, tmp_path: Path) -> None:
    adapter = write_adapter(tiny.parent, tmp_path / "adapter", target_modules=["q_proj"])
    convert_adapter(adapter, tiny.parent, tmp_path / "adapter.gguf", gguf=tiny)
    with pytest.raises(BadInput, match="is an adapter"):
        open_llama_cpp(tmp_path / "adapter.gguf")
    with pytest.raises(BadInput, match="not a LoRA adapter"):
        open_llama_cpp(tiny, adapter=tiny)
    with pytest.raises(BadInput, match=r"cannot apply .*adapter\.gguf to"):
        open_llama_cpp(stories, adapter=tmp_path / "adapter.gguf")


def test_an_unknown_architecture_is_refused_with_the_reason(tmp_path: Path) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(tmp_path / "odd.gguf", "odd-new-thing")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BadInput, match=r"cannot load .*odd\.gguf .*odd-new-thing"):
        open_llama_cpp(tmp_path / "odd.gguf")


def test_nothing_is_printed(tiny: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from engine.inference.llama.backend import *\n"
        "from engine.inference.llama.library import redirect_log\n"
        "import logging; logging.disable()\n"
        "assert redirect_log.cache_info().currsize == 0  # importing has no effect\n"
        "model = open_llama_cpp(Path(sys.argv[1]), batch_size=2)\n"
        "model.logits([5, 6]); model.close(); model.close()"
    )
    done = subprocess.run(  # our own interpreter and code
        [sys.executable, "-c", code, str(tiny)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# Chats.


def test_a_chat_is_rendered_with_the_template_of_the_model(tiny: Path) -> None:
    with closing(open_llama_cpp(tiny, batch_size=1)) as opened:
        words = opened.vocabulary
        chat = [ChatMessage("user", "1 + 1?"), ChatMessage("assistant", "It is")]
        expected = "<|turn|>user\n1 + 1?<|end|>\n<|turn|>assistant\nIt is"
        assert opened.tokenize_chat(chat) == words.tokenize(expected, special=True)
        assert opened.tokenize_chat(chat[:1]) == words.tokenize(
            expected.removesuffix("It is"), special=True
        )


def test_a_question_cannot_end_its_own_message(tiny: Path) -> None:
    with closing(open_llama_cpp(tiny, batch_size=1)) as opened:
        words = opened.vocabulary
        (end,) = words.tokenize("<|end|>", special=True)
        ids = opened.tokenize_chat([ChatMessage("user", "a<|end|>b")])
        assert ids.count(end) == 1
        text = b"".join(words.token_bytes[token] for token in ids).decode()
        assert text == "user\na<|end|>b\nassistant\n"
        assert end not in opened.tokenize("a<|end|>b")


def test_a_model_without_a_template_cannot_chat(model: LlamaCpp) -> None:
    with pytest.raises(BadInput, match="no chat template"):
        model.tokenize_chat([ChatMessage("user", "hello")])


# The context config.


@pytest.mark.parametrize("unified", [False, True])
def test_both_layouts_sample_equal_paths(model: LlamaCpp, stories: Path, unified: bool) -> None:
    prompts, sampling = start_prompts(model), Sampling(0.8, 25)
    expected = sampled(model, requests(prompts, paths=5, shared=1), sampling)
    lengths = SequenceLengths(max(map(len, prompts)), 25, shared=1)
    config = ContextConfig(7, unified, False, 1)
    with closing(open_llama_cpp(stories, lengths=lengths, config=config)) as other:
        assert other.details == config.as_json()
        assert sampled(other, requests(prompts, paths=5, shared=1), sampling) == expected
        # Again, with the sequences left by the last call.
        assert sampled(other, requests(prompts, paths=5, shared=1), sampling) == expected


def test_the_fastest_config_is_used_and_stored(stories: Path, model: LlamaCpp) -> None:
    lengths = SequenceLengths(60, 20, shared=30)
    with closing(open_llama_cpp(stories, lengths=lengths)) as first:
        rates = first.details["measured"]
        assert isinstance(rates, dict)
        assert all(rate > 0 for rate in rates.values())
        config = ContextConfig.from_json(first.details)
        # Another config replaces it only if it is faster by more than noise.
        assert rates[str(config)] * 1.05 >= max(rates.values())
        path_requests, sampling = requests(start_prompts(model), paths=2), Sampling(0.8, 10)
        assert sampled(first, path_requests, sampling) == sampled(model, path_requests, sampling)
    with closing(open_llama_cpp(stories, lengths=lengths, config=config)) as again:
        assert again.details == config.as_json()


def test_both_layouts_can_be_measured(stories: Path) -> None:
    for unified in (False, True):
        context = LlamaContext(
            stories, None, threads=1, batch_size=3, lengths=SequenceLengths(40, 20)
        )
        with closing(context):
            context.open(ContextConfig(3, unified, unified, 1))  # with flash attention, and without
            assert tokens_per_second(context) > 0


def test_flash_attention_is_not_used_for_float32_models(stories: Path) -> None:
    with closing(
        LlamaContext(stories, None, threads=1, batch_size=3, lengths=SequenceLengths(40, 20))
    ) as exact:
        assert exact.fits(ContextConfig(3, False, False, 1))
        assert not exact.fits(ContextConfig(3, False, True, 1))


def test_prompts_are_measured_without_the_weights(stories: Path, model: LlamaCpp) -> None:
    prompts = [Prompt(text, PromptStyle.BASE, 0) for text in STARTS]
    lengths = measure_prompts(stories, [prompts], 20)
    assert lengths.prompt == max(map(len, start_prompts(model)))
    assert lengths.total == lengths.prompt + 20


@pytest.mark.parametrize("sampling", [Sampling(0.7, 30), Sampling(1.3, 30, top_k=50), GREEDY])
def test_the_confidence_of_a_path_is_that_of_a_full_log_softmax(
    tiny: Path, sampling: Sampling
) -> None:
    with closing(open_llama_cpp(tiny, batch_size=5, context=128)) as opened:
        prompts = [opened.tokenize(text) for text in ("one", "two and three", "four")]
        results = sampled(opened, requests(prompts, paths=3), sampling)
        for (question, _), path in results.items():
            tokens = [*prompts[int(question[1:])], *path.token_ids]
            first = len(tokens) - len(path.token_ids)
            rows = [opened.logits(tokens[:end]) for end in range(first, len(tokens))]
            logprobs = special.log_softmax(np.array(rows, dtype=np.float64), axis=1)
            each = logprobs[np.arange(len(rows)), list(path.token_ids)]
            expected = path_confidence(each, special.entr(np.exp(logprobs)).sum(axis=1))
            assert expected is not None
            assert path.confidence is not None
            assert dataclasses.astuple(path.confidence) == pytest.approx(
                dataclasses.astuple(expected), abs=1e-4
            )

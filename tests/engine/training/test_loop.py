"""Training: it learns, can be killed and continued, and writes complete files."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from engine.packing import batches, prefix_tree, tree_attention
from engine.packing.batches import Batch, padded_batches
from engine.packing.encoding import encode
from engine.project.job_context import Abandoned
from engine.project.settings import Precision, TooLong, TrainSettings
from engine.training import loss, passes, tensorboard
from engine.training.loop import train
from engine.training.model import (
    TrainableModel,
    _four_bit_options,
    end_tokens,
    load_model,
)
from store.enums import PromptFormat, PromptStyle
from store.errors import BadInput, WorkFailed
from store.records import Example
from tests.engine.tiny import tiny_model, tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS = TrainSettings(learning_rate=2e-2, epochs=3.0, examples_per_step=6, rank=4, alpha=8)


class Stopped(Exception):
    """A request to stop."""


@dataclass
class Listener:
    """A watcher that keeps all metrics, and stops the training or kills the process at a step."""

    stop_at: int | None = None
    kill_at: int | None = None
    stop_at_look: int | None = None
    step: int = 0
    looks: int = 0
    begun: list[tuple[int, int]] = field(default_factory=list)
    measured: dict[int, dict[str, float]] = field(default_factory=dict)

    def begin(self, title: str, total: int, done: int = 0) -> None:
        self.begun.append((done, total))

    def advance(self, done: int, total: int) -> None:
        self.step = done

    def measure(self, step: int, values: Mapping[str, float], *, always: bool = False) -> None:
        self.measured[step] = dict(values)
        if step == self.kill_at:
            signal.raise_signal(signal.SIGKILL)

    def look(self) -> None:
        self.looks += 1
        if self.step == self.stop_at or self.looks == self.stop_at_look:
            raise Stopped


def some_examples(questions: int = 6, held: int = 1) -> list[Example]:
    """Two paths and a direct answer for each question; the first `held` questions are held out."""
    tokenizer = tiny_tokenizer()
    examples: list[Example] = []
    shots = "Q: How many legs has a cat?\nA: Four. The answer is 4.\n\n"
    for question in range(questions):
        prompt = f"Q: What is {question} and {question}?\nA:"
        answer = f" The answer is {2 * question}."
        for text in (f" It is {question} twice.{answer}", f" Two times {question}.{answer}"):
            ids = (*tokenizer(text).input_ids, tokenizer.eos_token_id)
            examples.append(
                Example(
                    id=0,
                    set_key="",
                    position=len(examples),
                    question_id=question,
                    path_id=len(examples) + 100,
                    prompt_format=PromptFormat.FEW_SHOT_COT,
                    prompt=shots + prompt,
                    shared=len(shots),
                    completion=text,
                    token_ids=ids,
                    weight=1.0,
                    validation=question < held,
                )
            )
        examples.append(
            replace(
                examples[-1],
                position=len(examples),
                path_id=None,
                prompt_format=PromptFormat.ZERO_SHOT_DIRECT,
                prompt=prompt,
                shared=0,
                completion=answer,
                token_ids=(),
                weight=2.0,
            )
        )
    return examples


def trained(folder: Path, settings: TrainSettings = SETTINGS, **changes: Any) -> Any:
    """Train the model in `folder`, which is created if missing, into its `out`."""
    torch.set_num_threads(1)
    base = folder / "base"
    if not base.exists():
        tiny_model(base)
    arguments: dict[str, Any] = {
        "out": folder / "out",
        "work": folder / "work",
        "style": PromptStyle.BASE,
        "progress": Listener(),
        "threads": 1,
        "checkpoint_seconds": 0.0,
    }
    arguments |= changes
    return train(base, arguments.pop("examples", some_examples()), settings, **arguments)


def weights(out: Path) -> dict[str, torch.Tensor]:
    (file,) = out.glob("*.safetensors")
    return load_file(file)


def are_identical(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


@dataclass
class Mover(Listener):
    """Moves the project's folder at a step, as the user does, and ends the training."""

    folder: Path = Path()

    def look(self) -> None:
        if self.step == 2:
            self.folder.rename(self.folder.with_name("moved"))
            raise Abandoned


def test_a_training_whose_project_was_moved_writes_nothing_to_the_old_place(tmp_path: Path) -> None:
    undisturbed = trained(tmp_path / "quiet")
    with pytest.raises(Abandoned):
        trained(tmp_path / "old", progress=Mover(folder=tmp_path / "old"))
    assert not (tmp_path / "old").exists()
    again = Listener()
    assert replace(trained(tmp_path / "moved", progress=again), seconds=0) == replace(
        undisturbed, seconds=0
    )
    assert again.begun[0][0] > 0
    assert are_identical(weights(tmp_path / "quiet" / "out"), weights(tmp_path / "moved" / "out"))


METHODS = [SETTINGS, replace(SETTINGS, method="full", learning_rate=2e-3)]


@pytest.mark.parametrize("settings", METHODS, ids=["lora", "full"])
def test_training_learns_and_reports_what_it_did(tmp_path: Path, settings: TrainSettings) -> None:
    listener = Listener()
    result = trained(tmp_path, settings, progress=listener)
    assert result.steps == len(listener.measured) - 1 == 10  # 5 questions x 4 x 3 epochs, 6 a step
    assert (result.examples, result.validation_examples, result.left_out) == (15, 3, 0)
    assert result.shares_prefixes
    assert listener.begun == [(0, 10)]
    losses = [listener.measured[step]["loss"] for step in range(1, 11)]
    assert losses[-1] < 0.8 * losses[0]
    assert result.validation_loss < result.first_validation_loss
    rates = [listener.measured[step]["learning_rate"] for step in range(1, 11)]
    assert max(rates) == pytest.approx(settings.learning_rate)
    assert rates[-1] < rates[0]
    assert all(values["tokens_per_second"] > 0 for values in list(listener.measured.values())[1:])
    assert not (tmp_path / "work").exists()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("settings", METHODS, ids=["lora", "full"])
def test_the_best_weights_are_written_and_load_again(
    tmp_path: Path, settings: TrainSettings
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    # The held-out examples are unlike the training examples, so their loss rises in the end.
    examples = [
        replace(example, token_ids=tuple(range(300, 320))) if example.validation else example
        for example in some_examples()
    ]
    wild = replace(settings, learning_rate=settings.learning_rate * 5)
    listener = Listener()
    result = trained(tmp_path, wild, progress=listener, examples=examples)
    validation_losses = {
        step: values["val_loss"]
        for step, values in listener.measured.items()
        if step and "val_loss" in values
    }
    assert (
        result.validation_loss
        == min(validation_losses.values())
        == validation_losses[result.best_step]
    )
    assert result.best_step < result.steps
    ours = load_model(tmp_path / "base", TrainSettings(method="full"))
    if settings.method == "lora":
        causal: Any = PeftModel.from_pretrained(ours.causal, tmp_path / "out").get_base_model()
    else:
        causal = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    again = replace(ours, causal=causal)
    held = encode(
        [example for example in examples if example.validation],
        ours.tokenizer,
        PromptStyle.BASE,
        end_tokens(ours),
    )
    loss = passes.mean_loss(again, passes.pack_rows(again, held))
    assert loss == pytest.approx(result.validation_loss, rel=1e-5)


@pytest.mark.parametrize("settings", METHODS, ids=["lora", "full"])
def test_written_files_contain_no_local_path(tmp_path: Path, settings: TrainSettings) -> None:
    trained(tmp_path, settings)
    out = tmp_path / "out"
    for path in out.rglob("*.json"):
        assert str(tmp_path) not in path.read_text()
    names = {path.name for path in out.iterdir()}
    if settings.method == "lora":
        assert names == {"adapter_config.json", "adapter_model.safetensors", "training.json"}
        config = json.loads((out / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == "base"
        assert "lm_head" not in config["target_modules"]
        assert len(config["target_modules"]) == 7
    else:
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= names
        tokenizer = (tmp_path / "base" / "tokenizer.json").read_bytes()
        assert (out / "tokenizer.json").read_bytes() == tokenizer
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


KILLED = """
import sys
from pathlib import Path
from engine.project.settings import TrainSettings
from tests.engine.training.test_loop import METHODS, Listener, trained

trained(Path(sys.argv[1]), METHODS[int(sys.argv[2])], progress=Listener(kill_at=int(sys.argv[3])))
"""


@pytest.mark.parametrize(
    "number", [pytest.param(0, id="lora"), pytest.param(1, id="full", marks=pytest.mark.slow)]
)
def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, number: int
) -> None:
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    undisturbed = trained(quiet, METHODS[number])
    tiny_model(killed / "base")
    # Killed after the sixth step's best weights were written and before its checkpoint.
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(killed), str(number), "6"],
        cwd=Path(__file__).parents[3],
        env={"OMP_NUM_THREADS": "1", "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert (killed / "work" / "checkpoint.pt").exists()
    assert not (killed / "out").exists()
    listener = Listener()
    resumed = trained(killed, METHODS[number], progress=listener)
    assert listener.begun == [(5, 10)]
    assert are_identical(weights(quiet / "out"), weights(killed / "out"))
    assert replace(resumed, seconds=0.0) == replace(undisturbed, seconds=0.0)


def test_a_request_to_stop_leaves_a_checkpoint_of_that_step(tmp_path: Path) -> None:
    trained(tmp_path / "quiet")
    for stop_at in (3, 4, 9):
        with pytest.raises(Stopped):
            trained(
                tmp_path / "stopped", progress=Listener(stop_at=stop_at), checkpoint_seconds=1e9
            )
    listener = Listener()
    trained(tmp_path / "stopped", progress=listener)
    assert listener.begun == [(9, 10)]
    assert are_identical(weights(tmp_path / "quiet" / "out"), weights(tmp_path / "stopped" / "out"))


def test_a_request_to_stop_takes_effect_between_the_batches_of_a_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One row for a batch: a step has many, and so has a validation.
    monkeypatch.setattr(batches, "BATCH_TOKENS", 1)
    monkeypatch.setattr(prefix_tree, "ROW_TOKENS", 1)
    quiet = Listener()
    undisturbed = trained(tmp_path / "quiet", progress=quiet)
    assert quiet.looks > 50  # of which 10 at the beginning of a step
    begun: set[int] = set()
    for look in range(1, quiet.looks, 23):
        stopped = tmp_path / f"stopped-{look}"
        first = Listener(stop_at_look=look)
        with pytest.raises(Stopped):
            trained(stopped, progress=first, checkpoint_seconds=1e9)
        assert first.looks == look
        again = Listener()
        assert replace(trained(stopped, progress=again), seconds=0.0) == replace(
            undisturbed, seconds=0.0
        )
        assert are_identical(weights(tmp_path / "quiet" / "out"), weights(stopped / "out"))
        begun |= {done for done, _ in again.begun}
    assert len(begun) > 3


def test_training_stops_early_when_the_validation_loss_does_not_improve(tmp_path: Path) -> None:
    # The held-out examples are unlike the training examples, so their loss only rises.
    examples = [
        replace(example, token_ids=tuple(range(300, 320))) if example.validation else example
        for example in some_examples()
    ]
    wild = replace(SETTINGS, learning_rate=0.1)
    result = trained(tmp_path / "patient", replace(wild, patience=0), examples=examples)
    assert (result.steps, result.stopped_early) == (10, False)
    listener = Listener(stop_at=2)
    impatient = replace(wild, patience=3)
    with pytest.raises(Stopped):
        trained(tmp_path / "hasty", impatient, examples=examples, progress=listener)
    hasty = trained(tmp_path / "hasty", impatient, examples=examples)
    assert hasty.stopped_early
    assert hasty.steps == hasty.best_step + 3 < 10
    assert hasty.best_step == result.best_step
    patient_weights = weights(tmp_path / "patient" / "out")
    assert are_identical(patient_weights, weights(tmp_path / "hasty" / "out"))


def allocate(_model: object, _batch: object) -> torch.Tensor:
    return torch.empty(2**55)


def no_memory(_model: object, _batch: object) -> torch.Tensor:
    raise MemoryError


def gpu_is_full(_model: object, _batch: object) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")


@pytest.mark.parametrize("fails", [allocate, no_memory, gpu_is_full])
def test_insufficient_memory_is_reported_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Any
) -> None:
    tried = passes.try_largest_batch

    def with_full_memory(*arguments: Any) -> int:
        with monkeypatch.context() as full:
            full.setattr(passes, "loss_sum", fails)
            return tried(*arguments)

    monkeypatch.setattr("engine.training.loop.try_largest_batch", with_full_memory)
    listener = Listener()
    with pytest.raises(WorkFailed, match=r"ran out of memory on a batch of [\d,]+ tokens .* qlora"):
        trained(tmp_path, progress=listener)
    assert listener.measured == {}


def test_running_out_of_memory_in_a_step_leaves_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss_sum, listener = loss.loss_sum, Listener()

    def fills(model: TrainableModel, batch: Batch) -> torch.Tensor:
        return loss_sum(model, batch) if listener.step < 4 else gpu_is_full(model, batch)

    with monkeypatch.context() as full:
        full.setattr(passes, "loss_sum", fills)
        with pytest.raises(WorkFailed, match="ran out of memory"):
            trained(tmp_path / "full", progress=listener, checkpoint_seconds=1e9)
    again = Listener()
    trained(tmp_path / "full", progress=again)
    trained(tmp_path / "quiet")
    assert again.begun == [(4, 10)]
    assert are_identical(weights(tmp_path / "full" / "out"), weights(tmp_path / "quiet" / "out"))


def test_trying_the_largest_batch_changes_nothing(tmp_path: Path) -> None:
    model = load_model(tiny_model(tmp_path / "base"), SETTINGS)
    examples = encode(some_examples(), model.tokenizer, PromptStyle.BASE, end_tokens(model))
    before = {name: value.detach().clone() for name, value in model.weights.items()}
    random = torch.get_rng_state()
    steps = [examples[:1], examples[:9], examples[9:]]
    largest = max(
        batch.tokens.numel()
        for step in steps
        for batch in padded_batches(passes.pack_rows(model, step), model.cost)
    )
    assert passes.try_largest_batch(model, steps) == largest
    assert are_identical(before, model.weights)
    assert all(value.grad is None for value in model.weights.values())
    assert torch.equal(random, torch.get_rng_state())


def test_bfloat16_learns_as_float32_does_and_continues_bit_for_bit(tmp_path: Path) -> None:
    half = replace(SETTINGS, precision=Precision.BFLOAT16)
    exact, rounded = Listener(), Listener()
    trained(tmp_path / "exact", progress=exact)
    trained(tmp_path / "rounded", half, progress=rounded)
    for step in range(1, 11):
        expected = exact.measured[step]["loss"]
        assert rounded.measured[step]["loss"] == pytest.approx(expected, rel=0.02)
        assert rounded.measured[step]["loss"] != expected
    losses = [rounded.measured[step]["loss"] for step in range(1, 11)]
    assert losses != torch.tensor(losses).bfloat16().tolist()  # the sum itself is not rounded
    with pytest.raises(Stopped):
        trained(tmp_path / "stopped", half, progress=Listener(stop_at=5))
    trained(tmp_path / "stopped", half)
    written = weights(tmp_path / "rounded" / "out")
    assert are_identical(written, weights(tmp_path / "stopped" / "out"))
    assert {value.dtype for value in written.values()} == {torch.float32}


def test_metrics_are_written_as_event_files_too(tmp_path: Path) -> None:
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    listener = Listener(stop_at=4)
    with pytest.raises(Stopped), tensorboard.event_files(tmp_path / "events", listener) as watcher:
        trained(tmp_path, progress=watcher)
    with tensorboard.event_files(tmp_path / "events", Listener()) as watcher:
        trained(tmp_path, progress=watcher)
    events = accumulators.EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == list(range(1, 11))
    assert [event.step for event in events.Scalars("val_loss")] == list(range(11))
    for event in events.Scalars("loss")[:4]:
        assert event.value == pytest.approx(listener.measured[event.step]["loss"])


def test_event_files_without_their_package_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with (
        pytest.raises(BadInput, match=r"pip install 'lmsi-tui\[tensorboard\]'"),
        tensorboard.event_files(tmp_path, Listener()),
    ):
        pass
    with tensorboard.event_files(None, quiet := Listener()) as watcher:
        assert watcher is quiet


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_four_bits_are_refused_without_a_gpu(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="qlora needs a CUDA device"):
        trained(tmp_path, replace(SETTINGS, method="qlora"))


def test_four_bits_are_refused_without_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(BadInput, match=r"pip install 'lmsi-tui\[qlora\]'"):
        _four_bit_options(torch.device("cuda"))


def test_settings_without_effect_on_the_weights_do_not_change_the_hash_of_a_training() -> None:
    elsewhere = replace(SETTINGS, processes=2, machines="two.yaml", tensorboard=True)
    assert elsewhere.deciding() == SETTINGS.deciding()
    assert replace(SETTINGS, patience=1).deciding() != SETTINGS.deciding()
    # The hash of trainings from before patience and precision were settings.
    as_before = replace(SETTINGS, patience=0, precision=Precision.AUTO)
    assert list(as_before.deciding()) == [
        *("method", "rank", "alpha", "learning_rate", "epochs", "examples_per_step", "seed"),
        *("paths", "paths_per_question"),
    ]


def test_a_checkpoint_of_another_training_is_not_continued(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        trained(tmp_path, progress=Listener(stop_at=3))
    listener = Listener()
    trained(tmp_path, replace(SETTINGS, seed=1), progress=listener)
    assert listener.begun == [(0, 10)]


def test_a_finished_training_is_not_repeated_and_another_one_replaces_it(tmp_path: Path) -> None:
    first = trained(tmp_path)
    listener = Listener()
    assert trained(tmp_path, progress=listener) == first
    assert listener.begun == []
    before = weights(tmp_path / "out")
    trained(tmp_path, replace(SETTINGS, seed=1))
    assert not are_identical(before, weights(tmp_path / "out"))


def test_a_model_that_cannot_be_packed_trains_single_rows_and_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_model(tmp_path / "base", family="gemma")
    with caplog.at_level("WARNING"):
        result = trained(tmp_path)
    assert not result.shares_prefixes
    assert "trained in a row of its own" in caplog.text
    assert result.validation_loss < result.first_validation_loss


def test_a_model_that_ignores_the_mask_trains_single_rows_and_warns(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lower_triangle(batch: Batch, dtype: torch.dtype, _window: int | None) -> torch.Tensor:
        size = batch.tokens.shape[1]
        return torch.full((size, size), torch.finfo(dtype).min, dtype=dtype).triu(1)[None, None]

    cut = tree_attention.block_sparse_mask
    monkeypatch.setattr(Batch, "dense_mask", lower_triangle)
    monkeypatch.setattr(
        tree_attention,
        "block_sparse_mask",
        lambda until, *rest: cut(torch.full_like(until, len(until)), *rest),
    )
    result = trained(tmp_path)
    assert not result.shares_prefixes
    assert "trained with a dense mask" in caplog.text
    assert "ignores the mask" in caplog.text


def test_a_single_row_has_the_loss_that_transformers_computes(tmp_path: Path) -> None:
    model = load_model(tiny_model(tmp_path / "base"), TrainSettings(method="full"))
    examples = encode(some_examples(2), model.tokenizer, PromptStyle.BASE, end_tokens(model))
    total = 0.0
    for example in examples:
        ids = torch.tensor([example.tokens])
        labels = ids.clone()
        labels[:, : len(example.prompt)] = -100
        with torch.no_grad():
            mean = model.causal(input_ids=ids, labels=labels).loss.item()
        total += example.weight * len(example.completion) * mean
    expected = total / sum(example.weight * len(example.completion) for example in examples)
    for shares in (True, False):
        tested = replace(model, shares_prefixes=shares)
        loss = passes.mean_loss(tested, passes.pack_rows(tested, examples))
        assert loss == pytest.approx(expected, abs=1e-5)


def test_one_question_without_validation_is_enough(tmp_path: Path) -> None:
    result = trained(tmp_path, examples=some_examples(1, held=0))
    assert result.validation_loss is None
    assert result.first_validation_loss is None
    assert result.best_step == result.steps >= 1


def test_examples_longer_than_the_context_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_model(tmp_path / "base", context=40)
    result = trained(tmp_path)
    assert result.left_out > 0
    assert "left out" in caplog.text
    with pytest.raises(BadInput, match="examples are longer than the 40 tokens of base"):
        trained(tmp_path, replace(SETTINGS, too_long=TooLong.REFUSE), out=tmp_path / "other")
    tiny_model(tmp_path / "short" / "base", context=4)
    with pytest.raises(BadInput, match="more than its 4 tokens"):
        trained(tmp_path / "short")


def test_a_rate_that_breaks_the_model_ends_with_advice(tmp_path: Path) -> None:
    wild = replace(SETTINGS, method="full", learning_rate=1e30)
    with pytest.raises(WorkFailed, match="lower the learning rate"):
        trained(tmp_path, wild)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    with pytest.raises(BadInput, match=r"config\.json"):
        trained(tmp_path)
    tiny_model(tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(BadInput, match="cannot be loaded"):
        trained(tmp_path)

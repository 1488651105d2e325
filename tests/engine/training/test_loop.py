"""Training: it learns, it ends properly, it can be killed, and what it leaves is whole."""

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
from engine.project.settings import PathChoice, Precision, TooLong, TrainSettings
from engine.training import loss, passes, tensorboard
from engine.training.distillation import student_examples
from engine.training.loop import schedule, train
from engine.training.model import (
    TrainableModel,
    _four_bit_options,
    end_tokens,
    load_model,
)
from store.enums import PromptFormat, PromptStyle, Weighting
from store.errors import BadInput, WorkFailed
from store.records import Example, TrainingSet
from tests.engine.tiny import tiny_model, tiny_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

SETTINGS = TrainSettings(learning_rate=2e-2, epochs=3.0, examples_per_step=6, rank=4, alpha=8)


class Stopped(Exception):
    """What a person's wish to stop looks like here."""


@dataclass
class Listener:
    """Keeps what a training says; stops it, or kills the process, at a step."""

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
    """Two paths and a direct answer for each question, the first `held` of them held out."""
    tokenizer = tiny_tokenizer()
    found: list[Example] = []
    shots = "Q: How many legs has a cat?\nA: Four. The answer is 4.\n\n"
    for question in range(questions):
        asked = f"Q: What is {question} and {question}?\nA:"
        answer = f" The answer is {2 * question}."
        for text in (f" It is {question} twice.{answer}", f" Two times {question}.{answer}"):
            ids = (*tokenizer(text).input_ids, tokenizer.eos_token_id)
            found.append(
                Example(
                    id=0,
                    set_key="",
                    position=len(found),
                    question_id=question,
                    path_id=len(found) + 100,
                    prompt_format=PromptFormat.FEW_SHOT_COT,
                    prompt=shots + asked,
                    shared=len(shots),
                    completion=text,
                    token_ids=ids,
                    weight=1.0,
                    validation=question < held,
                )
            )
        found.append(
            replace(
                found[-1],
                position=len(found),
                path_id=None,
                prompt_format=PromptFormat.ZERO_SHOT_DIRECT,
                prompt=asked,
                shared=0,
                completion=answer,
                token_ids=(),
                weight=2.0,
            )
        )
    return found


def trained(folder: Path, settings: TrainSettings = SETTINGS, **changes: Any) -> Any:
    """Train the folder's model, made if it is not there, into its `out`."""
    torch.set_num_threads(1)
    base = folder / "base"
    if not base.exists():
        tiny_model(base)
    given: dict[str, Any] = {
        "out": folder / "out",
        "work": folder / "work",
        "style": PromptStyle.BASE,
        "progress": Listener(),
        "threads": 1,
        "checkpoint_seconds": 0.0,
    }
    given |= changes
    return train(base, given.pop("examples", some_examples()), settings, **given)


def weights(out: Path) -> dict[str, torch.Tensor]:
    (file,) = out.glob("*.safetensors")
    return load_file(file)


def are_identical(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        torch.equal(value, second[name]) for name, value in first.items()
    )


METHODS = [SETTINGS, replace(SETTINGS, method="full", learning_rate=2e-3)]


@pytest.mark.parametrize("settings", METHODS, ids=["lora", "full"])
def test_training_learns_and_says_what_it_did(tmp_path: Path, settings: TrainSettings) -> None:
    listener = Listener()
    found = trained(tmp_path, settings, progress=listener)
    assert found.steps == len(listener.measured) - 1 == 10  # 5 questions x 4 x 3 epochs, 6 a step
    assert (found.examples, found.validation_examples, found.left_out) == (15, 3, 0)
    assert found.shares_prefixes
    assert listener.begun == [(0, 10)]
    losses = [listener.measured[step]["loss"] for step in range(1, 11)]
    assert losses[-1] < 0.8 * losses[0]
    assert found.validation_loss < found.first_validation_loss
    rates = [listener.measured[step]["learning_rate"] for step in range(1, 11)]
    assert max(rates) == pytest.approx(settings.learning_rate)
    assert rates[-1] < rates[0]
    assert all(one["tokens_per_second"] > 0 for one in list(listener.measured.values())[1:])
    assert not (tmp_path / "work").exists()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize("settings", METHODS, ids=["lora", "full"])
def test_the_best_weights_are_written_and_load_again(
    tmp_path: Path, settings: TrainSettings
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    # What is held out is nothing like what is learnt, so its loss rises in the end.
    strange = [
        replace(one, token_ids=tuple(range(300, 320))) if one.validation else one
        for one in some_examples()
    ]
    wild = replace(settings, learning_rate=settings.learning_rate * 5)
    listener = Listener()
    found = trained(tmp_path, wild, progress=listener, examples=strange)
    seen = {
        step: one["val_loss"]
        for step, one in listener.measured.items()
        if step and "val_loss" in one
    }
    assert found.validation_loss == min(seen.values()) == seen[found.best_step]
    assert found.best_step < found.steps
    ours = load_model(tmp_path / "base", TrainSettings(method="full"))
    if settings.method == "lora":
        causal: Any = PeftModel.from_pretrained(ours.causal, tmp_path / "out").get_base_model()
    else:
        causal = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    again = replace(ours, causal=causal)
    held = encode(
        [one for one in strange if one.validation],
        ours.tokenizer,
        PromptStyle.BASE,
        end_tokens(ours),
    )
    loss = passes.mean_loss(again, passes.pack_rows(again, held))
    assert loss == pytest.approx(found.validation_loss, rel=1e-5)


@pytest.mark.parametrize("settings", METHODS, ids=["lora", "full"])
def test_what_is_written_names_no_path_of_this_machine(
    tmp_path: Path, settings: TrainSettings
) -> None:
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
def test_a_killed_training_ends_with_the_weights_of_one_left_alone(
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


def test_a_wish_to_stop_leaves_a_checkpoint_of_that_step(tmp_path: Path) -> None:
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


def test_a_wish_to_stop_is_felt_between_the_batches_of_a_step(
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


def test_training_ends_early_when_validations_bring_nothing(tmp_path: Path) -> None:
    # What is held out is nothing like what is learnt, so its loss only rises.
    strange = [
        replace(one, token_ids=tuple(range(300, 320))) if one.validation else one
        for one in some_examples()
    ]
    wild = replace(SETTINGS, learning_rate=0.1)
    found = trained(tmp_path / "patient", replace(wild, patience=0), examples=strange)
    assert (found.steps, found.stopped_early) == (10, False)
    listener = Listener(stop_at=2)
    impatient = replace(wild, patience=3)
    with pytest.raises(Stopped):
        trained(tmp_path / "hasty", impatient, examples=strange, progress=listener)
    hasty = trained(tmp_path / "hasty", impatient, examples=strange)
    assert hasty.stopped_early
    assert hasty.steps == hasty.best_step + 3 < 10
    assert hasty.best_step == found.best_step
    patient_weights = weights(tmp_path / "patient" / "out")
    assert are_identical(patient_weights, weights(tmp_path / "hasty" / "out"))


def allocate(_model: object, _batch: object) -> torch.Tensor:
    return torch.empty(2**55)


def no_memory(_model: object, _batch: object) -> torch.Tensor:
    raise MemoryError


def gpu_is_full(_model: object, _batch: object) -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")


@pytest.mark.parametrize("fails", [allocate, no_memory, gpu_is_full])
def test_memory_that_is_too_small_is_told_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: Any
) -> None:
    tried = passes.try_largest_batch

    def on_a_full_machine(*given: Any) -> int:
        with monkeypatch.context() as full:
            full.setattr(passes, "loss_sum", fails)
            return tried(*given)

    monkeypatch.setattr("engine.training.loop.try_largest_batch", on_a_full_machine)
    listener = Listener()
    with pytest.raises(WorkFailed, match=r"ran out of memory on a batch of [\d,]+ tokens .* qlora"):
        trained(tmp_path, progress=listener)
    assert listener.measured == {}


def test_memory_that_runs_out_in_a_step_leaves_a_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss_sum, listener = loss.loss_sum, Listener()

    def fills(model: TrainableModel, batch: Batch) -> torch.Tensor:
        return loss_sum(model, batch) if listener.step < 4 else gpu_is_full(model, batch)

    with monkeypatch.context() as full:
        full.setattr(passes, "loss_sum", fills)
        with pytest.raises(WorkFailed, match="ran out of memory"):
            trained(tmp_path / "one", progress=listener, checkpoint_seconds=1e9)
    again = Listener()
    trained(tmp_path / "one", progress=again)
    trained(tmp_path / "two")
    assert again.begun == [(4, 10)]
    assert are_identical(weights(tmp_path / "one" / "out"), weights(tmp_path / "two" / "out"))


def test_trying_the_largest_batch_leaves_everything_as_it_was(tmp_path: Path) -> None:
    model = load_model(tiny_model(tmp_path / "base"), SETTINGS)
    some = encode(some_examples(), model.tokenizer, PromptStyle.BASE, end_tokens(model))
    before = {name: value.detach().clone() for name, value in model.weights.items()}
    random = torch.get_rng_state()
    steps = [some[:1], some[:9], some[9:]]
    largest = max(
        batch.tokens.numel()
        for step in steps
        for batch in padded_batches(passes.pack_rows(model, step), model.cost)
    )
    assert passes.try_largest_batch(model, steps) == largest
    assert are_identical(before, model.weights)
    assert all(value.grad is None for value in model.weights.values())
    assert torch.equal(random, torch.get_rng_state())


def test_bfloat16_learns_as_float32_does_and_goes_on_bit_for_bit(tmp_path: Path) -> None:
    half = replace(SETTINGS, precision=Precision.BFLOAT16)
    exact, rounded = Listener(), Listener()
    trained(tmp_path / "exact", progress=exact)
    trained(tmp_path / "rounded", half, progress=rounded)
    for step in range(1, 11):
        expected = exact.measured[step]["loss"]
        assert rounded.measured[step]["loss"] == pytest.approx(expected, rel=0.02)
        assert rounded.measured[step]["loss"] != expected
    with pytest.raises(Stopped):
        trained(tmp_path / "stopped", half, progress=Listener(stop_at=5))
    trained(tmp_path / "stopped", half)
    written = weights(tmp_path / "rounded" / "out")
    assert are_identical(written, weights(tmp_path / "stopped" / "out"))
    assert {value.dtype for value in written.values()} == {torch.float32}


def test_metrics_are_written_as_event_files_too(tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    heard = Listener(stop_at=4)
    with pytest.raises(Stopped), tensorboard.event_files(tmp_path / "events", heard) as watcher:
        trained(tmp_path, progress=watcher)
    with tensorboard.event_files(tmp_path / "events", Listener()) as watcher:
        trained(tmp_path, progress=watcher)
    found = reading.EventAccumulator(str(tmp_path / "events"))
    found.Reload()
    assert [one.step for one in found.Scalars("loss")] == list(range(1, 11))
    assert [one.step for one in found.Scalars("val_loss")] == list(range(11))
    for one in found.Scalars("loss")[:4]:
        assert one.value == pytest.approx(heard.measured[one.step]["loss"])


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


def test_settings_without_effect_on_the_result_do_not_name_another_training() -> None:
    elsewhere = replace(SETTINGS, processes=2, machines="two.yaml", tensorboard=True)
    assert elsewhere.deciding() == SETTINGS.deciding()
    assert replace(SETTINGS, patience=1).deciding() != SETTINGS.deciding()
    # What was trained before there were patience and precision had this name.
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


def test_a_finished_training_is_found_again_and_another_one_replaces_it(tmp_path: Path) -> None:
    first = trained(tmp_path)
    listener = Listener()
    assert trained(tmp_path, progress=listener) == first
    assert listener.begun == []
    before = weights(tmp_path / "out")
    trained(tmp_path, replace(SETTINGS, seed=1))
    assert not are_identical(before, weights(tmp_path / "out"))


def test_a_model_that_cannot_take_the_mask_trains_rows_alone_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_model(tmp_path / "base", family="gemma")
    with caplog.at_level("WARNING"):
        found = trained(tmp_path)
    assert not found.shares_prefixes
    assert "trained in a row of its own" in caplog.text
    assert found.validation_loss < found.first_validation_loss


def test_a_mask_that_is_not_honoured_is_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lower_triangle(batch: Batch, dtype: torch.dtype) -> torch.Tensor:
        size = batch.tokens.shape[1]
        return torch.full((size, size), torch.finfo(dtype).min, dtype=dtype).triu(1)[None, None]

    cut = tree_attention.block_sparse_mask
    monkeypatch.setattr(Batch, "dense_mask", lower_triangle)
    monkeypatch.setattr(
        tree_attention,
        "block_sparse_mask",
        lambda until, dtype: cut(torch.full_like(until, len(until)), dtype),
    )
    found = trained(tmp_path)
    assert not found.shares_prefixes
    assert "trained with a dense mask" in caplog.text
    assert "ignores the mask" in caplog.text


def test_a_row_alone_has_the_loss_that_transformers_gives_it(tmp_path: Path) -> None:
    model = load_model(tiny_model(tmp_path / "base"), TrainSettings(method="full"))
    some = encode(some_examples(2), model.tokenizer, PromptStyle.BASE, end_tokens(model))
    total = 0.0
    for one in some:
        ids = torch.tensor([one.tokens])
        labels = ids.clone()
        labels[:, : len(one.prompt)] = -100
        with torch.no_grad():
            mean = model.causal(input_ids=ids, labels=labels).loss.item()
        total += one.weight * len(one.completion) * mean
    expected = total / sum(one.weight * len(one.completion) for one in some)
    for shares in (True, False):
        chosen = replace(model, shares_prefixes=shares)
        found = passes.mean_loss(chosen, passes.pack_rows(chosen, some))
        assert found == pytest.approx(expected, abs=1e-5)


def test_one_question_without_validation_is_enough(tmp_path: Path) -> None:
    found = trained(tmp_path, examples=some_examples(1, held=0))
    assert found.validation_loss is None
    assert found.first_validation_loss is None
    assert found.best_step == found.steps >= 1


def test_rows_longer_than_the_model_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tiny_model(tmp_path / "base", context=40)
    found = trained(tmp_path)
    assert found.left_out > 0
    assert "left out" in caplog.text
    with pytest.raises(BadInput, match="examples are longer than the 40 tokens of base"):
        trained(tmp_path, replace(SETTINGS, too_long=TooLong.REFUSE), out=tmp_path / "other")
    tiny_model(tmp_path / "short" / "base", context=4)
    with pytest.raises(BadInput, match="longer than its 4 tokens"):
        trained(tmp_path / "short")


def test_a_rate_that_breaks_the_model_ends_in_a_sentence(tmp_path: Path) -> None:
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


def test_steps_hold_whole_groups_of_the_asked_weight() -> None:
    some = encode(some_examples(held=0), tiny_tokenizer(), PromptStyle.BASE, {0})
    steps = schedule(some, replace(SETTINGS, epochs=2.5))
    assert sum(map(len, steps)) == pytest.approx(2.5 * len(some), abs=2)
    for step in steps[:-1]:
        assert 6 <= sum(some[number].weight for number in step) < 6 + 2
        for number in step:
            group = {
                other
                for other, one in enumerate(some)
                if (one.question_id, one.prompt_format)
                == (some[number].question_id, some[number].prompt_format)
            }
            assert group <= set(step)
    assert schedule(some, replace(SETTINGS, seed=1)) != schedule(some, SETTINGS)


# Students.


def frozen(weighting: Weighting = Weighting.PER_PATH) -> TrainingSet:
    return TrainingSet(
        key="k",
        run_id=1,
        threshold="0.6",
        cap=8,
        formats=tuple(PromptFormat),
        weighting=weighting,
        label_free=True,
        tokenizer_sha256="teacher",
        questions=6,
        examples=18,
        created_at=0.0,
    )


def test_a_student_with_another_tokenizer_gets_text_and_its_own_end() -> None:
    same = student_examples(some_examples(), frozen(), "teacher", SETTINGS)
    other = student_examples(some_examples(), frozen(), "student", SETTINGS)
    assert same == some_examples()
    assert all(one.token_ids == () for one in other)
    assert [one.completion for one in other] == [one.completion for one in same]


def test_a_student_may_learn_from_the_shortest_paths_only() -> None:
    settings = replace(SETTINGS, paths=PathChoice.SHORTEST, paths_per_question=1)
    chosen = student_examples(some_examples(), frozen(), "teacher", settings)
    reasoned = [one for one in chosen if one.path_id is not None]
    assert all(" Two times" in one.completion for one in reasoned)
    assert {one.weight for one in chosen} == {1.0}  # the direct rows stand for one path now
    first = replace(settings, paths=PathChoice.FIRST)
    chosen = student_examples(some_examples(), frozen(), "teacher", first)
    assert all(" twice" in one.completion for one in chosen if one.path_id is not None)


def test_a_questions_weight_is_shared_among_the_paths_that_are_left() -> None:
    settings = replace(SETTINGS, paths=PathChoice.FIRST, paths_per_question=1)
    shared = [
        replace(one, weight=0.5 if one.path_id is not None else 1.0) for one in some_examples()
    ]
    chosen = student_examples(shared, frozen(Weighting.PER_QUESTION), "teacher", settings)
    assert {one.weight for one in chosen} == {1.0}

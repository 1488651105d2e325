"""Training with a contrast: it learns, keeps winners likely, and continues bit for bit."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from engine.project.objectives import ContrastLoss, Objective
from engine.training.contrast import objective
from engine.training.contrast.losses import Contrast, ContrastSet
from engine.training.contrast.passes import reference_likelihoods
from engine.training.objectives import Measured
from store.errors import WorkFailed
from tests.engine.tiny import tiny_model, tiny_tokenizer
from tests.engine.training.test_loop import (
    SETTINGS,
    Listener,
    Stopped,
    are_identical,
    some_examples,
    trained,
    weights,
)

if TYPE_CHECKING:
    from engine.project.settings import TrainSettings
    from store.records import Example

CONTRAST = replace(SETTINGS, objective=Objective.CONTRAST)
LOSSES = {
    "kto": Contrast(ContrastLoss.KTO, 0.1, 1.0),
    "dpo": Contrast(ContrastLoss.DPO, 0.1, 1.0),
}


def contrast_set(name: str = "kto", examples: list[Example] | None = None) -> ContrastSet:
    """A wrong path for each question but the last, under the prompts of the examples."""
    tokenizer = tiny_tokenizer()
    losers = []
    for example in examples or some_examples():
        if example.path_id is None or example.question_id == 5 or example.path_id % 3 == 0:
            continue
        text = f" That is {example.question_id} squared. The answer is 99."
        ids = (*tokenizer(text).input_ids, tokenizer.eos_token_id)
        losers.append(replace(example, path_id=1000, completion=text, token_ids=ids))
    margins = {question: 0.25 + question / 10 for question in range(5)}
    return ContrastSet(LOSSES[name], losers, margins)


def contrasted(folder: Path, name: str = "kto", **changes: Any) -> Any:
    settings = changes.pop("settings", CONTRAST)
    return trained(folder, settings, **({"contrast": contrast_set(name)} | changes))


@pytest.mark.parametrize(
    "settings", [CONTRAST, replace(CONTRAST, method="full", learning_rate=2e-3)]
)
@pytest.mark.parametrize("name", LOSSES)
def test_winning_paths_become_more_likely_and_the_loss_falls(
    tmp_path: Path, name: str, settings: TrainSettings
) -> None:
    listener = Listener()
    result = contrasted(tmp_path, name, settings=settings, progress=listener)
    assert result.steps == 10  # as many as without losing paths
    assert (result.examples, result.validation_examples, result.left_out) == (15, 3, 0)
    assert 0 < result.losing_examples < 15
    first, last = listener.measured[0], listener.measured[result.best_step]
    assert last["val_loss"] < first["val_loss"]
    assert result.winner_logp == last["winner_logp"] > first["winner_logp"]
    assert result.first_winner_logp == first["winner_logp"]
    assert listener.measured[1]["loss"] > listener.measured[10]["loss"]


KILLED = """
import sys
from pathlib import Path
from tests.engine.training.contrast.test_objective import contrasted
from tests.engine.training.test_loop import Listener

contrasted(Path(sys.argv[1]), sys.argv[2], progress=Listener(kill_at=int(sys.argv[3])))
"""


@pytest.mark.slow
def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(tmp_path: Path) -> None:
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    undisturbed = contrasted(quiet)
    tiny_model(killed / "base")
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(killed), "kto", "6"],
        cwd=Path(__file__).parents[4],
        env={"OMP_NUM_THREADS": "1", "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    listener = Listener()
    resumed = contrasted(killed, progress=listener)
    assert listener.begun == [(5, 10)]
    assert are_identical(weights(quiet / "out"), weights(killed / "out"))
    assert replace(resumed, seconds=0.0) == replace(undisturbed, seconds=0.0)


@pytest.mark.parametrize("name", LOSSES)
def test_the_reference_is_computed_once_and_kept_in_the_checkpoint(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def counted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return reference_likelihoods(*args)

    contrasted(tmp_path / "quiet", name)
    monkeypatch.setattr(objective, "reference_likelihoods", counted)
    # Before the first step, after the reference; and between steps.
    looks = Listener()
    for stop_at in (0, 4, 7):
        listener = Listener(stop_at=stop_at) if stop_at else Listener(stop_at_look=2)
        with pytest.raises(Stopped):
            contrasted(tmp_path / "stopped", name, progress=listener, checkpoint_seconds=1e9)
    contrasted(tmp_path / "stopped", name, progress=looks)
    assert calls == 1
    assert looks.begun == [(7, 10)]
    assert are_identical(weights(tmp_path / "quiet" / "out"), weights(tmp_path / "stopped" / "out"))


def test_the_reference_does_not_depend_on_how_many_examples_are_packed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contrasted(tmp_path / "quiet")
    monkeypatch.setattr(objective, "CHUNK", 3)
    contrasted(tmp_path / "chunks")
    at_once, chunked = weights(tmp_path / "quiet" / "out"), weights(tmp_path / "chunks" / "out")
    for name, value in at_once.items():
        assert torch.allclose(value, chunked[name], rtol=0, atol=1e-5 * float(value.abs().max()))


Found = list[tuple[float, float]]


@pytest.fixture
def validations(monkeypatch: pytest.MonkeyPatch) -> Found:
    """Loss and log-probability of winners that are found before the first step and then."""
    found: Found = []
    monkeypatch.setattr(objective.ContrastObjective, "measure", lambda *_: Measured(*found.pop(0)))
    return found


def test_weights_that_make_winning_paths_less_likely_are_not_the_best(
    tmp_path: Path, validations: Found
) -> None:
    validations += [(3.0, -2.0), (2.9, -2.1), (2.5, -1.9), (2.6, -1.8), (2.0, -2.1)]
    validations += [(1.0, -3.0), (1.0, -3.0), (0.9, -3.0)]
    result = contrasted(tmp_path, settings=replace(CONTRAST, patience=4))
    assert (result.steps, result.best_step, result.stopped_early) == (6, 2, True)
    assert (result.validation_loss, result.winner_logp) == (2.5, -1.9)
    assert result.first_winner_logp == -2.0


@pytest.mark.parametrize(("patience", "steps"), [(4, 4), (0, 10)])
def test_a_training_that_only_makes_winning_paths_less_likely_writes_nothing(
    tmp_path: Path, validations: Found, patience: int, steps: int
) -> None:
    validations += [(3.0, -2.0), *([(2.0, -2.1)] * 10)]
    with pytest.raises(WorkFailed, match=rf"less likely.*step {steps} of 10.*learning_rate"):
        contrasted(tmp_path, settings=replace(CONTRAST, patience=patience))
    assert not (tmp_path / "out").exists()


def test_without_held_out_questions_the_trained_ones_are_watched(tmp_path: Path) -> None:
    examples = [replace(example, validation=False) for example in some_examples()]
    listener = Listener()
    result = contrasted(
        tmp_path, examples=examples, contrast=contrast_set(examples=examples), progress=listener
    )
    assert result.validation_loss is None
    assert all("val_loss" not in values for values in listener.measured.values())
    assert result.winner_logp > result.first_winner_logp


def test_losers_whose_winners_do_not_fit_are_left_out(tmp_path: Path) -> None:
    tiny_model(tmp_path / "base", context=64)
    examples = [
        replace(example, token_ids=example.token_ids * 4)
        if example.question_id == 1 and example.path_id is not None
        else example
        for example in some_examples()
    ]
    result = contrasted(tmp_path, examples=examples)
    assert result.left_out == 2
    assert result.losing_examples == len(
        [example for example in contrast_set().losers if example.question_id not in (0, 1)]
    )


def test_other_losing_paths_are_another_training(tmp_path: Path) -> None:
    contrasted(tmp_path)
    first = weights(tmp_path / "out")
    other = contrast_set()
    contrasted(tmp_path, contrast=replace(other, losers=other.losers[:2]))
    again = weights(tmp_path / "out")
    assert not torch.equal(next(iter(first.values())), next(iter(again.values())))

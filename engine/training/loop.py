"""Train a model on a frozen set: LoRA or all weights, on a CPU or CUDA devices.

The seed fixes the order of the examples before the first step, the loss of a step is divided by the
weighted tokens of the whole step, and a checkpoint holds everything that changes from step to step.
A training that was killed and restarted therefore ends with the weights of an uninterrupted one:
bit for bit on a CPU with the same number of threads.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from engine.packing.encoding import encode
from engine.project.job_context import PauseRequested
from engine.project.settings import TooLong
from engine.training import checkpoints
from engine.training.data_parallel import SINGLE_PROCESS, DataParallel
from engine.training.distillation import with_teacher
from engine.training.model import context_length, end_tokens, load_model
from engine.training.passes import (
    PassInterrupted,
    accumulate_gradients,
    mean_loss,
    pack_rows,
    try_largest_batch,
    verify_packing,
)
from store.counted import counted
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.packing.encoding import EncodedExample, TopKLogprobs
    from engine.packing.prefix_tree import PackedRow
    from engine.project.settings import TrainSettings
    from engine.training.model import TrainableModel
    from store.enums import PromptStyle
    from store.records import Example

_log = logging.getLogger(__name__)

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; then it falls to 0 as a cosine."""
VALIDATIONS = 10
"""Number of validations in a training; the last one follows the last step."""
CLIP = 1.0
"""Maximum norm of the gradient over all trainable weights; a longer one is scaled down."""
CHECKPOINT_SECONDS = 30.0
"""Seconds between checkpoints, which a kill may lose. Large ones take up to 5 % of the time."""


class Watcher(Protocol):
    """Receives the progress of a training, as `engine.project.job_context.Progress` does."""

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """`done` of `total` steps are done."""

    def advance(self, done: int, total: int) -> None:
        """A step is done."""

    def measure(self, step: int, values: Mapping[str, float], *, always: bool = False) -> None:
        """Metrics of a step: loss, learning_rate, tokens_per_second, and sometimes val_loss."""

    def look(self) -> None:
        """Called before each batch. An exception that it raises discards the unfinished step and
        ends the training after a checkpoint."""


@dataclass(frozen=True, slots=True)
class TrainingResult:
    """Summary of a finished training."""

    steps: int
    """Optimizer steps."""
    examples: int
    """Training examples; those held out or left out are not counted."""
    validation_examples: int
    left_out: int
    """Examples of weight 0, or longer than the model's context."""
    shares_prefixes: bool
    """Whether shared prefixes were computed once; False: each example in a row of its own, with
    equal results."""
    scored_tokens: int
    """Tokens of completions in all steps, as if each example had a row of its own."""
    seconds: float
    """Time in the loop, over all restarts."""
    loss: float
    """Mean over the last step, in nats per weighted token."""
    first_validation_loss: float | None
    """Before the first step; None without validation examples."""
    validation_loss: float | None
    """Of the weights that were written: the lowest after any step."""
    best_step: int
    """The step after which the written weights were taken, from 1 to `steps`."""
    stopped_early: bool = False
    """Whether it ended before its last step, because the validation loss no longer improved."""


def train(
    base: Path,
    examples: Sequence[Example],
    settings: TrainSettings,
    *,
    out: Path,
    work: Path,
    style: PromptStyle,
    progress: Watcher,
    threads: int | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    teacher: Mapping[int, TopKLogprobs] | None = None,
    parallel: DataParallel = SINGLE_PROCESS,
) -> TrainingResult:
    """Train `base` on `examples` and write an adapter or a whole model to `out`.

    The same call again continues from the checkpoint in `work`, and only returns the result if
    `out` is already complete. If several processes train together, each makes this call, and the
    first of them writes all files.

    Args:
        base: Hugging Face folder.
        examples: of one training set; some of them held out for validation.
        settings: method, rate, epochs, examples per step, patience, seed.
        out: folder that appears when the training has finished.
        work: folder for checkpoints of this training alone; removed at its end.
        style: how the prompts of the set are rendered.
        progress: receives every step.
        threads: CPU threads; None is torch's default.
        checkpoint_seconds: time between checkpoints; 0 writes one after each step.
        teacher: the teacher's log-probabilities by path id, for a share `settings.mix` of the
            loss. Validation measures the path loss alone in any case.
        parallel: the place of this process among those that train together.

    Raises:
        BadInput: the base is not such a folder, there is nothing to train on, or the method cannot
            run on this machine.
        WorkFailed: the loss is not finite, or the device ran out of memory.
    """
    if threads:
        torch.set_num_threads(threads)
    purpose = checkpoints.fingerprint(base, examples, settings, style)
    if (summary := checkpoints.finished(out, purpose)) is not None:
        return TrainingResult(**summary)

    model = load_model(base, settings, parallel)
    training, validation = _split_examples(model, base.name, examples, settings, style, teacher)
    try:
        model = verify_packing(model, training)
    except PassInterrupted as interrupted:
        raise (interrupted.reason or PauseRequested()) from None
    optimizer = torch.optim.AdamW(model.weights.values(), lr=0.0, weight_decay=0.0)
    loop = _Loop(
        model=model,
        optimizer=optimizer,
        settings=settings,
        steps=[[training[number] for number in step] for step in schedule(training, settings)],
        validation=pack_rows(model, validation),
        progress=progress,
        work=work,
        purpose=purpose,
        state=checkpoints.resume(work, purpose, model, optimizer),
    )
    _check_same_checkpoint(loop)
    progress.begin(f"training {base.name}", len(loop.steps), loop.state.step)
    try:
        loop.run(checkpoint_seconds)
    except PassInterrupted as interrupted:
        # The gradients of an unfinished step are discarded: the whole step is repeated.
        optimizer.zero_grad()
        loop.save()
        raise (interrupted.reason or PauseRequested()) from None
    loop.restore_best()

    state = loop.state
    result = TrainingResult(
        steps=state.step,
        examples=len(training),
        validation_examples=len(validation),
        left_out=len(examples) - len(training) - len(validation),
        shares_prefixes=model.shares_prefixes,
        scored_tokens=state.scored_tokens,
        seconds=state.seconds,
        loss=state.loss,
        first_validation_loss=state.first_validation_loss,
        validation_loss=state.best_loss,
        best_step=state.best_step,
        stopped_early=state.step < len(loop.steps),
    )
    if parallel.is_main:
        checkpoints.write(out, base, model, {"purpose": purpose, "trained": asdict(result)})
        shutil.rmtree(work)
    return result


def _split_examples(
    model: TrainableModel,
    name: str,
    examples: Sequence[Example],
    settings: TrainSettings,
    style: PromptStyle,
    teacher: Mapping[int, TopKLogprobs] | None,
) -> tuple[list[EncodedExample], list[EncodedExample]]:
    """Encode the examples, and split those that have a weight and fit into the context.

    Returns:
        Training examples and validation examples.

    Raises:
        BadInput: an example is too long and the settings refuse that, or nothing is left to train
            on.
    """
    encoded = encode(examples, model.tokenizer, style, end_tokens(model))
    if teacher:
        encoded = with_teacher(encoded, examples, teacher, settings.mix)
    context = context_length(model)
    training: list[EncodedExample] = []
    validation: list[EncodedExample] = []
    too_long: list[int] = []
    for example, row in zip(encoded, examples, strict=True):
        if example.weight <= 0:
            continue
        if len(example.tokens) > context:
            too_long.append(row.position)
        else:
            (validation if row.validation else training).append(example)
    if too_long and settings.too_long is TooLong.REFUSE:
        raise BadInput(
            f"{len(too_long):,} of {counted(len(examples), 'example is', 'examples are')} longer "
            f"than the {context:,} tokens of {name}, the first one at position {too_long[0]} of "
            "the set: set too_long "
            "to leave-out to train without them, or use a model with a longer context."
        )
    left_out = len(examples) - len(training) - len(validation)
    if not training:
        raise BadInput(
            f"Nothing is left to train {name} on: of {counted(len(examples), 'example')}, "
            f"{left_out:,} have weight 0 or more than its {context:,} tokens, and "
            f"{len(validation):,} are held out; sample more questions, or use a model with a "
            "longer context."
        )
    if left_out:
        _log.warning(
            "%d of %d examples are left out: weight 0, or longer than the model's %d tokens.",
            left_out,
            len(examples),
            context,
        )
    return training, validation


def _check_same_checkpoint(loop: _Loop) -> None:
    parallel, step = loop.model.parallel, loop.state.step
    if parallel.sum_all(step) != [parallel.processes * step]:
        raise WorkFailed(
            f"The processes do not see the same checkpoint in {loop.work}: put the project on a "
            "file system that all machines share."
        )


@dataclass(slots=True)
class _Loop:
    """The steps of a training, with their validations and checkpoints."""

    model: TrainableModel
    optimizer: torch.optim.Optimizer
    settings: TrainSettings
    steps: list[list[EncodedExample]]
    """Examples of each optimizer step."""
    validation: list[PackedRow]
    progress: Watcher
    work: Path
    purpose: str
    state: checkpoints.TrainingState

    def run(self, checkpoint_seconds: float) -> None:
        """Take all steps that are left.

        Raises:
            PassInterrupted: in a step or a validation.
            WorkFailed: a metric is not finite.
        """
        saved_at, save_seconds = time.monotonic(), 0.0
        if self.state.step == 0:
            self._start()
        while self._is_validation_due() or not self._is_over():
            began = time.monotonic()
            metrics: dict[str, float] = {}
            if not self._is_validation_due():  # else interrupted between a step and its validation
                metrics = self._take_step()
            if self._is_validation_due():
                metrics["val_loss"] = self._validate()
            self._check_finite(metrics)
            self.state.seconds += time.monotonic() - began
            self.progress.advance(self.state.step, len(self.steps))
            self.progress.measure(self.state.step, metrics, always="val_loss" in metrics)
            interval = checkpoint_seconds and max(checkpoint_seconds, 20 * save_seconds)
            saving_at = time.monotonic()
            if saving_at - saved_at >= interval or self.state.step == len(self.steps):
                self.save()
                saved_at = time.monotonic()
                save_seconds = saved_at - saving_at

    def save(self) -> None:
        """Write a checkpoint."""
        if self.model.parallel.is_main:
            checkpoints.save(self.work, self.purpose, self.model, self.optimizer, self.state)

    def restore_best(self) -> None:
        """Load the weights with the lowest validation loss; without validation, keep the last."""
        state = self.state
        if state.best_loss is None:
            state.best_step = state.step
        elif state.best_step < state.step and self.model.parallel.is_main:
            checkpoints.read_weights(self.model, checkpoints.best(self.work, state.best_step))

    def _start(self) -> None:
        """Check that memory is sufficient, and measure the validation loss before training."""
        try_largest_batch(self.model, self.steps)
        if self.validation:
            loss = mean_loss(self.model, self.validation, self.progress.look)
            self.state.first_validation_loss = loss
            self.progress.measure(0, {"val_loss": loss}, always=True)

    def _take_step(self) -> dict[str, float]:
        """Take one optimizer step and return its metrics."""
        began = time.monotonic()
        examples = self.steps[self.state.step]
        rate = self.settings.learning_rate * _rate_factor(self.state.step, len(self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = accumulate_gradients(self.model, examples, self.progress.look)
        torch.nn.utils.clip_grad_norm_(self.model.weights.values(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()

        tokens = sum(len(example.completion) for example in examples)
        speed = tokens / max(time.monotonic() - began, 1e-9)
        self.state.step += 1
        self.state.loss = loss
        self.state.scored_tokens += tokens
        return {"loss": loss, "learning_rate": rate, "tokens_per_second": speed}

    def _validate(self) -> float:
        """Measure the validation loss, and write the weights if they are the best so far."""
        state = self.state
        loss = mean_loss(self.model, self.validation, self.progress.look)
        state.validated = state.step
        if state.best_loss is None or loss < state.best_loss:
            state.best_loss, state.best_step = loss, state.step
            if self.model.parallel.is_main:
                checkpoints.write_weights(self.model, checkpoints.best(self.work, state.step))
        return loss

    def _is_validation_due(self) -> bool:
        state = self.state
        is_pending = state.validated < state.step and _is_validated(state.step, len(self.steps))
        return bool(self.validation) and is_pending

    def _is_over(self) -> bool:
        """Whether no step is left, or the loss did not improve in `patience` validations."""
        state, patience = self.state, self.settings.patience
        if state.step == len(self.steps):
            return True
        since_best = range(state.best_step + 1, state.validated + 1)
        without_improvement = sum(_is_validated(step, len(self.steps)) for step in since_best)
        return state.best_loss is not None and 0 < patience <= without_improvement

    def _check_finite(self, metrics: Mapping[str, float]) -> None:
        if not all(map(math.isfinite, metrics.values())):
            raise WorkFailed(
                f"The loss is not finite at step {self.state.step} of {len(self.steps)}: lower "
                f"the learning rate (it is {self.settings.learning_rate}) and train again."
            )


def schedule(examples: Sequence[EncodedExample], settings: TrainSettings) -> list[list[int]]:
    """Assign examples to optimizer steps.

    Examples of one question in one format stay together, so that they share their prompt, and a
    direct answer of weight k stands for k copies in one step. Each epoch has its own order. A step
    may continue into the next epoch, and ends when the weights of its examples sum to
    `settings.examples_per_step`.

    Returns:
        The indices of each step's examples; a fraction of an epoch takes that fraction of the
        groups.
    """
    groups: dict[tuple[int, str], list[int]] = {}
    for number, example in enumerate(examples):
        groups.setdefault((example.question_id, example.prompt_format), []).append(number)
    units = list(groups.values())
    order: list[int] = []
    for epoch in range(math.ceil(settings.epochs)):
        order += np.random.default_rng([settings.seed, epoch]).permutation(len(units)).tolist()
    steps: list[list[int]] = []
    step: list[int] = []
    weight = 0.0
    for unit in order[: max(1, round(settings.epochs * len(units)))]:
        step += units[unit]
        weight += sum(examples[number].weight for number in units[unit])
        if weight >= settings.examples_per_step - 1e-9:
            steps.append(step)
            step, weight = [], 0.0
    return [*steps, step] if step else steps


def _rate_factor(step: int, steps: int) -> float:
    """Factor of the learning rate at a step (from 0): linear warm-up, then a cosine to 0."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def _is_validated(step: int, steps: int) -> bool:
    """Whether a validation follows this step."""
    return step == steps or step * VALIDATIONS // steps > (step - 1) * VALIDATIONS // steps

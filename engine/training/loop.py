"""Train a model on a frozen set: LoRA or all weights, on a CPU or CUDA devices.

The seed fixes the order of the examples before the first step, the loss of a step is divided by the
weighted tokens of the whole step, and a checkpoint holds everything that changes from step to step.
A training that was killed and restarted therefore ends with the weights of an uninterrupted one:
bit for bit on a CPU with the same number of threads.
"""

from __future__ import annotations

import math
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from engine.project.job_context import PauseRequested
from engine.training import checkpoints
from engine.training.contrast.objective import ContrastObjective
from engine.training.data_parallel import SINGLE_PROCESS, DataParallel
from engine.training.model import load_model
from engine.training.objectives import MajorityObjective
from engine.training.passes import (
    PassInterrupted,
    keep_activations_if_they_fit,
    pack_rows,
    try_largest_batch,
    verify_packing,
)
from engine.training.schedule import is_validated, rate_factor, schedule
from engine.training.split import split_examples
from store.errors import WorkFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.packing.encoding import EncodedExample, TopKLogprobs
    from engine.project.settings import TrainSettings
    from engine.training.contrast.losses import ContrastSet
    from engine.training.model import TrainableModel
    from engine.training.objectives import Measured, Objective
    from store.enums import PromptStyle
    from store.records import Example

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
    """Whether it ended before its last step, because the validation loss no longer improved, or
    because winning paths became less likely."""
    losing_examples: int = 0
    """Losing paths that were trained on, as examples; 0 without a contrast."""
    first_winner_logp: float | None = None
    """Mean log-probability of a sample of the trained winning paths before the first step, in nats
    per weighted token; None without a contrast."""
    winner_logp: float | None = None
    """The same of the weights that were written."""


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
    contrast: ContrastSet | None = None,
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
        contrast: the losing paths, if the objective is their contrast with the examples.
        parallel: the place of this process among those that train together.

    Raises:
        BadInput: the base is not such a folder, there is nothing to train on, or the method cannot
            run on this machine.
        WorkFailed: the loss is not finite, the device ran out of memory, or a contrast made the
            winning paths less likely.
    """
    if threads:
        torch.set_num_threads(threads)
    purpose = checkpoints.fingerprint(
        base, examples, settings, style, contrast.content() if contrast else ()
    )
    if (summary := checkpoints.finished(out, purpose)) is not None:
        return TrainingResult(**summary)

    model = load_model(base, settings, parallel)
    training, validation = split_examples(
        model, base.name, examples, settings, style, teacher, contrast
    )
    try:
        model = verify_packing(model, training)
    except PassInterrupted as interrupted:
        raise (interrupted.reason or PauseRequested()) from None
    optimizer = torch.optim.AdamW(model.weights.values(), lr=0.0, weight_decay=0.0)
    numbers = schedule(training, settings)
    steps = [[training[number] for number in step] for step in numbers]
    objective: Objective = MajorityObjective(model, steps, pack_rows(model, validation))
    if contrast is not None:
        objective = ContrastObjective(
            model, contrast.contrast, training, numbers, validation, settings.seed
        )
    loop = _Loop(
        model=model,
        optimizer=optimizer,
        settings=settings,
        steps=steps,
        objective=objective,
        has_validation=bool(validation),
        progress=progress,
        work=work,
        purpose=purpose,
        state=checkpoints.resume(work, purpose, model, optimizer),
    )
    _check_same_checkpoint(loop)
    try:
        loop.prepare()
        progress.begin(f"training {base.name}", len(loop.steps), loop.state.step)
        loop.run(checkpoint_seconds)
    except PassInterrupted as interrupted:
        # The gradients of an unfinished step are discarded: the whole step is repeated.
        optimizer.zero_grad()
        loop.save()
        raise (interrupted.reason or PauseRequested()) from None
    loop.restore_best()

    state = loop.state
    winners, held_out = _count_winners(training), _count_winners(validation)
    result = TrainingResult(
        steps=state.step,
        examples=winners,
        validation_examples=held_out,
        left_out=len(examples) - winners - held_out,
        shares_prefixes=model.shares_prefixes,
        scored_tokens=state.scored_tokens,
        seconds=state.seconds,
        loss=state.loss,
        first_validation_loss=state.first_validation_loss,
        validation_loss=state.best_loss if validation else None,
        best_step=state.best_step,
        stopped_early=state.step < len(loop.steps),
        losing_examples=len(training) - winners,
        first_winner_logp=state.first_winner_logp,
        winner_logp=state.winner_logp,
    )
    if parallel.is_main:
        checkpoints.write(out, base, model, {"purpose": purpose, "trained": asdict(result)})
        shutil.rmtree(work)
    return result


def _count_winners(examples: Sequence[EncodedExample]) -> int:
    return sum(example.contrast is None or example.contrast.wins for example in examples)


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
    objective: Objective
    has_validation: bool
    """Whether examples are held out."""
    progress: Watcher
    work: Path
    purpose: str
    state: checkpoints.TrainingState

    def prepare(self) -> None:
        """Check that memory is sufficient, and compute what the objective needs.

        Raises:
            PassInterrupted: before the end.
        """
        keep_activations_if_they_fit(self.model, self.steps)
        if self.state.step == 0:
            try_largest_batch(self.model, self.steps)
        if self.objective.is_prepared(self.state):
            self.objective.prepare(self.state, self.progress.look)
            return
        self.progress.begin("scoring paths before training", 0)
        self.objective.prepare(self.state, self.progress.look)
        self.save()

    def run(self, checkpoint_seconds: float) -> None:
        """Take all steps that are left.

        Raises:
            PassInterrupted: in a step or a validation.
            WorkFailed: a metric is not finite.
        """
        saved_at, save_seconds = time.monotonic(), 0.0
        if self.state.step == 0 and self.objective.is_measured:
            first = self.objective.measure(self.progress.look)
            self.state.first_winner_logp = first.winner_logp
            if self.has_validation:
                self.state.first_validation_loss = first.loss
            self.progress.measure(0, self._metrics_of(first), always=True)
        while self._is_validation_due() or not self._is_over():
            began = time.monotonic()
            metrics: dict[str, float] = {}
            if not self._is_validation_due():  # else interrupted between a step and its validation
                metrics = self._take_step()
            if self._is_validation_due():
                metrics |= self._validate()
            self._check_finite(metrics)
            self.state.seconds += time.monotonic() - began
            self.progress.advance(self.state.step, len(self.steps))
            is_validated = self.state.validated == self.state.step
            self.progress.measure(self.state.step, metrics, always=is_validated)
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
        """Load the weights with the lowest validation loss; without validation, keep the last.

        Raises:
            WorkFailed: winning paths are less likely after every validation.
        """
        state = self.state
        if state.best_loss is None and state.validated:
            raise WorkFailed(
                "The winning paths were less likely than before training at each validation until "
                f"step {state.step} of {len(self.steps)}, so nothing is kept: lower "
                f"finetune.learning_rate (it is {self.settings.learning_rate}), or choose "
                "finetune.contrast_loss dpo with a larger finetune.likelihood_weight."
            )
        if state.best_loss is None:
            state.best_step = state.step
        elif state.best_step < state.step and self.model.parallel.is_main:
            checkpoints.read_weights(self.model, checkpoints.best(self.work, state.best_step))

    def _take_step(self) -> dict[str, float]:
        """Take one optimizer step and return its metrics."""
        began = time.monotonic()
        examples = self.steps[self.state.step]
        rate = self.settings.learning_rate * rate_factor(self.state.step, len(self.steps))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self.objective.accumulate(self.state, self.progress.look)
        torch.nn.utils.clip_grad_norm_(self.model.weights.values(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()

        tokens = sum(len(example.completion) for example in examples)
        speed = tokens / max(time.monotonic() - began, 1e-9)
        self.state.step += 1
        self.state.loss = loss
        self.state.scored_tokens += tokens
        return {"loss": loss, "learning_rate": rate, "tokens_per_second": speed}

    def _validate(self) -> dict[str, float]:
        """Measure the weights, and write them if they are the best so far.

        Weights under which winning paths are less likely than before training never are. That is
        no reason to stop at once: it often passes while the learning rate falls.
        """
        state = self.state
        measured = self.objective.measure(self.progress.look)
        state.validated = state.step
        before, now = state.first_winner_logp, measured.winner_logp
        winners_fell = before is not None and now is not None and now < before
        is_better = state.best_loss is None or measured.loss < state.best_loss
        if is_better and not winners_fell:
            state.best_loss, state.best_step = measured.loss, state.step
            state.winner_logp = now
            if self.model.parallel.is_main:
                checkpoints.write_weights(self.model, checkpoints.best(self.work, state.step))
        return self._metrics_of(measured)

    def _metrics_of(self, measured: Measured) -> dict[str, float]:
        metrics = {"val_loss": measured.loss} if self.has_validation else {}
        if measured.winner_logp is not None:
            metrics["winner_logp"] = measured.winner_logp
        return metrics

    def _is_validation_due(self) -> bool:
        state = self.state
        is_pending = state.validated < state.step and is_validated(state.step, len(self.steps))
        return self.objective.is_measured and is_pending

    def _is_over(self) -> bool:
        """Whether no step is left, or no better weights were found in `patience` validations."""
        state, patience = self.state, self.settings.patience
        if state.step == len(self.steps):
            return True
        since_best = range(state.best_step + 1, state.validated + 1)
        without_improvement = sum(is_validated(step, len(self.steps)) for step in since_best)
        return 0 < patience <= without_improvement

    def _check_finite(self, metrics: Mapping[str, float]) -> None:
        if not all(map(math.isfinite, metrics.values())):
            raise WorkFailed(
                f"The loss is not finite at step {self.state.step} of {len(self.steps)}: lower "
                f"the learning rate (it is {self.settings.learning_rate}) and train again."
            )

"""Train a model on a frozen set: LoRA or all weights, on a CPU or CUDA devices.

The order of the work is fixed by the seed before the first step, every step's loss is divided by
the weighted tokens of the whole step, and a checkpoint holds all that changes from step to step.
So a run that was killed and started again ends with the weights of one that was left alone: bit
for bit on a CPU with the same number of threads.
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

from engine.packing import prefix_tree
from engine.project.job_context import PauseWished
from engine.project.settings import TooLong
from engine.training import checkpoints, distillation
from engine.training import loss as objective
from engine.training import model as learner
from engine.training.data_parallel import ALONE, Ranks
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.packing.prefix_tree import Encoded
    from engine.project.settings import TrainSettings
    from engine.training.kl_divergence import Likely
    from store.enums import PromptStyle
    from store.records import Example

_log = logging.getLogger(__name__)

WARM_UP = 0.05
"""Share of the steps in which the learning rate rises; then it falls to 0 as a cosine."""
VALIDATIONS = 10
"""How often the validation loss is taken in a run, the last time after the last step."""
CLIP = 1.0
"""Longest gradient (its norm over all learnt weights); longer ones are scaled down."""
CHECKPOINT_SECONDS = 30.0
"""Seconds between checkpoints: what a kill may cost. Large ones take a twentieth of the time."""


class Watcher(Protocol):
    """Who hears how the training goes; `engine.project.settings.job_context.Progress` is one."""

    def begin(self, title: str, total: int, done: int = 0) -> None:
        """`done` of `total` steps are done."""

    def advance(self, done: int, total: int) -> None:
        """A step is done."""

    def measure(self, step: int, values: Mapping[str, float], *, always: bool = False) -> None:
        """Numbers after a step: loss, learning_rate, tokens_per_second, and at times val_loss."""

    def look(self) -> None:
        """Called before each batch; what it raises throws the unfinished step away and ends the
        training after a checkpoint."""


@dataclass(frozen=True, slots=True)
class Trained:
    """How a training went."""

    steps: int
    """Optimizer steps."""
    examples: int
    """Rows that were learnt from; those held out or left out are not counted."""
    validation_examples: int
    left_out: int
    """Rows longer than the model's context."""
    shares_prefixes: bool
    """Whether common beginnings were evaluated once; False: each row alone, with equal results."""
    scored_tokens: int
    """Tokens of completions behind all steps, as if each example stood alone."""
    seconds: float
    """Time in the loop, over all sessions."""
    loss: float
    """Mean over the last step, in nats per weighted token."""
    first_validation_loss: float | None
    """Before the first step; None without validation examples."""
    validation_loss: float | None
    """Of the weights that were written: the lowest that was met after a step."""
    best_step: int
    """The step after which the written weights were taken, from 1 to `steps`."""
    stopped_early: bool = False
    """Whether it ended before its last step, because validations brought nothing any more."""


def train(  # noqa: PLR0912, PLR0915 - one training, to be read from top to bottom
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
    teacher: Mapping[int, Likely] | None = None,
    ranks: Ranks = ALONE,
) -> Trained:
    """Train `base` on `examples` and write an adapter or a whole model to `out`.

    The same call again goes on from the checkpoint in `work`, and does nothing but return when
    `out` was finished before. Where several processes train together, each makes this call, and
    the first of them writes what is written.

    Args:
        base: Hugging Face folder.
        examples: of one training set; some of them held out as validation.
        settings: method, rate, epochs, examples behind a step, patience, seed.
        out: folder that appears when the training is finished, whole.
        work: folder for checkpoints; belongs to this training alone, removed at its end.
        style: how the prompts of the set are rendered.
        progress: hears of every step.
        threads: of the processor; None is torch's own choice.
        checkpoint_seconds: time between checkpoints; 0 writes one after each step.
        teacher: what a teacher thought likely, by path id, for a share `settings.mix` of the loss.
            Validation is about the path loss alone, whatever is learnt from.
        ranks: which of the processes this is, and how many there are.

    Raises:
        BadInput: the base is no such folder, there is nothing to learn from, or the method cannot
            run on this machine.
        WorkFailed: the loss stopped being a number, or the device ran out of memory.
    """
    if threads:
        torch.set_num_threads(threads)
    purpose = checkpoints.fingerprint(base, examples, settings, style)
    if (done := checkpoints.finished(out, purpose)) is not None:
        return Trained(**done)

    model = learner.load(base, settings, ranks)
    encoded = prefix_tree.encode(examples, model.tokenizer, style, learner.ends(model))
    if teacher:
        encoded = distillation.with_teacher(encoded, examples, teacher, settings.mix)
    longest = learner.context(model)
    pairs = [
        (one, row.validation)
        for one, row in zip(encoded, examples, strict=True)
        if one.weight > 0 and len(one.tokens) <= longest
    ]
    learnt = [one for one, is_held in pairs if not is_held]
    held = [one for one, is_held in pairs if is_held]
    long = [
        row.position
        for one, row in zip(encoded, examples, strict=True)
        if one.weight > 0 and len(one.tokens) > longest
    ]
    if long and settings.too_long is TooLong.REFUSE:
        raise BadInput(
            f"{len(long):,} of {len(examples):,} examples are longer than the {longest:,} tokens "
            f"of {base.name}, the first at place {long[0]} of the set: set too_long to leave-out "
            "to train without them, or take a model with a longer context."
        )
    if not learnt:
        raise BadInput(
            f"Nothing is left to train {base.name} on: of {len(examples)} examples, "
            f"{len(examples) - len(pairs)} weigh nothing or are longer than its {longest} tokens, "
            f"and {len(held)} are held out; sample more questions, or take a model with a longer "
            "context."
        )
    if len(pairs) < len(examples):
        _log.warning(
            "%d of %d examples weigh nothing or are longer than the model's %d tokens: left out.",
            len(examples) - len(pairs),
            len(examples),
            longest,
        )
    try:
        model = objective.checked(model, learnt)
    except objective.Stopped as stopped:
        raise (stopped.reason or PauseWished()) from None
    validation = objective.rows(model, held)
    steps = schedule(learnt, settings)

    optimizer = torch.optim.AdamW(model.weights.values(), lr=0.0, weight_decay=0.0)
    state = checkpoints.resume(work, purpose, model, optimizer)
    if ranks.sums(state.step) != [ranks.count * state.step]:
        raise WorkFailed(
            f"The processes do not see the same checkpoint in {work}: the project must lie on a "
            "file system that all machines share."
        )
    progress.begin(f"training {base.name}", len(steps), state.step)
    saved_at, save_took = time.monotonic(), 0.0

    def keep() -> None:
        if ranks.writes:
            checkpoints.save(work, purpose, model, optimizer, state)

    def is_validation_due() -> bool:
        due = state.validated < state.step and _is_validated(state.step, len(steps))
        return bool(validation) and due

    try:
        if state.step == 0:
            objective.try_longest(model, [[learnt[number] for number in step] for step in steps])
            if validation:
                state.first_validation_loss = objective.mean_loss(model, validation, progress.look)
                progress.measure(0, {"val_loss": state.first_validation_loss}, always=True)
        while is_validation_due() or not _is_over(state, len(steps), settings.patience):
            began = time.monotonic()
            measured: dict[str, float] = {}
            if not is_validation_due():  # else it was stopped between the step and its validation
                chosen = [learnt[number] for number in steps[state.step]]
                rate = settings.learning_rate * _rate(state.step, len(steps))
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss = objective.gradients(model, chosen, progress.look)
                torch.nn.utils.clip_grad_norm_(model.weights.values(), CLIP)
                optimizer.step()
                optimizer.zero_grad()

                tokens = sum(len(one.completion) for one in chosen)
                speed = tokens / max(time.monotonic() - began, 1e-9)
                state.step += 1
                state.loss = loss
                state.scored_tokens += tokens
                measured = {"loss": loss, "learning_rate": rate, "tokens_per_second": speed}
            if is_validation_due():
                measured["val_loss"] = objective.mean_loss(model, validation, progress.look)
                state.validated = state.step
                if state.best_loss is None or measured["val_loss"] < state.best_loss:
                    state.best_loss, state.best_step = measured["val_loss"], state.step
                    if ranks.writes:
                        checkpoints.write_weights(model, checkpoints.best(work, state.step))
            if not all(map(math.isfinite, measured.values())):
                raise WorkFailed(
                    f"The loss stopped being a number at step {state.step} of {len(steps)}: lower "
                    f"the learning rate (it is {settings.learning_rate}) and train again."
                )
            state.seconds += time.monotonic() - began
            progress.advance(state.step, len(steps))
            progress.measure(state.step, measured, always="val_loss" in measured)
            due = checkpoint_seconds and max(checkpoint_seconds, 20 * save_took)
            if time.monotonic() - saved_at >= due or state.step == len(steps):
                saving = time.monotonic()
                keep()
                saved_at = time.monotonic()
                save_took = saved_at - saving
    except objective.Stopped as stopped:
        # Gradients of a part of a step are thrown away: the step is taken again, as a whole.
        optimizer.zero_grad()
        keep()
        raise (stopped.reason or PauseWished()) from None

    if state.best_loss is None:
        state.best_step = state.step
    elif state.best_step < state.step and ranks.writes:
        checkpoints.read_weights(model, checkpoints.best(work, state.best_step))
    trained = Trained(
        steps=state.step,
        examples=len(learnt),
        validation_examples=len(held),
        left_out=len(examples) - len(pairs),
        shares_prefixes=model.shares,
        scored_tokens=state.scored_tokens,
        seconds=state.seconds,
        loss=state.loss,
        first_validation_loss=state.first_validation_loss,
        validation_loss=state.best_loss,
        best_step=state.best_step,
        stopped_early=state.step < len(steps),
    )
    if ranks.writes:
        checkpoints.write(out, base, model, {"purpose": purpose, "trained": asdict(trained)})
        shutil.rmtree(work)
    return trained


def schedule(learnt: Sequence[Encoded], settings: TrainSettings) -> list[list[int]]:
    """The examples behind each optimizer step, by number.

    Rows of one question in one format stay together, so that they share their prompt and a direct
    answer of weight k is one step's k copies. Each epoch has its own order; steps go on across
    epochs, and end once the weights of their rows sum to `settings.examples_per_step`.

    Returns:
        One list for each step; a fraction of an epoch takes that fraction of the groups.
    """
    groups: dict[tuple[int, str], list[int]] = {}
    for number, one in enumerate(learnt):
        groups.setdefault((one.question_id, one.prompt_format), []).append(number)
    units = list(groups.values())
    order: list[int] = []
    for epoch in range(math.ceil(settings.epochs)):
        order += np.random.default_rng([settings.seed, epoch]).permutation(len(units)).tolist()
    steps: list[list[int]] = []
    step: list[int] = []
    weight = 0.0
    for unit in order[: max(1, round(settings.epochs * len(units)))]:
        step += units[unit]
        weight += sum(learnt[number].weight for number in units[unit])
        if weight >= settings.examples_per_step - 1e-9:
            steps.append(step)
            step, weight = [], 0.0
    return [*steps, step] if step else steps


def _rate(step: int, steps: int) -> float:
    """Share of the learning rate at a step (from 0): linear warm-up, then a cosine to 0."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def _is_over(state: checkpoints.State, steps: int, patience: int) -> bool:
    """Whether no step is left, or so many validations in a row brought nothing."""
    if state.step == steps:
        return True
    since = range(state.best_step + 1, state.validated + 1)
    barren = sum(_is_validated(step, steps) for step in since)
    return state.best_loss is not None and 0 < patience <= barren


def _is_validated(step: int, steps: int) -> bool:
    return step == steps or step * VALIDATIONS // steps > (step - 1) * VALIDATIONS // steps

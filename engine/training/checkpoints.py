"""Files of a training: checkpoints on the way, and the adapter or model at its end.

Every file and folder is written under a temporary name and renamed when it is complete, so a kill
at any moment leaves the last complete one.
"""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from store.atomic_file import atomic_file, atomic_folder
from store.records import content_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from engine.project.settings import TrainSettings
    from engine.training.model import TrainableModel
    from store.enums import PromptStyle
    from store.records import Example

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
SUMMARY = "training.json"


@dataclass(slots=True)
class TrainingState:
    """Everything that changes from step to step, apart from weights and optimizer."""

    step: int = 0
    scored_tokens: int = 0
    seconds: float = 0.0
    loss: float = math.nan
    first_validation_loss: float | None = None
    best_loss: float | None = None
    best_step: int = 0
    validated: int = 0
    """The last step after which the validation loss was measured."""
    reference: list[float] = field(default_factory=list)
    """Of a contrast: log-likelihood of each example before training, in nats."""
    reference_point: float = 0.0
    """Of a contrast: z of KTO for the next step."""
    first_winner_logp: float | None = None
    """Of a contrast: mean log-probability of the winning paths before the first step."""
    winner_logp: float | None = None
    """The same of the best weights."""


def fingerprint(
    base: Path,
    examples: Sequence[Example],
    settings: TrainSettings,
    style: PromptStyle,
    others: Sequence[object] = (),
) -> str:
    """Hash of everything that decides the weights: a checkpoint with another hash is ignored.

    `others` is what decides them in addition, if anything.
    """
    files = sorted(path for path in base.glob("*") if path.suffix in (".json", ".safetensors"))
    return content_hash(
        [
            base.name,
            [[path.name, path.stat().st_size] for path in files],
            settings.deciding(),
            style,
            content_of(examples),
            *others,
        ]
    )


def content_of(examples: Sequence[Example]) -> list[list[object]]:
    """What decides the weights of examples, as JSON."""
    return [
        [
            example.question_id,
            example.prompt_format,
            example.prompt,
            example.completion,
            list(example.token_ids),
            example.weight,
            example.validation,
            # Only if it is set, so that other trainings go on with their checkpoints.
            *([example.first_tokens] if example.first_tokens is not None else []),
        ]
        for example in examples
    ]


def finished(out: Path, purpose: str) -> dict[str, Any] | None:
    """The summary in `out` if this training has written it; None if it has not finished."""
    path = out / SUMMARY
    if not path.exists():
        return None
    summary = json.loads(path.read_text())
    return summary["trained"] if summary["purpose"] == purpose else None


def best(work: Path, step: int) -> Path:
    """File of the weights after a step, kept while no later ones are better."""
    return work / f"best-{step}.safetensors"


def save(
    work: Path,
    purpose: str,
    model: TrainableModel,
    optimizer: torch.optim.Optimizer,
    state: TrainingState,
) -> None:
    """Write a checkpoint, and delete weights that are no longer the best.

    If `work` is gone, the project was moved: the next worker continues from the checkpoint there.
    """
    if not work.is_dir():
        return
    with atomic_file(work / "checkpoint.pt") as temporary:
        torch.save(
            {
                "purpose": purpose,
                "state": asdict(state),
                "weights": {name: value.detach() for name, value in model.weights.items()},
                "optimizer": optimizer.state_dict(),
                "random": torch.get_rng_state(),
            },
            temporary,
        )
    for path in work.glob("best-*.safetensors"):
        if path != best(work, state.best_step):
            path.unlink()


def resume(
    work: Path, purpose: str, model: TrainableModel, optimizer: torch.optim.Optimizer
) -> TrainingState:
    """Load weights and optimizer from this training's checkpoint; a new state if it has none."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "checkpoint.pt"
    if not path.exists():
        return TrainingState()
    # Memory-mapped, so that the weights are never in memory twice.
    saved = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    if saved["purpose"] != purpose:
        return TrainingState()
    with torch.no_grad():
        for name, value in model.weights.items():
            value.copy_(saved["weights"][name])
    optimizer.load_state_dict(saved["optimizer"])
    torch.set_rng_state(saved["random"])
    return TrainingState(**saved["state"])


def write_weights(model: TrainableModel, path: Path) -> None:
    """Write the trainable weights."""
    with atomic_file(path) as temporary:
        save_file({name: value.detach() for name, value in model.weights.items()}, temporary)


def read_weights(model: TrainableModel, path: Path) -> None:
    """Load what `write_weights` wrote."""
    tensors = load_file(path, device=str(model.device))
    with torch.no_grad():
        for name, value in model.weights.items():
            value.copy_(tensors[name])


def write(out: Path, base: Path, model: TrainableModel, summary: Mapping[str, object]) -> None:
    """Write the adapter or the whole model to `out`, which appears when it is complete."""
    with atomic_folder(out) as part:
        if model.wrapped is not model.causal:
            _write_adapter(part, model.wrapped)
        else:
            _write_model(part, base, model.causal)
        (part / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")


def _write_adapter(folder: Path, wrapped: Any) -> None:
    from peft import get_peft_model_state_dict

    # Not save_pretrained: it writes local paths and may query a server for the base.
    tensors = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(contiguous, folder / "adapter_model.safetensors", {"format": "pt"})
    config = wrapped.peft_config["default"]
    config.target_modules = sorted(config.target_modules)
    config.inference_mode = True
    config.save_pretrained(folder)


def _write_model(folder: Path, base: Path, causal: Any) -> None:
    config = json.loads((base / "config.json").read_text())
    dtype = getattr(torch, str(config.get("dtype") or config.get("torch_dtype") or "float32"))
    causal.to(dtype).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (base / name).exists():
            shutil.copyfile(base / name, folder / name)

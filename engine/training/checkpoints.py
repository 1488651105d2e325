"""What a training leaves on disk: checkpoints on the way, and the adapter or model at its end.

Every file and folder is written under another name and renamed when it is whole, so a kill at any
moment leaves the last whole one.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from store.records import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from engine.project.settings import TrainSettings
    from engine.training.model import Learner
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
class State:
    """Everything that changes from step to step beside weights and optimizer."""

    step: int = 0
    scored_tokens: int = 0
    seconds: float = 0.0
    loss: float = math.nan
    first_validation_loss: float | None = None
    best_loss: float | None = None
    best_step: int = 0
    validated: int = 0
    """The last step whose validation loss is known."""


def fingerprint(
    base: Path, examples: Sequence[Example], settings: TrainSettings, style: PromptStyle
) -> str:
    """Hash of all that the weights depend on: a checkpoint of anything else is not ours."""
    files = sorted(path for path in base.glob("*") if path.suffix in (".json", ".safetensors"))
    return content_hash(
        [
            base.name,
            [[path.name, path.stat().st_size] for path in files],
            settings.deciding(),
            style,
            [
                [
                    one.question_id,
                    one.prompt_format,
                    one.prompt,
                    one.completion,
                    list(one.token_ids),
                    one.weight,
                    one.validation,
                ]
                for one in examples
            ],
        ]
    )


def finished(out: Path, purpose: str) -> dict[str, Any] | None:
    """What the training left in `out` when it was this one and came to its end."""
    path = out / SUMMARY
    if not path.exists():
        return None
    found = json.loads(path.read_text())
    return found["trained"] if found["purpose"] == purpose else None


def best(work: Path, step: int) -> Path:
    """Where the weights after a step are kept while no later ones are better."""
    return work / f"best-{step}.safetensors"


def save(
    work: Path, purpose: str, learner: Learner, optimizer: torch.optim.Optimizer, state: State
) -> None:
    """Write a checkpoint, and forget best weights that it does not name."""
    temporary = work / "checkpoint.new"
    torch.save(
        {
            "purpose": purpose,
            "state": asdict(state),
            "weights": {name: value.detach() for name, value in learner.weights.items()},
            "optimizer": optimizer.state_dict(),
            "random": torch.get_rng_state(),
        },
        temporary,
    )
    _sync(temporary)
    temporary.replace(work / "checkpoint.pt")
    _sync(work)
    for path in work.glob("best-*.safetensors"):
        if path != best(work, state.best_step):
            path.unlink()


def resume(work: Path, purpose: str, learner: Learner, optimizer: torch.optim.Optimizer) -> State:
    """Set weights and optimizer to the checkpoint; a fresh state without one of this training."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "checkpoint.pt"
    if not path.exists():
        return State()
    # Read from the file as needed: the weights are never in memory twice.
    found = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    if found["purpose"] != purpose:
        return State()
    with torch.no_grad():
        for name, value in learner.weights.items():
            value.copy_(found["weights"][name])
    optimizer.load_state_dict(found["optimizer"])
    torch.set_rng_state(found["random"])
    return State(**found["state"])


def write_weights(learner: Learner, path: Path) -> None:
    """Write the learnt weights."""
    temporary = path.with_suffix(".new")
    save_file({name: value.detach() for name, value in learner.weights.items()}, temporary)
    _sync(temporary)
    temporary.replace(path)
    _sync(path.parent)


def read_weights(learner: Learner, path: Path) -> None:
    """Set the learnt weights to what `write_weights` wrote."""
    found = load_file(path, device=str(learner.device))
    with torch.no_grad():
        for name, value in learner.weights.items():
            value.copy_(found[name])


def write(out: Path, base: Path, learner: Learner, summary: Mapping[str, object]) -> None:
    """Write adapter or model into a new folder and give it its name when it is whole."""
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    if learner.model is not learner.causal:
        _write_adapter(part, learner.model)
    else:
        _write_model(part, base, learner.causal)
    (part / SUMMARY).write_text(json.dumps(summary, indent=2) + "\n")
    for path in _files(part):
        _sync(path)
    _sync(part)
    shutil.rmtree(out, ignore_errors=True)
    part.replace(out)
    _sync(out.parent)


def _write_adapter(folder: Path, model: Any) -> None:
    from peft import get_peft_model_state_dict

    # Not save_pretrained: it writes paths of this machine and may ask a server for the base.
    tensors = get_peft_model_state_dict(model, save_embedding_layers=False)
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(plain, folder / "adapter_model.safetensors", {"format": "pt"})
    config = model.peft_config["default"]
    config.target_modules = sorted(config.target_modules)
    config.inference_mode = True
    config.save_pretrained(folder)


def _write_model(folder: Path, base: Path, causal: Any) -> None:
    stored = json.loads((base / "config.json").read_text())
    kind = getattr(torch, str(stored.get("dtype") or stored.get("torch_dtype") or "float32"))
    causal.to(kind).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (base / name).exists():
            shutil.copyfile(base / name, folder / name)


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


def _sync(path: Path) -> None:
    """Make a file, or the names in a folder, last through a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

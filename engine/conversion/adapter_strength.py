"""A LoRA adapter at another strength: the same matrices with another alpha.

What an adapter adds is multiplied by alpha / rank, and every program reads alpha from the adapter's
files. So an adapter at strength s is a copy with s times the alpha, which each engine loads like
any other adapter.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from engine.models.json_file import read_json_object

if TYPE_CHECKING:
    from pathlib import Path

CONFIG, WEIGHTS, GGUF = "adapter_config.json", "adapter_model.safetensors", "adapter.gguf"
"""Names of an adapter's files; the GGUF file may be missing."""


def copy_at_strength(adapter: Path, gguf: Path | None, strength: float, out: Path) -> None:
    """Write an adapter at a strength into an empty folder.

    Args:
        adapter: folder of the adapter at strength 1.
        gguf: the same adapter as GGUF, if there is one.
        strength: above 0.
        out: an existing folder.
    """
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(adapter / name, out / name)
    if gguf is not None:
        shutil.copyfile(gguf, out / GGUF)
    set_strength(out, strength)


def set_strength(folder: Path, strength: float) -> None:
    """Multiply what an adapter at strength 1 adds, in its peft folder and the GGUF files there."""
    config = read_json_object(folder / CONFIG)
    config["lora_alpha"] = _scaled(config["lora_alpha"], strength)
    if config.get("alpha_pattern"):
        config["alpha_pattern"] = {
            pattern: _scaled(alpha, strength) for pattern, alpha in config["alpha_pattern"].items()
        }
    (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    for gguf in folder.glob("*.gguf"):
        _scale_gguf(gguf, strength)


def _scaled(alpha: float, strength: float) -> float:
    """Alpha at a strength: a whole number, as peft's own files have it, where it is one."""
    scaled = alpha * strength
    return int(scaled) if float(scaled).is_integer() else scaled


def _scale_gguf(gguf: Path, strength: float) -> None:
    """Change the 4 bytes that hold alpha."""
    from gguf import GGUFReader, Keys

    reader = GGUFReader(gguf, "r+")
    field: Any = reader.get_field(Keys.Adapter.LORA_ALPHA)
    assert field is not None  # `convert_adapter` writes it
    field.parts[field.data[0]][0] *= strength
    reader.data.flush()

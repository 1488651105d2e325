"""Load the weights of a Hugging Face folder one tensor at a time.

The way of transformers maps whole files, whose pages count as memory of the process beside the
weights that are made of them. Here nothing but one tensor is in memory twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig
from transformers.initialization import no_init_weights

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor


@torch.no_grad()
def load_by_tensor(
    folder: Path, dtype: torch.dtype, pack: Callable[[Tensor, Tensor | None], nn.Module] | None
) -> Any:
    """Load a causal language model whose tensors have the names and shapes of its parameters.

    Args:
        folder: with config.json and safetensors.
        dtype: of the parameters.
        pack: makes a linear layer of its weight, in the type of the file, and its bias; None keeps
            the model's own layers.

    Returns:
        The model on the processor; None if transformers has to convert or rename its tensors.

    Raises:
        Exception: what transformers and safetensors raise for invalid files.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with no_init_weights():
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    model.tie_weights()
    if (folder / "generation_config.json").exists():
        model.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True)
    files = _TensorFiles(folder)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    tied = parameters.keys() - dict(model.named_parameters()).keys()
    if not files.shapes.keys() <= parameters.keys() or any(
        parameters[name].shape != shape for name, shape in files.shapes.items()
    ):
        return None
    has_buffers = bool(model.state_dict().keys() - parameters.keys())
    if parameters.keys() - files.shapes.keys() - tied or has_buffers:
        return None
    linear = {
        name
        for name, module in model.named_modules()
        if pack is not None and type(module) is nn.Linear
    }
    for name, parameter in parameters.items():
        if name not in tied and name.rpartition(".")[0] not in linear:
            parameter.copy_(files.read(name))
    # The largest first: while it is packed, it is in memory up to three times.
    for name in sorted(linear, key=lambda name: -parameters[f"{name}.weight"].numel()):
        parent, _, own = name.rpartition(".")
        layer = model.get_submodule(name)
        weight = files.read(f"{name}.weight", layer.weight)
        bias = None if layer.bias is None else files.read(f"{name}.bias").to(dtype)
        assert pack is not None
        setattr(model.get_submodule(parent), own, pack(weight, bias))
    return model


class _TensorFiles:
    """The tensors of the safetensors files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        self.shapes: dict[str, torch.Size] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, "pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - it is no mapping
                    self._files[name] = path
                    self.shapes[name] = torch.Size(tensors.get_slice(name).get_shape())

    def read(self, name: str, tied: Tensor | None = None) -> Tensor:
        """A tensor; `tied`, which has been read, if the files do not have it apart.

        The file is opened anew each time: closing it releases the pages of other tensors.
        """
        if tied is not None and name not in self._files:
            return tied
        with safe_open(self._files[name], "pt") as tensors:
            return tensors.get_tensor(name)

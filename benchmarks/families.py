"""Show for each model family what works, with a tiny random model of it.

    python -m benchmarks.families            # the table of docs/models.md
    python -m benchmarks.families "gemma 3"  # some families

A folder is written as GGUF and read back from it. The folder that was read back is fine-tuned, and
the adapter is written as GGUF for the file. Each difference is the largest between the logits of
transformers' own forward pass and those of another program, as a share of their standard deviation.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from engine.conversion.gguf_to_hf import convert_to_hf
from engine.conversion.hf_to_gguf import convert_adapter, convert_base
from engine.inference.backend import Sampling
from engine.inference.hf.backend import open_transformers
from engine.inference.hf.prefix_tree import PrefixTree
from engine.inference.llama.backend import open_llama_cpp
from engine.project.settings import TrainSettings
from engine.training.loop import train
from store.enums import PromptStyle
from tests.engine.families import FAMILIES, shape_for_llama_cpp
from tests.engine.tiny import ListSource, requests, tiny_model
from tests.engine.training.test_loop import Listener, some_examples

if TYPE_CHECKING:
    from engine.inference.backend import Backend

LENGTH = 100
"""Tokens after which logits are compared, more than the windows of most families have. A context
of twice as many is short enough for the first set of rope factors."""
COLUMNS = (
    "family",
    "transformers: shared prefix",
    "llama.cpp",
    "folder from GGUF",
    "both engines sample the same",
    "fine-tuned from GGUF, loss",
    "adapter as GGUF",
)


def main() -> None:
    """Print the table."""
    warnings.filterwarnings("ignore")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
    for family in sys.argv[1:] or FAMILIES:
        with tempfile.TemporaryDirectory() as folder:
            print(f"| {family} | {' | '.join(row(family, Path(folder)))} |", flush=True)


def row(family: str, folder: Path) -> list[str]:
    """The results of a family, in the order of the columns."""
    base = tiny_model(folder / "base", **shape_for_llama_cpp(family))
    file, back, out = folder / "base.gguf", folder / "back", folder / "adapter"
    adapter = folder / "adapter.gguf"
    convert_base(base, file)
    convert_to_hf(file, back)
    tokens = np.random.default_rng(0).integers(3, 512, LENGTH).tolist()
    expected = _logits(_load(base), tokens)

    def difference(actual: torch.Tensor, reference: torch.Tensor = expected) -> str:
        error = (actual - reference).abs().max() / reference.std()
        return f"{float(error):.0e}" if error else "0"

    shared = _sampled_logits(base, tokens)
    texts = [_greedy(open_transformers(base, threads=1), tokens)]
    with closing(open_llama_cpp(file, batch_size=4, context=2 * LENGTH)) as model:
        native = torch.from_numpy(model.logits(tokens))
        texts.append(_greedy(model, tokens))
    result = train(
        back,
        some_examples(),
        TrainSettings(learning_rate=2e-2, epochs=2.0, examples_per_step=6, rank=4, alpha=8),
        out=out,
        work=folder / "work",
        style=PromptStyle.BASE,
        progress=Listener(),
        threads=1,
    )
    convert_adapter(out, back, adapter, gguf=file)
    tuned = _logits(_load(back, out), tokens)
    opened = open_llama_cpp(file, adapter=adapter, batch_size=1, context=2 * LENGTH)
    with closing(opened) as model:
        adapted = torch.from_numpy(model.logits(tokens))
    return [
        difference(shared) if shared is not None else "not shared",
        difference(native),
        difference(_logits(_load(back), tokens)),
        "yes" if texts[0] == texts[1] else "no",
        f"{result.first_validation_loss:.2f} to {result.validation_loss:.2f}",
        difference(adapted, tuned),
    ]


def _load(folder: Path, adapter: Path | None = None) -> Any:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True
    ).eval()
    return PeftModel.from_pretrained(model, adapter).eval() if adapter else model


@torch.inference_mode()
def _logits(model: Any, tokens: list[int]) -> torch.Tensor:
    logits: torch.Tensor = model(torch.tensor([tokens]), use_cache=False).logits[0, -1]
    return logits


def _sampled_logits(folder: Path, tokens: list[int]) -> torch.Tensor | None:
    """Logits after a prefix, a prompt and a path, as the transformers engine computes them."""
    backend = open_transformers(folder, threads=1)
    if not backend.shares_prefix:
        return None
    tree = PrefixTree(backend._model, 1)
    third = len(tokens) // 3
    tree.set_prefix(tokens[:third])
    tree.add_prompts([tokens[: 2 * third]], [0])
    lane = np.zeros(1, dtype=int)
    for number, token in enumerate(tokens[2 * third :], start=1):
        logits = tree.step(np.array([token]), lane, lane, np.array([number]))
    return logits[0].clone()


def _greedy(backend: Backend, tokens: list[int]) -> list[str]:
    half = len(tokens) // 2
    source = ListSource(requests([tokens[:half], tokens[1:half]]))
    greedy = Sampling(temperature=0.0, max_tokens=half - 1, stop=())
    with closing(backend):
        return sorted(path.text for path in backend.sample(source, greedy))


if __name__ == "__main__":
    main()

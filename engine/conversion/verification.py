"""Compare a GGUF file with the Hugging Face folder of the same model: token ids, then logits."""

from __future__ import annotations

import logging
from contextlib import closing
from typing import TYPE_CHECKING, Any

from engine.models.folder_tokenizer import load_tokenizer
from engine.models.gguf_header import read_contents
from engine.models.weight_files import check_adapter_files, check_model_files
from engine.prompting.messages import ChatMessage
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from engine.inference.llama.backend import LlamaCpp

_log = logging.getLogger(__name__)

TOLERANCE = 0.02
"""Largest accepted error of the logits, as a share of their spread (both root mean square)."""
ADAPTER_TOLERANCE = 0.05
"""Largest accepted error with an adapter, as a share of what the adapter changes in the logits."""

ADVICE = ": use this model with the transformers engine."
"""End of the message about a difference."""

_PROBES = (
    "Once upon a time, there was a little girl named Lily. She had 17 red apples and gave 5 away.",
    "Q: Tom has 12 pens and buys 3 boxes of 10. How many pens?\nA: 3 * 10 = 30. 12 + 30 = 42.\n\n",
    "Two  spaces, a tab\tand\r\nline ends;   don't we'll I'M 3.14159 1000000 (a+b)^2 = a² + 2ab",
    "Ünïcödé café naïve 東京 привет שלום 👩‍🚀 ½ \u00a0x\u200bz — “quotes” … \n \n\n   end ",
)
"""Texts that a converted model must tokenize, and continue, as the original does."""
_RARE = {
    "texts that begin with a space": "  x = 1",
    "words with combining marks (such as in Hindi or Thai)": "cafe\u0301s हिन्दी ที่",
    "words in capitals with accents (such as ÜBER)": "ÜBER",
}
"""Texts, by kind, that may be tokenized differently where llama.cpp cannot do as the original."""
_CHAT = (
    ChatMessage("system", "Be brief."),
    ChatMessage("user", "What is 2 + 3?"),
    ChatMessage("assistant", "The answer is 5."),
    ChatMessage("user", "What is 3 + 4?"),
)


def verify(
    folder: Path,
    gguf: Path,
    *,
    adapter: Path | None = None,
    adapter_gguf: Path | None = None,
    tolerance: float = TOLERANCE,
    rare_differences: bool = False,
) -> None:
    """Check that a GGUF file and a Hugging Face folder hold the same model.

    After each probe text, the error of the logits may be `tolerance` of their spread; with an
    adapter, also at most `ADAPTER_TOLERANCE` of what the adapter changes.

    Args:
        folder: the Hugging Face folder of the base.
        gguf: the base as GGUF.
        adapter: a peft adapter of the base.
        adapter_gguf: the adapter as GGUF.
        tolerance: largest accepted error of the logits.
        rare_differences: log that rare kinds of texts are tokenized differently, instead of
            raising; with an adapter, whose GGUF may belong to another file, also chats.

    Raises:
        WorkFailed: they differ.
    """
    import numpy as np

    from engine.inference.llama.backend import open_llama_cpp

    tokenizer = load_tokenizer(folder)
    context = _context(gguf)
    opened = open_llama_cpp(gguf, adapter=adapter_gguf, batch_size=1, context=context)
    with closing(opened) as model:
        rare = _rare_differences(folder, tokenizer, model, may_differ_in_chats=adapter is not None)
        if rare and not rare_differences:
            raise _tokenized_differently(rare[0], folder)
        if rare:
            _log.warning(
                "llama.cpp tokenizes %s differently from %s: if your questions have many of them, "
                "set model.engine to transformers.",
                " and ".join(rare),
                folder,
            )
        probes = [model.tokenize(text)[: model.context_length] for text in _PROBES]
        actual = np.stack([model.logits(ids) for ids in probes])
    base_logits, expected = _torch_logits(folder, adapter, probes)
    actual = actual[:, : expected.shape[1]]
    error = _spread(actual - expected)
    if not (error <= tolerance * _spread(expected)).all():
        raise WorkFailed(
            f"The logits of the GGUF file differ from those of {adapter or folder} by "
            f"{(error / _spread(expected)).max():.1%} of their spread (at most {tolerance:.0%} is "
            f"allowed){ADVICE}"
        )
    # An adapter that changes less than rounding errors do cannot be told apart from none.
    effect = np.maximum(_spread(expected - base_logits), 1e-3 * _spread(expected))
    if adapter is not None and not (error <= ADAPTER_TOLERANCE * effect).all():
        raise WorkFailed(
            f"The GGUF adapter changes the logits differently from {adapter} "
            f"(error {(error / effect).max():.1%} of the change, {ADAPTER_TOLERANCE:.0%} is "
            f"allowed){ADVICE}"
        )


def _rare_differences(
    folder: Path, loaded: Any, model: LlamaCpp, *, may_differ_in_chats: bool
) -> list[str]:
    """The rare kinds of texts that a file tokenizes differently from a folder.

    Args:
        folder: for the message.
        loaded: its tokenizer.
        model: the file.
        may_differ_in_chats: whether chats are one of these kinds.

    Raises:
        WorkFailed: other texts differ, too.
    """
    tokenizer = loaded.backend_tokenizer
    names = "".join(token.content for token in tokenizer.get_added_tokens_decoder().values())
    tokenizer.encode_special_tokens = True  # names of special tokens in a text are text

    def differs(text: str) -> bool:
        return model.tokenize(text) != tokenizer.encode(text).ids

    wrong = [repr(text[:40]) for text in (*_PROBES, "") if differs(text)]
    kinds = _RARE | {"names of special or added tokens": f"a{names} b"}
    rare = [kind for kind, text in kinds.items() if differs(text)]
    if not wrong and not _chats_agree(loaded, model):
        (rare if may_differ_in_chats else wrong).append("chats")
    if wrong:
        raise _tokenized_differently(wrong[0], folder)
    return rare


def _tokenized_differently(texts: str, folder: Path) -> WorkFailed:
    return WorkFailed(f"llama.cpp tokenizes {texts} differently from {folder}{ADVICE}")


def _chats_agree(tokenizer: Any, model: LlamaCpp) -> bool:
    """Whether a chat has the same tokens; also if one of the two has no template for it."""
    from engine.inference.hf.prompt_tokenizer import PromptTokenizer

    try:
        return PromptTokenizer(tokenizer).tokenize_chat(_CHAT) == model.tokenize_chat(_CHAT)
    except BadInput:
        return True


def _context(gguf: Path) -> int:
    """Tokens for which the probes are compared.

    In a longer context, llama.cpp applies LongRoPE's factors for long texts to short ones, too.
    """
    values = read_contents(gguf).values
    name = f"{values.get('general.architecture')}.rope.scaling.original_context_length"
    return min(512, values.get(name) or 512)


def _torch_logits(
    folder: Path, adapter: Path | None, probes: list[list[int]]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits [probes, vocabulary], without and with the adapter.

    They are computed in float32, but weights that are stored in 16 bits stay so in memory.
    """
    import torch
    from transformers import AutoModelForCausalLM

    check_model_files(folder)
    if adapter is not None:
        check_adapter_files(adapter)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype="auto",
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
    ).eval()
    _compute_in_float32(model)

    @torch.inference_mode()
    def last_logits() -> NDArray[np.float32]:
        rows = [
            model(torch.tensor([ids]), use_cache=False, logits_to_keep=1).logits[0, -1]
            for ids in probes
        ]
        stacked: NDArray[np.float32] = torch.stack(rows).numpy()
        return stacked

    base_logits = last_logits()
    if adapter is None:
        return base_logits, base_logits
    from peft import PeftModel

    model = PeftModel.from_pretrained(model, adapter, local_files_only=True).eval()
    return base_logits, last_logits()


def _compute_in_float32(model: Any) -> None:
    """Widen the weights of each layer only while it computes."""
    import torch

    def widen(module: torch.nn.Module, _inputs: object) -> None:
        for weight in module.parameters(recurse=False):
            narrow[weight] = weight.data
            weight.data = weight.data.float()

    def restore(module: torch.nn.Module, _inputs: object, _output: object) -> None:
        for weight in module.parameters(recurse=False):
            weight.data = narrow.pop(weight)

    narrow: dict[torch.nn.Parameter, torch.Tensor] = {}
    for module in model.modules():
        if all(weight.dtype == torch.float32 for weight in module.parameters(recurse=False)):
            continue
        if isinstance(module, torch.nn.Embedding):  # only a few of its rows are read
            module.register_forward_hook(lambda _module, _inputs, output: output.float())
        else:
            module.register_forward_pre_hook(widen)
            module.register_forward_hook(restore)


def _spread(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Standard deviation of each row: adding a constant to all logits of a row has no effect."""
    spread: NDArray[np.float32] = logits.std(axis=1)
    return spread

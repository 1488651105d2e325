"""The model that is trained: how it is loaded, which weights are trained, and what it can read."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

from engine.inference.hf.rope_factors import ropes
from engine.models.folder_tokenizer import first_line, load_tokenizer
from engine.models.weight_files import check_model_files
from engine.packing import tree_attention
from engine.packing.prefix_tree import ForwardCost
from engine.project.settings import Precision
from engine.training.data_parallel import SINGLE_PROCESS, DataParallel
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.settings import TrainSettings

_log = logging.getLogger(__name__)

RECOMPUTE_FROM = 100_000_000
"""Number of weights from which activations are recomputed for the gradient, to save memory."""
LAYER_OVERHEAD = {"cpu": 2e7, "cuda": 2e10}
"""Operations that fit into the time it takes to start the kernels of one layer, by device."""
PACKABLE_TYPES = (
    "gemma2",
    "gemma3_text",
    "llama",
    "mistral",
    "phi3",
    "qwen2",
    "qwen3",
    "smollm3",
)
"""Model types whose layers take a mask and whose head is one matrix (covered by tests)."""
PACKABLE_LAYERS = {"full_attention", "sliding_attention"}
"""Kinds of layers that take a mask."""
SPARSE_ATTENTION = (tree_attention.NAME, "flex_attention")
"""Attention implementations that skip masked pairs of tokens."""


@dataclass(frozen=True, slots=True)
class TrainableModel:
    """A causal language model with its trainable weights."""

    wrapped: Any
    """The model in peft's wrapper for LoRA; else the same as `causal`."""
    causal: Any
    """The model without the wrapper."""
    tokenizer: Any
    device: torch.device
    cost: ForwardCost
    shares_prefixes: bool
    """Whether examples are packed into prefix trees; else each is a row of its own."""
    weights: dict[str, torch.nn.Parameter]
    """The trainable weights, by name."""
    is_bfloat16: bool = False
    """Whether layers compute in bfloat16."""
    parallel: DataParallel = SINGLE_PROCESS
    """The processes that train this model."""


def load_model(
    base: Path, settings: TrainSettings, parallel: DataParallel = SINGLE_PROCESS
) -> TrainableModel:
    """Load a Hugging Face folder for training; the settings' seed initializes LoRA weights.

    Raises:
        BadInput: it is not such a folder, or this machine cannot train it with the method.
    """
    if not (base / "config.json").exists():
        raise BadInput(
            f"{base} cannot be trained: training needs a Hugging Face folder with config.json and "
            ".safetensors files."
        )
    if parallel.is_sharded and settings.method != "lora":
        raise BadInput(
            f"Weights can be sharded with method lora only, not with {settings.method}: "
            "set sharded to false, or the method to lora."
        )
    # Metal (MPS) is not used for training: there the CPU trains.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    is_bfloat16 = _computes_in_bfloat16(settings, device)
    # Half precision is enough for frozen weights, but not for trained ones.
    dtype = torch.bfloat16 if settings.adapts and is_bfloat16 else torch.float32
    options = _four_bit_options(device) if settings.method == "qlora" else {}
    check_model_files(base)
    tokenizer = load_tokenizer(base)
    try:
        causal = AutoModelForCausalLM.from_pretrained(
            base,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **options,
        )
    except MemoryError:
        raise
    except Exception as error:  # safetensors and tokenizers raise exceptions of their own
        raise BadInput(
            f"{base} cannot be loaded as a language model: {first_line(error)}"
        ) from error
    _disable_dropout(causal)
    torch.manual_seed(settings.seed)
    with warnings.catch_warnings():
        # peft and older transformers use a name for recomputation that newer ones warn about.
        warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
        if settings.method == "qlora":
            from peft import prepare_model_for_kbit_training

            causal = prepare_model_for_kbit_training(causal, use_gradient_checkpointing=False)
        elif not parallel.is_sharded:
            causal = causal.to(device)
        wrapped = _with_lora(causal, settings, base.name) if settings.adapts else causal
        if causal.num_parameters() >= RECOMPUTE_FROM:
            causal.gradient_checkpointing_enable({"use_reentrant": False})
    if parallel.is_sharded:
        parallel.shard_weights(causal, device)
    wrapped.train()
    reason = why_not_packable(causal)
    if reason:
        _log.warning("Every example is trained in a row of its own, which is slower: %s.", reason)
    elif causal.config._attn_implementation == dense_attention(causal):
        causal.set_attn_implementation(_fastest_attention(device))
    weights = {name: value for name, value in wrapped.named_parameters() if value.requires_grad}
    return TrainableModel(
        wrapped,
        causal,
        tokenizer,
        device,
        forward_cost(causal, device),
        reason is None,
        weights,
        is_bfloat16,
        parallel,
    )


def _disable_dropout(causal: Any) -> None:
    """With dropout, copies of an example would differ, and sharing a prefix would not be exact."""
    for module in causal.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0


def _computes_in_bfloat16(settings: TrainSettings, device: torch.device) -> bool:
    if settings.method == "qlora" or settings.precision is Precision.BFLOAT16:
        return True
    is_supported = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return settings.precision is Precision.AUTO and is_supported


def _four_bit_options(device: torch.device) -> dict[str, Any]:
    """How transformers loads a base for QLoRA (Dettmers et al. 2023, arXiv 2305.14314)."""
    if device.type != "cuda":
        raise BadInput("Method qlora needs a CUDA device, and none was found: use method lora.")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput(
            "Method qlora needs the package bitsandbytes: install it with "
            "`pip install 'lmsi-tui[qlora]'`, or use method lora."
        )
    from transformers import BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": quantization, "device_map": {"": torch.cuda.current_device()}}


def _with_lora(causal: Any, settings: TrainSettings, name: str) -> Any:
    from peft import LoraConfig, get_peft_model

    head = causal.get_output_embeddings()
    linear = {
        path.rpartition(".")[2]
        for path, module in causal.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=0.0,
        target_modules=sorted(linear) or "all-linear",
        task_type="CAUSAL_LM",
    )
    wrapped = get_peft_model(causal, config)
    wrapped.peft_config["default"].base_model_name_or_path = name
    return wrapped


def _fastest_attention(device: torch.device) -> str:
    """The fastest attention implementation for prefix trees on a device."""
    return "flex_attention" if device.type == "cuda" else tree_attention.NAME


def dense_attention(causal: Any) -> str:
    """The attention implementation that takes a dense mask; `eager` if scores are capped."""
    return "sdpa" if causal._supports_sdpa else "eager"


def forward_cost(causal: Any, device: torch.device) -> ForwardCost:
    """Estimate the cost of a forward pass; attention counts only where a dense mask is used."""
    config = causal.config
    heads = getattr(config, "num_attention_heads", 1)
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    layers = getattr(config, "num_hidden_layers", 1)
    is_sparse = config._attn_implementation in SPARSE_ATTENTION
    body = [value for name, value in causal.named_parameters() if "embed" not in name]
    return ForwardCost(
        token=2.0 * sum(value.numel() for value in body),
        pair=0.0 if is_sparse else 4.0 * layers * width,
        call=layers * LAYER_OVERHEAD[device.type],
    )


def why_not_packable(causal: Any) -> str | None:
    """Why a model's examples cannot be packed into prefix trees; None if they can.

    A tree needs layers in which a token may attend to every earlier one or to a window of them,
    positions that do not depend on the longest row, attention that takes a mask, and a head that is
    one matrix.
    """
    config = causal.config
    if config.model_type not in PACKABLE_TYPES:
        return f"prefix-tree packing is not tested for models of type {config.model_type}"
    if config._attn_implementation not in ("sdpa", "eager", *SPARSE_ATTENTION):
        return f"its attention ({config._attn_implementation}) takes no mask"
    other_layers = set(getattr(config, "layer_types", None) or ()) - PACKABLE_LAYERS
    if other_layers:
        return f"some of its layers have {', '.join(sorted(other_layers))}"
    if any(rope.get("rope_type") == "dynamic" for rope in ropes(config)):
        return "its positions depend on the longest row (rope type dynamic)"
    return None


def end_tokens(model: TrainableModel) -> frozenset[int]:
    """Every token that the model's tokenizer, configuration or generation settings call an end."""
    causal = model.causal
    return _end_tokens(model.tokenizer, causal.config, causal.generation_config)


def context_length(model: TrainableModel) -> int:
    """Maximum number of tokens in a row."""
    return _context_length(model.tokenizer, model.causal.config)


@dataclass(frozen=True, slots=True)
class Tokenization:
    """What decides how examples become tokens, without the weights of a model."""

    tokenizer: Any
    end_tokens: frozenset[int]
    context_length: int


def load_tokenization(base: Path) -> Tokenization:
    """Read from a folder what `end_tokens` and `context_length` say of the loaded model.

    Raises:
        BadInput: the folder's tokenizer or configuration cannot be read.
    """
    tokenizer = load_tokenizer(base)
    try:
        config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        if (base / "generation_config.json").exists():
            generation = GenerationConfig.from_pretrained(base, local_files_only=True)
        else:
            generation = GenerationConfig.from_model_config(config)
    except Exception as error:  # its readers raise nothing narrower
        raise BadInput(f"The settings in {base} cannot be read: {first_line(error)}") from error
    return Tokenization(
        tokenizer,
        _end_tokens(tokenizer, config, generation),
        _context_length(tokenizer, config),
    )


def _end_tokens(tokenizer: Any, config: Any, generation: Any) -> frozenset[int]:
    ends: set[int] = set()
    for value in (
        tokenizer.eos_token_id,
        getattr(config, "eos_token_id", None),
        getattr(generation, "eos_token_id", None),
    ):
        ends.update(value if isinstance(value, list) else [] if value is None else [value])
    return frozenset(ends)


def _context_length(tokenizer: Any, config: Any) -> int:
    return int(getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length)

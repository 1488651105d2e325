"""A model that is trained: how it is loaded, what of it is learnt, and what it can read."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from engine.packing import tree_attention
from engine.packing.prefix_tree import Cost
from engine.project.settings import Precision
from engine.training.data_parallel import ALONE, Ranks
from store.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

    from engine.project.settings import TrainSettings

_log = logging.getLogger(__name__)

RECOMPUTE_FROM = 100_000_000
"""Models with this many weights evaluate each layer again for the gradient, to save memory."""
CALL = {"cpu": 2e7, "cuda": 2e10}
"""Operations that could be done while the parts of one layer are started."""
SHARES_TREES = ("llama", "mistral", "qwen2", "qwen3")
"""Model types whose layers take a mask and whose head is one matrix (tests hold for these)."""
SKIPS_UNSEEN = (tree_attention.NAME, "flex_attention")
"""Kinds of attention that do no work for a pair of tokens that do not see each other."""


@dataclass(frozen=True, slots=True)
class Learner:
    """A causal language model with what is learnt of it."""

    model: Any
    """Wrapped by peft for LoRA."""
    causal: Any
    """Without the wrapper."""
    tokenizer: Any
    device: torch.device
    cost: Cost
    shares: bool
    """Whether rows share their beginnings; else each is evaluated alone."""
    weights: dict[str, torch.nn.Parameter]
    """What is learnt, by name."""
    half: bool = False
    """Whether layers compute in bfloat16."""
    ranks: Ranks = ALONE
    """Who else trains the same model."""


def load(base: Path, settings: TrainSettings, ranks: Ranks = ALONE) -> Learner:
    """Load a Hugging Face folder for training; new LoRA weights come from the settings' seed.

    Raises:
        BadInput: it is no such folder, or this machine cannot train it with the method.
    """
    if not (base / "config.json").exists():
        raise BadInput(
            f"{base} cannot be trained: training needs a Hugging Face folder with config.json and "
            ".safetensors files."
        )
    if ranks.divided and settings.method != "lora":
        raise BadInput(
            f"Only method lora trains with divided weights, not {settings.method}: "
            "set sharded to false, or the method to lora."
        )
    # Metal (MPS) takes part in nothing here: there the processor trains.
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    half = _is_half(settings, device)
    # Frozen weights need no more than half precision; learnt ones do.
    kind = torch.bfloat16 if settings.adapts and half else torch.float32
    options = _in_four_bits(device) if settings.method == "qlora" else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        causal = AutoModelForCausalLM.from_pretrained(
            base, dtype=kind, local_files_only=True, **options
        )
    except MemoryError:
        raise
    except Exception as error:  # safetensors and tokenizers raise kinds of their own
        raise BadInput(
            f"{base} cannot be loaded as a language model with its tokenizer: "
            f"{str(error).splitlines()[0]}"
        ) from error
    _without_dropout(causal)
    torch.manual_seed(settings.seed)
    with warnings.catch_warnings():
        # peft and older transformers know recomputing by a name that newer ones warn of.
        warnings.filterwarnings("ignore", ".*gradient_checkpointing", FutureWarning)
        if settings.method == "qlora":
            from peft import prepare_model_for_kbit_training

            causal = prepare_model_for_kbit_training(causal, use_gradient_checkpointing=False)
        elif not ranks.divided:
            causal = causal.to(device)
        model = _with_lora(causal, settings, base.name) if settings.adapts else causal
        if causal.num_parameters() >= RECOMPUTE_FROM:
            causal.gradient_checkpointing_enable({"use_reentrant": False})
    if ranks.divided:
        ranks.divide(causal, device)
    model.train()
    reason = why_alone(causal)
    if reason:
        _log.warning("Every row is trained alone, which is slower: %s.", reason)
    elif causal.config._attn_implementation == "sdpa":
        causal.set_attn_implementation(_attention(device))
    weights = {name: value for name, value in model.named_parameters() if value.requires_grad}
    return Learner(
        model,
        causal,
        tokenizer,
        device,
        cost_of(causal, device),
        reason is None,
        weights,
        half,
        ranks,
    )


def _without_dropout(causal: Any) -> None:
    """Copies of a row share their prompt, which counts as copies only without dropout."""
    for module in causal.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout"):
            module.attention_dropout = 0.0


def _is_half(settings: TrainSettings, device: torch.device) -> bool:
    if settings.method == "qlora" or settings.precision is Precision.BFLOAT16:
        return True
    on_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return settings.precision is Precision.AUTO and on_gpu


def _in_four_bits(device: torch.device) -> dict[str, Any]:
    """How transformers loads a base for QLoRA (Dettmers et al. 2023, arXiv 2305.14314)."""
    if device.type != "cuda":
        raise BadInput(
            "Method qlora needs a CUDA device, and there is none here: train with method lora."
        )
    if importlib.util.find_spec("bitsandbytes") is None:
        raise BadInput(
            "Method qlora needs the package bitsandbytes: install it with "
            "`pip install 'lmsi-tui[qlora]'`, or train with method lora."
        )
    from transformers import BitsAndBytesConfig

    bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return {"quantization_config": bits, "device_map": {"": torch.cuda.current_device()}}


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
    model = get_peft_model(causal, config)
    model.peft_config["default"].base_model_name_or_path = name
    return model


def _attention(device: torch.device) -> str:
    """The attention that is fastest for trees on a device."""
    return "flex_attention" if device.type == "cuda" else tree_attention.NAME


def cost_of(causal: Any, device: torch.device) -> Cost:
    """Operations of a forward pass; of attention only where a dense mask is evaluated."""
    config = causal.config
    heads = getattr(config, "num_attention_heads", 1)
    width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
    layers = getattr(config, "num_hidden_layers", 1)
    skips = config._attn_implementation in SKIPS_UNSEEN
    body = [value for name, value in causal.named_parameters() if "embed" not in name]
    return Cost(
        token=2.0 * sum(value.numel() for value in body),
        pair=0.0 if skips else 4.0 * layers * width,
        call=layers * CALL[device.type],
    )


def why_alone(causal: Any) -> str | None:
    """Why a model's rows cannot share their beginnings; None when they can.

    A tree needs layers in which every token may see every earlier one, positions that do not
    depend on the longest row, attention that takes a mask, and a head that is one matrix.
    """
    config = causal.config
    if config.model_type not in SHARES_TREES:
        return f"models of type {config.model_type} are not known to take a tree's mask"
    if config._attn_implementation not in ("sdpa", "eager", *SKIPS_UNSEEN):
        return f"its attention ({config._attn_implementation}) takes no mask"
    others = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if others:
        return f"some of its layers have {', '.join(sorted(others))}"
    if config.model_type == "mistral" and config.sliding_window:
        return "its attention has a sliding window"
    kind = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    if kind in ("dynamic", "longrope"):
        return f"its positions depend on the longest row (rope type {kind})"
    return None


def ends(learner: Learner) -> frozenset[int]:
    """Every token that anything in the model's folder calls an end."""
    causal = learner.causal
    return _ends(learner.tokenizer, causal.config, causal.generation_config)


def context(learner: Learner) -> int:
    """Most tokens in a row."""
    return _context(learner.tokenizer, learner.causal.config)


@dataclass(frozen=True, slots=True)
class Text:
    """What of a learner decides how examples become tokens."""

    tokenizer: Any
    ends: frozenset[int]
    context: int


def text_of(base: Path) -> Text:
    """The same as of the loaded learner, without its weights.

    Raises:
        BadInput: the folder's tokenizer or configuration cannot be read.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, local_files_only=True)
        config = AutoConfig.from_pretrained(base, local_files_only=True)
        if (base / "generation_config.json").exists():
            generation = GenerationConfig.from_pretrained(base, local_files_only=True)
        else:
            generation = GenerationConfig.from_model_config(config)
    except Exception as error:  # what reads tokenizer.json raises nothing narrower
        raise BadInput(
            f"The tokenizer in {base} cannot be loaded: {str(error).splitlines()[0]}"
        ) from error
    return Text(tokenizer, _ends(tokenizer, config, generation), _context(tokenizer, config))


def _ends(tokenizer: Any, config: Any, generation: Any) -> frozenset[int]:
    found: set[int] = set()
    for said in (
        tokenizer.eos_token_id,
        getattr(config, "eos_token_id", None),
        getattr(generation, "eos_token_id", None),
    ):
        found.update(said if isinstance(said, list) else [] if said is None else [said])
    return frozenset(found)


def _context(tokenizer: Any, config: Any) -> int:
    return int(getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length)

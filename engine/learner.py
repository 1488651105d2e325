"""A model that is trained: how it is loaded, what is learnt, and its loss on a batch."""

from __future__ import annotations

import importlib.util
import logging
import math
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint as recomputed
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from engine import packing, tree_attention
from engine.divergence import divergence
from engine.packing import Batch, Cost, Encoded, Row
from engine.project import Precision
from engine.ranks import ALONE, Ranks
from store.errors import BadInput, WorkFailed
from store.records import PromptFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from engine.project import TrainSettings

_log = logging.getLogger(__name__)

RECOMPUTE_FROM = 100_000_000
"""Models with this many weights evaluate each layer again for the gradient, to save memory."""
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""What torch says on CUDA, on Linux and on other systems when memory runs out."""
HEAD_NUMBERS = 2**24
"""Logits held at once (64 MiB in float32); more are computed in parts."""
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


class Stopped(Exception):
    """A pass over batches was not finished, in this process or in another one."""

    def __init__(self, reason: BaseException | None) -> None:
        super().__init__(str(reason))
        self.reason = reason
        """What was raised here; None when another process stopped."""


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
        _cost(causal, device),
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


def _cost(causal: Any, device: torch.device) -> Cost:
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


def checked(learner: Learner, learnt: Sequence[Encoded]) -> Learner:
    """The learner, set to train rows alone when sharing does not give the loss of rows alone.

    A few rows with common beginnings are enough: a mask that is not honoured shows. An attention
    that skips what is not seen and fails here gives way to a dense mask first.
    """
    if not learner.shares:
        return learner
    some = sorted(learnt, key=lambda one: one.tokens)[:4]
    solo = replace(learner, ranks=ALONE)  # each process finds the same by itself
    kind = learner.causal.config._attn_implementation
    why = ""
    try:
        shared = gradients(solo, some)
    except Stopped as stopped:
        if stopped.reason is None or isinstance(stopped.reason, WorkFailed):
            raise (stopped.reason or stopped) from None
        if not isinstance(stopped.reason, Exception):
            raise stopped.reason from None
        said = str(stopped.reason).splitlines()
        shared, why = math.nan, f": {said[0]}" if said else ""
    for value in learner.weights.values():
        value.grad = None
    if kind in SKIPS_UNSEEN:
        learner.causal.set_attn_implementation("sdpa")
    alone = replace(learner, shares=False)
    single = mean_loss(replace(solo, shares=False), rows(alone, some))
    tolerance = 2e-2 if learner.half else 1e-4
    if math.isclose(shared, single, rel_tol=tolerance):
        learner.causal.set_attn_implementation(kind)
        return learner
    if kind in SKIPS_UNSEEN:
        _log.warning("Trees are trained with a dense mask: %s does not work here%s.", kind, why)
        return checked(replace(learner, cost=_cost(learner.causal, learner.device)), learnt)
    _log.warning(
        "Every row is trained alone, which is slower: the model does not honour the mask of a "
        "tree (loss %.6g, alone %.6g)%s.",
        shared,
        single,
        why,
    )
    return alone


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


# The loss.


def rows(learner: Learner, some: Sequence[Encoded]) -> list[Row]:
    """Examples as rows: trees where the learner shares beginnings, else one row for each."""
    return packing.trees(some, learner.cost) if learner.shares else packing.alone(some)


def gradients(
    learner: Learner, some: Sequence[Encoded], look: Callable[[], None] = lambda: None
) -> float:
    """Add the gradient of a step's mean loss to the weights, batch by batch.

    Args:
        learner: what is trained; with others, each takes its share of the examples.
        some: all examples of the step: the loss is divided by their weighted tokens together.
        look: called before each batch; what it raises ends the step.

    Returns:
        The loss, in nats per weighted token.

    Raises:
        Stopped: before the end, here or in another process; the gradients are worth nothing.
            Its reason is `WorkFailed` when the device has not enough memory.
    """
    total = sum(one.weight * len(one.completion) for one in some)
    loss = 0.0

    def add(batch: Batch) -> None:
        nonlocal loss
        part = loss_sum(learner, batch) / total
        part.backward()
        loss += part.item()

    _for_each_batch(learner, rows(learner, learner.ranks.share(some)), add, look)
    learner.ranks.add_gradients(learner.weights.values())
    return learner.ranks.sums(loss)[0]


def _for_each_batch(
    learner: Learner,
    some: Sequence[Row],
    work: Callable[[Batch], None],
    look: Callable[[], None],
) -> None:
    """Work on each batch of this process's rows, after a look; all processes must call it.

    Raises:
        Stopped: look or work raised something, here or in another process.
    """
    ranks = learner.ranks
    mine = batches(learner, some) if some else []
    if ranks.divided:  # all meet in every layer
        mine += [_nothing(learner)] * (ranks.most(len(mine)) - len(mine))

    def work_on(batch: Batch) -> None:
        with _enough_memory(batch):
            work(batch)

    reason: BaseException | None = None
    for batch in mine:
        reason = _raised(look)
        if ranks.divided and ranks.most(int(reason is not None)):
            break
        if reason is None:
            reason = _raised(partial(work_on, batch))
        if reason is not None:
            if ranks.divided:  # the others wait in a layer, until the end of this process ends them
                raise Stopped(reason) from reason
            break
    if ranks.most(int(reason is not None)):
        raise Stopped(reason) from reason


def _nothing(learner: Learner) -> Batch:
    """A batch that weighs nothing."""
    one = Encoded(0, PromptFormat.ZERO_SHOT_DIRECT, (0,), (0,), 0.0)
    return batches(learner, rows(learner, [one]))[0]


def _raised(do: Callable[[], None]) -> BaseException | None:
    try:
        do()
    except BaseException as raised:
        return raised
    return None


def try_longest(learner: Learner, steps: Sequence[Sequence[Encoded]]) -> int:
    """Compute the gradient of the largest batch once, and forget it, so that memory fails early.

    The step with the longest example and the one with the most tokens are looked at; all others
    have smaller batches, or about as large ones. The optimizer's two numbers for each weight are
    held meanwhile. Weights, gradients and random state are left as they are.

    Returns:
        Tokens of the batch that was tried.

    Raises:
        WorkFailed: the device has not enough memory.
    """
    looked_at = {
        max(range(len(steps)), key=lambda number: max(len(one.tokens) for one in steps[number])),
        max(range(len(steps)), key=lambda number: sum(len(one.tokens) for one in steps[number])),
    }
    found = [
        batch
        for number in sorted(looked_at)
        if (mine := learner.ranks.share(steps[number]))
        for batch in batches(learner, rows(learner, mine))
    ]
    if learner.ranks.divided and not found:  # all meet in every layer
        found = [_nothing(learner)]
    if not found:
        return 0
    largest = max(found, key=lambda batch: (batch.tokens.numel(), batch.tokens.shape[1]))
    random = torch.get_rng_state()
    with _enough_memory(largest):
        moments = [torch.empty_like(one) for one in learner.weights.values() for _ in range(2)]
        loss_sum(learner, largest).backward()
        del moments
    for weight in learner.weights.values():
        weight.grad = None
    torch.set_rng_state(random)
    return largest.tokens.numel()


@contextmanager
def _enough_memory(batch: Batch) -> Iterator[None]:
    """Turn what torch raises when memory runs out into a sentence."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:  # torch.OutOfMemoryError is a RuntimeError
        said = str(error)
        if isinstance(error, RuntimeError) and not any(word in said for word in OUT_OF_MEMORY):
            raise
        rows, longest = batch.tokens.shape
        raise WorkFailed(
            f"The device ran out of memory on {rows * longest:,} tokens at once ({rows} rows of up "
            f"to {longest:,}): train with method lora or qlora, take a smaller model, or leave the "
            "longest examples out with a smaller sample.max_tokens."
        ) from error


def loss_sum(learner: Learner, batch: Batch) -> torch.Tensor:
    """Sum of weight x loss over the scored tokens of a batch, a scalar in float32."""
    batch = batch.to(learner.device)
    with torch.autocast(learner.device.type, torch.bfloat16, enabled=learner.half):
        found = at_scored(learner, batch)
        if not learner.shares:
            losses = functional.cross_entropy(
                _at_least_single(found), batch.targets, reduction="none"
            )
            alone = losses @ batch.weights.to(losses.dtype)
            return alone + _exchanged(nn.Identity(), found, batch)
        head = learner.causal.lm_head.weight
        summed: torch.Tensor = _HeadLoss.apply(found, head, batch.targets, batch.weights)
        return summed + _exchanged(learner.causal.lm_head, found, batch)


def at_scored(learner: Learner, batch: Batch) -> torch.Tensor:
    """What the model says at the scored tokens of a batch, which is on its device.

    Returns:
        [T, hidden size], what the head takes, where rows share their beginnings; else
        [T, vocabulary], the logits.
    """
    if learner.shares:
        kind = torch.bfloat16 if learner.half else learner.causal.dtype
        states = learner.causal.model(
            input_ids=batch.tokens,
            position_ids=batch.positions,
            use_cache=False,
            **_mask(learner.causal, batch, kind),
        ).last_hidden_state
        return states.flatten(0, 1)[batch.scored]
    # Logits of the columns in which any row is scored, not of the prompts before them.
    width = batch.tokens.shape[1]
    row, column = batch.scored // width, batch.scored % width
    columns, place = column.unique(return_inverse=True)
    logits = learner.causal(
        input_ids=batch.tokens,
        attention_mask=batch.real.long(),
        use_cache=False,
        logits_to_keep=columns,
    ).logits
    return logits[row, place]


def _mask(causal: Any, batch: Batch, dtype: torch.dtype) -> dict[str, Any]:
    """What the model's attention wants to know about a batch of trees."""
    match causal.config._attn_implementation:
        case tree_attention.NAME:
            # The model would make a dense mask if it were given none.
            none = torch.zeros(1, 1, 1, 1, dtype=dtype, device=batch.tokens.device)
            return {
                "attention_mask": none,
                "tree": tree_attention.blocks(batch.until[0], dtype),
            }
        case "flex_attention":
            return {"attention_mask": tree_attention.flex_mask(batch.until)}
        case _:
            return {"attention_mask": batch.mask(dtype)}


class _HeadLoss(torch.autograd.Function):
    """Sum of weight x cross entropy of a head without bias.

    Logits are many, so they are held for a part of the tokens at a time, and their gradient is
    taken at once: neither are they kept, nor computed again for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        head: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        size = max(1, HEAD_NUMBERS // len(head))
        learns_below, learns_head = ctx.needs_input_grad[:2]
        below, of_head = [], torch.zeros_like(head) if learns_head else None
        losses = []
        for part, target, share in zip(
            hidden.split(size), targets.split(size), weights.split(size), strict=True
        ):
            logits = _at_least_single(functional.linear(part, head))
            weight = share.to(logits.dtype)
            logs = logits.log_softmax(-1)
            losses.append(-(logs.gather(1, target[:, None])[:, 0] @ weight))
            if not learns_below and of_head is None:
                continue
            gradient = logs.exp_()
            gradient[torch.arange(len(target), device=target.device), target] -= 1
            gradient *= weight[:, None]
            if learns_below:
                below.append((gradient @ head.to(gradient.dtype)).to(hidden.dtype))
            if of_head is not None:
                of_head += (gradient.T @ part.to(gradient.dtype)).to(head.dtype)
        ctx.save_for_backward(torch.cat(below) if learns_below else None, of_head)
        return torch.stack(losses).sum()

    @staticmethod
    def backward(ctx: Any, *outer: Any) -> Any:
        below, of_head = ctx.saved_tensors
        scaled = [None if one is None else one * outer[0] for one in (below, of_head)]
        return (*scaled, None, None)


def _at_least_single(numbers: torch.Tensor) -> torch.Tensor:
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def _exchanged(head: nn.Module, hidden: torch.Tensor, batch: Batch) -> torch.Tensor | float:
    """What a batch's teachers change in its loss: a share of the path loss for the divergence.

    With the share (the mix) a and weight w it is a w (KL - CE) at each token that a teacher tells
    about: added to the path loss w CE, this makes w ((1 - a) CE + a KL).

    Args:
        head: gives logits.
        hidden: [T, …], of the scored tokens: what the head takes.
        batch: on the device.
    """
    if (taught := batch.taught) is None:
        return 0.0

    def of(place: torch.Tensor, token_ids: torch.Tensor, logprobs: torch.Tensor) -> torch.Tensor:
        logits = _at_least_single(head(hidden[place]))
        paths = functional.cross_entropy(logits, batch.targets[place], reduction="none")
        return divergence(logits, token_ids, logprobs) - paths

    size = max(1, HEAD_NUMBERS // getattr(head, "out_features", hidden.shape[-1]))
    every = (taught.place, taught.token_ids, taught.logprobs)
    parts = zip(*(one.split(size) for one in every), strict=True)
    each = torch.cat([recomputed(of, *part, use_reentrant=False) for part in parts])
    return each @ taught.weights.to(each.dtype)


def batches(learner: Learner, some: Sequence[Row]) -> list[Batch]:
    """Rows in batches: end to end where attention skips what is not seen, else padded."""
    skips = learner.causal.config._attn_implementation in SKIPS_UNSEEN
    if learner.shares and skips:
        return packing.forests(some)
    return packing.batches(some, learner.cost)


@torch.no_grad()
def mean_loss(
    learner: Learner, some: Sequence[Row], look: Callable[[], None] = lambda: None
) -> float:
    """Mean loss in nats per weighted token; with others, each takes its share of the rows.

    Raises:
        Stopped: `look`, which is called before each batch, raised something, here or elsewhere.
    """
    total = weight = 0.0

    def add(batch: Batch) -> None:
        nonlocal total, weight
        total += loss_sum(learner, batch).item()
        weight += float(batch.weights.sum())

    _for_each_batch(learner, some[learner.ranks.rank :: learner.ranks.count], add, look)
    total, weight = learner.ranks.sums(total, weight)
    return total / weight

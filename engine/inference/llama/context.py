"""A llama.cpp context: a loaded model with the KV cache of many sequences.

Only the low-level functions of llama-cpp-python are used. Batches are NumPy arrays that the native
struct points to, filled without a Python loop over tokens.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import llama_cpp as native
import numpy as np
import psutil

from engine.inference.backend import TINY_PARAMETERS
from engine.inference.batch_size import LLAMA_CPP, default_batch_size
from engine.inference.llama.context_config import PATHS_PER_PROMPT, ContextConfig
from engine.inference.llama.kernel_check import model_params
from engine.inference.llama.library import last_error, load_model
from engine.inference.llama.vocabulary import Vocabulary
from engine.inference.prompt_lengths import SequenceLengths
from engine.models.gguf_header import Contents, read_contents
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

_BATCH = 2048  # tokens in one native call
_MICRO_BATCH = 512  # tokens evaluated together: enough to occupy a processor
_MEMORY_SHARE = 0.6  # of the free memory, for keys, values and logits


class ContextFull(WorkFailed):
    """The context has no free cells for this batch."""


class LlamaContext:
    """A loaded model with sequences for paths, prompts and one prefix."""

    def __init__(
        self,
        gguf: Path,
        adapter: Path | None,
        *,
        threads: int | None,
        batch_size: int | None,
        lengths: SequenceLengths | None,
    ) -> None:
        """Args:
        gguf: the model.
        adapter: a LoRA adapter of it, as GGUF.
        threads: None for a default.
        batch_size: most paths at a time; None for a default by model size.
        lengths: of prompts and paths; None for the model's full context length.

        Raises:
            BadInput: a file is missing, damaged, or of the wrong kind.
            WorkFailed: the model cannot be loaded, or the memory is too small.
        """
        self._model: Any = None
        self._context: Any = None
        self._adapter: Any = None
        self._memory: Any = None
        self.version: str = native.__version__
        self._gguf = gguf
        self._contents = contents = read_contents(gguf)
        if contents.values.get("general.type") == "adapter":
            raise BadInput(f"{gguf} is an adapter: give the base model's GGUF file here.")
        if adapter is not None:
            _check_adapter(adapter, gguf, contents)
        self.parameters = contents.parameters
        self.is_tiny = self.parameters < TINY_PARAMETERS
        """Whether a step takes a few milliseconds only."""
        trained = _header_number(contents, "context_length", 2048)
        self.lengths = lengths or SequenceLengths(trained // 2, trained - trained // 2)
        self.max_length = min(self.lengths.total, trained)
        """Most tokens in prompt and path together."""
        # Files in float32 are sampled in float32 throughout.
        self._exact = contents.values.get("general.file_type") == 0
        self._bytes_per_cell = _bytes_per_cell(contents, 4 if self._exact else 2)
        try:
            self.config = self.default_config(batch_size, threads)
            self._load(gguf, adapter)
            self.vocabulary = Vocabulary(gguf, self._model, contents)
            self._batch = _Batch(_BATCH)
            self.open(self.config)
        except BaseException:
            self.close()
            raise

    @property
    def batch_size(self) -> int:
        """Paths at a time; their slots are the first sequences."""
        return self.config.batch_size

    @property
    def prompt_slots(self) -> int:
        """Prompts at a time."""
        return self.config.prompt_slots

    @property
    def prefix_sequence(self) -> int:
        """The sequence of the prefix that prompts have in common."""
        return self.config.batch_size + self.config.prompt_slots

    def prompt_sequence(self, number: int) -> int:
        """The sequence of prompt `number`; the sequences from 0 are the slots of paths."""
        return self.batch_size + number

    def default_config(self, batch_size: int | None, threads: int | None) -> ContextConfig:
        """A config by model size, with a batch that fits the free memory.

        Raises:
            WorkFailed: not even one path fits the free memory.
        """
        if batch_size is None:
            batch_size = default_batch_size(LLAMA_CPP, self.parameters)
        batch_size = min(batch_size, _max_batch_size())
        if threads is None:
            # Threads of tiny models would mostly wait for each other.
            threads = 1 if self.is_tiny else usable_cores()
        # On a CPU the fused kernel takes one query at a time: half as fast for many sequences.
        flash = bool(native.llama_supports_gpu_offload()) and not self._exact
        config = ContextConfig(batch_size, False, flash, threads)
        smallest = self.memory_needed(replace(config, batch_size=1))
        budget = _memory_budget()
        weights = 0 if self._model else self._contents.size
        if smallest > budget or weights + smallest > budget / _MEMORY_SHARE:
            raise WorkFailed(
                f"{self._gguf} needs {(weights + smallest) / 2**30:.1f} GiB for its "
                f"weights and one path of {self.max_length} tokens with its prompt, and "
                f"{budget / _MEMORY_SHARE / 2**30:.1f} GiB are free: "
                "close other programs, or lower max_tokens or the exemplars."
            )
        while not self.fits(config):
            config = replace(config, batch_size=max(1, config.batch_size // 2))
        return config

    def fits(self, config: ContextConfig) -> bool:
        """Whether sequences and memory suffice, and the precision is that of the model's file.

        The fused kernel rounds to half precision internally, even for keys in float32. And a model
        with two sets of rope factors takes the one for long texts by the size of a buffer, which in
        the `unified` layout is that of all sequences together.
        """
        if config.flash_attention and self._exact:
            return False
        if config.unified and "rope_factors_long.weight" in self._contents.tensors:
            return False
        return config.batch_size <= _max_batch_size() and (
            config.batch_size == 1 or self.memory_needed(config) <= _memory_budget()
        )

    def memory_needed(self, config: ContextConfig) -> int:
        """Bytes of keys, values and logits."""
        logits = 2 * config.batch_size * 4 * self._vocabulary_size
        return self._cells(config) * self._bytes_per_cell + logits

    @property
    def _vocabulary_size(self) -> int:
        return _header_number(self._contents, "vocab_size", 0) or int(
            self._contents.values.get("tokenizer.ggml.tokens", 0)
        )

    def _cells(self, config: ContextConfig) -> int:
        """Number of tokens whose keys and values a context holds."""
        if not config.unified:
            return config.sequences * _padded(self.max_length)
        lengths = self.lengths
        # A path keeps the cells of its prompt when another question takes the prompt's slot.
        suffixes = (config.batch_size + config.prompt_slots) * (lengths.prompt - lengths.shared)
        own = suffixes + config.batch_size * lengths.path
        prefixes = (lengths.prefixes + 1) * lengths.prompt
        return _padded(max(self.max_length, prefixes + own) + _BATCH)

    def _load(self, gguf: Path, adapter: Path | None) -> None:
        params = model_params()
        params.n_gpu_layers = 999  # all of them, if there is a GPU
        self._model = load_model(gguf, params)
        if native.llama_model_has_encoder(self._model):
            raise BadInput(
                f"{gguf} is not a text generator (it has an encoder): give another model."
            )
        if adapter is not None:
            # Before the context, whose graph is sized with the adapter.
            self._adapter = native.llama_adapter_lora_init(self._model, os.fsencode(adapter))
            if not self._adapter:
                raise BadInput(f"llama.cpp cannot apply {adapter} to {gguf}: {last_error()}.")

    def open(self, config: ContextConfig) -> None:
        """Replace the context by an empty one; halve the batch until it can be created.

        Raises:
            WorkFailed: llama.cpp cannot create one.
        """
        while not self._create(config):
            if config.batch_size == 1:
                raise WorkFailed(
                    f"llama.cpp cannot create a context for {self._gguf}: {last_error()}."
                )
            config = replace(config, batch_size=config.batch_size // 2)

    def _create(self, config: ContextConfig) -> bool:
        if self._context:
            native.llama_free(self._context)
        params = native.llama_context_default_params()
        params.n_batch = _BATCH
        params.n_ubatch = _MICRO_BATCH
        params.n_threads = params.n_threads_batch = config.threads
        params.kv_unified = config.unified
        params.swa_full = True  # copying a prompt needs the cells outside the window, too
        params.no_perf = True
        if self._exact:
            params.type_k = params.type_v = native.GGML_TYPE_F32
        params.flash_attn_type = (
            native.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if config.flash_attention
            else native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        params.n_seq_max = params.n_outputs_max = config.sequences
        params.n_ctx = self._cells(config)
        self._context = native.llama_init_from_model(self._model, params)
        if not self._context:
            return False
        self.config = config
        self._memory = native.llama_get_memory(self._context)
        if self._adapter:
            adapters = (native.llama_adapter_lora_p_ctypes * 1)(self._adapter)
            native.llama_set_adapters_lora(self._context, adapters, 1, (ctypes.c_float * 1)(1.0))
        return True

    def clear(self, sequence: int, before: int = -1) -> None:
        """Remove a sequence, or in the unified layout its tokens before a position."""
        native.llama_memory_seq_rm(self._memory, sequence, -1, before)

    def copy(self, source: int, target: int) -> None:
        """Make a sequence equal to another one, before the next evaluation."""
        self.clear(target)
        self.share(source, target)

    def share(self, source: int, target: int) -> None:
        """Add the cells of a sequence to another; only the unified layout keeps its own cells."""
        native.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def duplicate(self, source: int, targets: Iterable[int]) -> None:
        """Give sequences cells of their own with the contents of another sequence.

        Raises:
            ContextFull: the context has no free cells.
        """
        size = native.llama_state_seq_get_size(self._context, source)
        state = (ctypes.c_uint8 * size)()
        native.llama_state_seq_get_data(self._context, state, size, source)
        for target in targets:
            if not native.llama_state_seq_set_data(self._context, state, size, target):
                raise ContextFull(f"llama.cpp cannot duplicate a sequence ({last_error()}).")

    def step(self, tokens: NDArray[np.int32], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Append one token to each of the first n slots.

        Args:
            tokens: [n] ids.
            positions: [n] positions of the tokens in their sequences.

        Returns:
            [n, vocabulary] logits, valid until the next evaluation.

        Raises:
            ContextFull: the context has no free cells; nothing was changed.
            WorkFailed: llama.cpp failed.
        """
        count = len(tokens)
        self._batch.put(0, tokens, positions, np.arange(count), True)
        self._decode(count)
        return self._logits(count)

    def evaluate(self, work: Sequence[tuple[int, int, Sequence[int]]]) -> NDArray[np.float32]:
        """Append tokens to sequences.

        Args:
            work: sequence, position of its first new token, and the tokens, at least one.

        Returns:
            [len(work), vocabulary] logits after the last token of each.
        """
        last = np.empty((len(work), self.vocabulary.size), dtype=np.float32)
        filled, done = 0, []
        for number, (sequence, start, tokens) in enumerate(work):
            at = 0
            while at < len(tokens):
                part = np.array(tokens[at : at + _BATCH - filled], dtype=np.int32)
                positions = np.arange(start + at, start + at + len(part))
                self._batch.put(filled, part, positions, sequence, False)
                at, filled = at + len(part), filled + len(part)
                if at == len(tokens):
                    self._batch.want_logits(filled - 1)
                    done.append(number)
                if filled == _BATCH or (at == len(tokens) and number == len(work) - 1):
                    self._decode(filled)
                    last[done] = self._logits(len(done))
                    filled, done = 0, []
        return last

    def _decode(self, count: int) -> None:
        code = native.llama_decode(self._context, self._batch.first(count))
        if code == 1:
            raise ContextFull("llama.cpp has no free cells for this batch in its context.")
        if code != 0:
            raise WorkFailed(
                f"llama.cpp could not evaluate the model ({last_error()}, code {code})."
            )

    def _logits(self, count: int) -> NDArray[np.float32]:
        if count == 0:
            return np.empty((0, self.vocabulary.size), dtype=np.float32)
        pointer = native.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, shape=(count, self.vocabulary.size))

    def close(self) -> None:
        """Free everything native; calling it again has no effect."""
        if self._context:
            native.llama_free(self._context)
        if self._adapter:
            native.llama_adapter_lora_free(self._adapter)
        if self._model:
            native.llama_model_free(self._model)
        self._context = self._adapter = self._model = None


class _Batch:
    """A `llama_batch` over NumPy arrays."""

    def __init__(self, size: int) -> None:
        self._tokens, self._positions, self._sequences = np.zeros((3, size), dtype=np.int32)
        self._wants_logits = np.zeros(size, dtype=np.int8)
        self._sequence_counts = np.ones(size, dtype=np.int32)
        self._pointers = self._sequences.ctypes.data + 4 * np.arange(size, dtype=np.uintp)
        self._native = native.llama_batch()
        for field, array in (
            ("token", self._tokens),
            ("pos", self._positions),
            ("n_seq_id", self._sequence_counts),
            ("seq_id", self._pointers),
            ("logits", self._wants_logits),
        ):
            kind = dict(native.llama_batch._fields_)[field]
            setattr(self._native, field, ctypes.cast(array.ctypes.data, kind))

    def put(
        self,
        start: int,
        tokens: NDArray[np.int32],
        positions: NDArray[np.int64],
        sequences: NDArray[np.int64] | int,
        wants_logits: bool,
    ) -> None:
        span = slice(start, start + len(tokens))
        self._tokens[span] = tokens
        self._positions[span] = positions
        self._sequences[span] = sequences
        self._wants_logits[span] = wants_logits

    def want_logits(self, index: int) -> None:
        """Compute the logits after this token."""
        self._wants_logits[index] = True

    def first(self, count: int) -> Any:
        """The native batch of the first tokens."""
        self._native.n_tokens = count
        return self._native


def _check_adapter(adapter: Path, gguf: Path, base: Contents) -> None:
    values = read_contents(adapter).values
    if values.get("general.type") != "adapter" or values.get("adapter.type") != "lora":
        raise BadInput(f"{adapter} is not a LoRA adapter in GGUF: convert the adapter first.")
    architecture = values.get("general.architecture")
    base_architecture = base.values.get("general.architecture")
    if architecture != base_architecture:
        raise BadInput(
            f"{adapter} is for {architecture} models and {gguf} is a {base_architecture} model."
        )


def _bytes_per_cell(contents: Contents, size: int) -> int:
    """Bytes of one token's keys and values; an upper bound if layers differ."""
    heads = max(_header_number(contents, "attention.head_count", 1), 1)
    key_heads = _header_number(contents, "attention.head_count_kv", heads)
    head_size = _header_number(contents, "embedding_length", 0) // heads
    key_size = _header_number(contents, "attention.key_length", head_size)
    value_size = _header_number(contents, "attention.value_length", head_size)
    return _header_number(contents, "block_count", 1) * key_heads * (key_size + value_size) * size


def _header_number(contents: Contents, name: str, default: int) -> int:
    """A number in the header of the file; the default if missing or different for each layer."""
    key = f"{contents.values.get('general.architecture')}.{name}"
    if key in contents.arrays:
        return default
    value = contents.values.get(key, default)
    return value if isinstance(value, int) else default


def _padded(cells: int) -> int:
    return -(-cells // 256) * 256


def _memory_budget() -> int:
    """Bytes that keys, values and logits may take."""
    return int(psutil.virtual_memory().available * _MEMORY_SHARE)


def _max_batch_size() -> int:
    """Paths at a time that leave sequences for their prompts and the prefix."""
    most = native.llama_max_parallel_sequences()
    return int((most - 1) * PATHS_PER_PROMPT // (PATHS_PER_PROMPT + 1))


def usable_cores() -> int:
    """Physical cores available to this process; a second thread on a core does not help."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(allowed or 1, psutil.cpu_count(logical=False) or 1))

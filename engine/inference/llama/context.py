"""The native side of llama.cpp: one model, one context, and its streams of keys and values.

Only the low-level functions of llama-cpp-python are used. Batches are NumPy arrays that the native
structure points to, filled without a loop over tokens.
"""

from __future__ import annotations

import ctypes
import logging
import os
import re
import unicodedata
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import llama_cpp as native
import numpy as np
import psutil

from engine.inference import batch_size
from engine.inference.backend import TINY
from engine.inference.chat_template import render_chat
from engine.inference.llama import kernel_check
from engine.inference.prompt_lengths import Extent
from engine.models.gguf_header import Contents, read_contents
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from engine.inference.backend import Message

_log = logging.getLogger(__name__)
_LEVELS = {1: logging.DEBUG, 2: logging.DEBUG, 3: logging.INFO, 4: logging.ERROR}
_errors: list[str] = []  # since the last look


def _to_log(level: int, text: bytes, _: object) -> None:
    """What llama.cpp has to say goes to the log, never to the person's screen."""
    line = text.decode(errors="replace").strip()
    if line and level in _LEVELS:
        _log.log(_LEVELS[level], "%s", line)
        if level == 4:
            _errors.append(line)


_log_callback = native.llama_log_callback(_to_log)  # referenced for as long as it may be called
native.llama_log_set(_log_callback, ctypes.c_void_p(0))

_BATCH = 2048  # tokens of one native call
_MICRO_BATCH = 512  # tokens evaluated together: enough to fill a processor
_MEMORY_SHARE = 0.6  # of the free memory that keys and values may take
_BRANCHES = 6  # slots for each trunk: questions in flight ask for several paths at a time
_NFC = ("qwen2",)  # tokenizers whose text is normalised first, which llama.cpp leaves to us


class NoRoom(WorkFailed):
    """The context has no free cells for this batch."""


class Vocabulary:
    """What the tokens of a model are."""

    def __init__(self, source: Path, model: Any, contents: Contents) -> None:
        self.source = source
        self._native = vocabulary = native.llama_model_get_vocab(model)
        self.size: int = native.llama_vocab_n_tokens(vocabulary)
        self._normalised = contents.values.get("tokenizer.ggml.pre") in _NFC
        self.template: str = contents.values.get("tokenizer.chat_template", "")
        self.pieces = [self._piece(token) for token in range(self.size)]
        """Bytes of each token; none for control tokens."""
        self.ends = frozenset(
            token for token in range(self.size) if native.llama_vocab_is_eog(vocabulary, token)
        )
        controls = [
            token for token in range(self.size) if native.llama_vocab_is_control(vocabulary, token)
        ]
        self.special = [self._piece(token, special=True).decode() for token in controls]
        """Texts of the control tokens."""
        start, end = native.llama_vocab_bos(vocabulary), native.llama_vocab_eos(vocabulary)
        self.start = [start] if native.llama_vocab_get_add_bos(vocabulary) and start >= 0 else []
        """What stands before every plain text."""
        self.bos = self._piece(start, special=True).decode() if start in controls else ""
        self.eos = self._piece(end, special=True).decode() if end in controls else ""

    def tokenize(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids, without a start token; `special` reads the names of special tokens."""
        data = (unicodedata.normalize("NFC", text) if self._normalised else text).encode(
            errors="replace"
        )
        ids = (native.llama_token * (len(data) + 2))()
        count = native.llama_tokenize(self._native, data, len(data), ids, len(ids), False, special)
        if count < 0:
            raise WorkFailed(f"{self.source} cannot read text: its tokenizer is incomplete.")
        return ids[:count]

    def plain(self, text: str) -> list[int]:
        """Token ids of plain text, with the model's own start token if it has one."""
        return self.start + self.tokenize(text)

    def chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a chat up to where the assistant is to speak.

        Raises:
            BadInput: the model has no chat template, or it cannot be filled.
        """
        if not self.template:
            raise BadInput(f"{self.source} has no chat template: ask in the base style.")
        ids: list[int] = []
        for text, meant in render_chat(self.template, messages, self.bos, self.eos, self.special):
            ids += self.tokenize(text, special=meant)
        return ids

    def _piece(self, token: int, *, special: bool = False) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        size = native.llama_token_to_piece(self._native, token, buffer, 256, 0, special)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = native.llama_token_to_piece(self._native, token, buffer, -size, 0, special)
        return buffer.raw[:size]


@contextmanager
def read_vocabulary(gguf: Path) -> Iterator[Vocabulary]:
    """The vocabulary of a model, read without its weights.

    Raises:
        BadInput: the file is missing, damaged, or not what it should be.
    """
    contents = read_contents(gguf)
    _errors.clear()
    settings = native.llama_model_default_params()
    settings.vocab_only = True
    model = native.llama_model_load_from_file(os.fsencode(gguf), settings)
    if not model:
        raise BadInput(f"llama.cpp cannot load {gguf}: {_reason()}.")
    try:
        yield Vocabulary(gguf, model, contents)
    finally:
        native.llama_model_free(model)


@dataclass(frozen=True, slots=True)
class Way:
    """How a context computes; which is fastest depends on the machine, the model and the lengths.

    In a layout of streams each sequence has a buffer of its own. In the unified layout one buffer
    holds the cells of all: a copy is a note on a cell and a prompt is kept once, but without flash
    attention every token meets every cell.
    """

    width: int
    """Paths at a time."""
    unified: bool
    flash: bool
    """Whether attention is one fused kernel."""
    threads: int

    @property
    def trunks(self) -> int:
        """Prompts that are kept at a time."""
        return -(-self.width // _BRANCHES)

    @property
    def sequences(self) -> int:
        """One for each path and trunk, and one for the prefix."""
        return self.width + self.trunks + 1

    def as_json(self) -> dict[str, object]:
        """The way as it is written with a run."""
        return {
            "width": self.width,
            "layout": "unified" if self.unified else "streams",
            "flash_attention": self.flash,
            "threads": self.threads,
        }

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Way:
        """The way that was written with a run."""
        return cls(
            told["width"], told["layout"] == "unified", told["flash_attention"], told["threads"]
        )

    def __str__(self) -> str:
        layout = "unified" if self.unified else "streams"
        flash = ", flash attention" if self.flash else ""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.width} paths, {layout}{flash}, {threads}"


class Streams:
    """A loaded model with sequences for `slots` paths, `trunks` prompts and one prefix."""

    def __init__(
        self,
        gguf: Path,
        adapter: Path | None,
        *,
        threads: int | None,
        slots: int | None,
        extent: Extent | None,
    ) -> None:
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
        self.is_tiny = self.parameters < TINY
        """Whether a step takes few milliseconds."""
        trained = _number(contents, "context_length", 2048)
        self.extent = extent or Extent(trained // 2, trained - trained // 2)
        self.length = min(self.extent.length, trained)
        # Files in float32 are sampled in float32 throughout.
        self._exact = contents.values.get("general.file_type") == 0
        self._cell = _cell_bytes(contents, 4 if self._exact else 2)
        try:
            self.way = self.usual(slots, threads)
            self._load(gguf, adapter)
            self.vocabulary = Vocabulary(gguf, self._model, contents)
            self._fill = _Batch(_BATCH)
            self.open(self.way)
        except BaseException:
            self.close()
            raise

    @property
    def slots(self) -> int:
        """Paths at a time; their sequences are the first."""
        return self.way.width

    @property
    def trunks(self) -> int:
        """Prompts at a time."""
        return self.way.trunks

    @property
    def prefix(self) -> int:
        """The sequence of what begins the prompts."""
        return self.way.width + self.way.trunks

    def usual(self, width: int | None, threads: int | None) -> Way:
        """The way to begin with: the width by the model's size, as far as the memory goes.

        Raises:
            WorkFailed: not even one path fits into the free memory.
        """
        if width is None:
            width = batch_size.usual(batch_size.LLAMA_CPP, self.parameters)
        width = min(width, _most_paths())
        if threads is None:
            # Threads of tiny models would mostly wait for each other.
            threads = 1 if self.is_tiny else cores()
        # On CPU the fused kernel takes one query at a time: half as fast with many streams.
        flash = bool(native.llama_supports_gpu_offload()) and not self._exact
        way = Way(width, False, flash, threads)
        least = Way(1, False, way.flash, threads)
        free = _free()
        weights = 0 if self._model else self._gguf.stat().st_size
        if self.needs(least) > free or weights + self.needs(least) > free / _MEMORY_SHARE:
            raise WorkFailed(
                f"{self._gguf} needs {(weights + self.needs(least)) / 2**30:.1f} GiB for its "
                f"weights and one path of {self.length} tokens with its prompt, and "
                f"{free / _MEMORY_SHARE / 2**30:.1f} GiB are free: "
                "close other programs, or lower max_tokens or the exemplars."
            )
        while not self.fits(way):
            way = replace(way, width=max(1, way.width // 2))
        return way

    def fits(self, way: Way) -> bool:
        """Whether a way has sequences and memory enough, and is as exact as the model's file.

        The fused kernel rounds to half precision on the way, even over keys in float32.
        """
        if way.flash and self._exact:
            return False
        return way.width <= _most_paths() and (way.width == 1 or self.needs(way) <= _free())

    def needs(self, way: Way) -> int:
        """Bytes of keys, values and logits."""
        return self._cells(way) * self._cell + 2 * way.width * 4 * self._vocabulary_size

    @property
    def _vocabulary_size(self) -> int:
        return _number(self._contents, "vocab_size", 0) or int(
            self._contents.values.get("tokenizer.ggml.tokens", 0)
        )

    def _cells(self, way: Way) -> int:
        """Tokens that a context holds keys and values of."""
        if not way.unified:
            return way.sequences * _padded(self.length)
        of = self.extent
        # A path keeps the cells of its question when another question takes its trunk.
        own = (way.width + way.trunks) * (of.prompt - of.shared) + way.width * of.path
        return _padded(max(self.length, (of.prefixes + 1) * of.prompt + own) + _BATCH)

    def _load(self, gguf: Path, adapter: Path | None) -> None:
        _errors.clear()
        settings = kernel_check.model_params()
        settings.n_gpu_layers = 999  # all of them, where there is a GPU
        self._model = native.llama_model_load_from_file(os.fsencode(gguf), settings)
        if not self._model:
            raise BadInput(f"llama.cpp cannot load {gguf}: {_reason()}.")
        if native.llama_model_has_encoder(self._model):
            raise BadInput(f"{gguf} is no text generator (it has an encoder): give another model.")
        if adapter is not None:
            # Before the context, whose graph is sized with the adapter.
            self._adapter = native.llama_adapter_lora_init(self._model, os.fsencode(adapter))
            if not self._adapter:
                raise BadInput(f"llama.cpp cannot put {adapter} on {gguf}: {_reason()}.")

    def open(self, way: Way) -> None:
        """Make an empty context in place of the one that was there; half as wide if need be.

        Raises:
            WorkFailed: llama.cpp can make none.
        """
        while not self._made(way):
            if way.width == 1:
                reason = _reason()
                raise WorkFailed(f"llama.cpp cannot make a context for {self._gguf}: {reason}.")
            way = replace(way, width=way.width // 2)

    def _made(self, way: Way) -> bool:
        if self._context:
            native.llama_free(self._context)
        settings = native.llama_context_default_params()
        settings.n_batch = _BATCH
        settings.n_ubatch = _MICRO_BATCH
        settings.n_threads = settings.n_threads_batch = way.threads
        settings.kv_unified = way.unified
        settings.swa_full = True  # a window's older cells are needed to branch from a prompt
        settings.no_perf = True
        if self._exact:
            settings.type_k = settings.type_v = native.GGML_TYPE_F32
        settings.flash_attn_type = (
            native.LLAMA_FLASH_ATTN_TYPE_ENABLED
            if way.flash
            else native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        settings.n_seq_max = settings.n_outputs_max = way.sequences
        settings.n_ctx = self._cells(way)
        self._context = native.llama_init_from_model(self._model, settings)
        if not self._context:
            return False
        self.way = way
        self._memory = native.llama_get_memory(self._context)
        if self._adapter:
            adapters = (native.llama_adapter_lora_p_ctypes * 1)(self._adapter)
            native.llama_set_adapters_lora(self._context, adapters, 1, (ctypes.c_float * 1)(1.0))
        return True

    def trunk(self, number: int) -> int:
        """The stream of a trunk; slots are the streams from 0."""
        return self.slots + number

    def clear(self, stream: int, before: int = -1) -> None:
        """Forget what a stream holds, or in the unified layout what it holds before a place."""
        native.llama_memory_seq_rm(self._memory, stream, -1, before)

    def copy(self, source: int, target: int) -> None:
        """Make a stream equal to another one, before the next evaluation."""
        self.clear(target)
        self.share(source, target)

    def share(self, source: int, target: int) -> None:
        """Give a stream what another one holds; only the unified layout keeps what it had."""
        native.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def repeat(self, source: int, targets: Iterable[int]) -> None:
        """Give other streams cells of their own that are equal to those of one."""
        size = native.llama_state_seq_get_size(self._context, source)
        held = (ctypes.c_uint8 * size)()
        native.llama_state_seq_get_data(self._context, held, size, source)
        for target in targets:
            if not native.llama_state_seq_set_data(self._context, held, size, target):
                raise NoRoom(f"llama.cpp cannot repeat a sequence ({_reason()}).")

    def step(self, tokens: NDArray[np.int32], positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Append one token to each of the first n slots.

        Args:
            tokens: [n] ids.
            positions: [n] places of the tokens in their streams.

        Returns:
            [n, vocabulary] logits, valid until the next evaluation.

        Raises:
            NoRoom: the context is full; nothing was changed.
            WorkFailed: llama.cpp failed.
        """
        count = len(tokens)
        self._fill.put(0, tokens, positions, np.arange(count), True)
        self._decode(count)
        return self._outputs(count)

    def evaluate(self, work: Sequence[tuple[int, int, Sequence[int]]]) -> NDArray[np.float32]:
        """Append tokens to streams.

        Args:
            work: stream, place of its first new token, and the tokens, at least one.

        Returns:
            [len(work), vocabulary] logits after the last token of each.
        """
        last = np.empty((len(work), self.vocabulary.size), dtype=np.float32)
        filled, done = 0, []
        for number, (stream, start, tokens) in enumerate(work):
            at = 0
            while at < len(tokens):
                part = np.array(tokens[at : at + _BATCH - filled], dtype=np.int32)
                places = np.arange(start + at, start + at + len(part))
                self._fill.put(filled, part, places, stream, False)
                at, filled = at + len(part), filled + len(part)
                if at == len(tokens):
                    self._fill.ask(filled - 1)
                    done.append(number)
                if filled == _BATCH or (at == len(tokens) and number == len(work) - 1):
                    self._decode(filled)
                    last[done] = self._outputs(len(done))
                    filled, done = 0, []
        return last

    def _decode(self, count: int) -> None:
        code = native.llama_decode(self._context, self._fill.batch(count))
        if code == 1:
            raise NoRoom("llama.cpp has no room for this batch in its context.")
        if code != 0:
            raise WorkFailed(f"llama.cpp could not evaluate the model ({_reason()}, code {code}).")

    def _outputs(self, count: int) -> NDArray[np.float32]:
        if count == 0:
            return np.empty((0, self.vocabulary.size), dtype=np.float32)
        pointer = native.llama_get_logits(self._context)
        return np.ctypeslib.as_array(pointer, shape=(count, self.vocabulary.size))

    def close(self) -> None:
        """Free everything native; more than once does no harm."""
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
        self._tokens, self._places, self._streams = np.zeros((3, size), dtype=np.int32)
        self._asked = np.zeros(size, dtype=np.int8)
        self._ones = np.ones(size, dtype=np.int32)
        self._pointers = self._streams.ctypes.data + 4 * np.arange(size, dtype=np.uintp)
        self._native = native.llama_batch()
        for field, array in (
            ("token", self._tokens),
            ("pos", self._places),
            ("n_seq_id", self._ones),
            ("seq_id", self._pointers),
            ("logits", self._asked),
        ):
            kind = dict(native.llama_batch._fields_)[field]
            setattr(self._native, field, ctypes.cast(array.ctypes.data, kind))

    def put(
        self,
        start: int,
        tokens: NDArray[np.int32],
        places: NDArray[np.int64],
        streams: NDArray[np.int64] | int,
        asked: bool,
    ) -> None:
        here = slice(start, start + len(tokens))
        self._tokens[here] = tokens
        self._places[here] = places
        self._streams[here] = streams
        self._asked[here] = asked

    def ask(self, place: int) -> None:
        """Want the logits after this token."""
        self._asked[place] = True

    def batch(self, count: int) -> Any:
        self._native.n_tokens = count
        return self._native


def _check_adapter(adapter: Path, gguf: Path, base: Contents) -> None:
    told = read_contents(adapter).values
    if told.get("general.type") != "adapter" or told.get("adapter.type") != "lora":
        raise BadInput(f"{adapter} is not a LoRA adapter in GGUF: convert the adapter first.")
    of, on = told.get("general.architecture"), base.values.get("general.architecture")
    if of != on:
        raise BadInput(f"{adapter} is for {of} models and {gguf} is a {on} model.")


def _cell_bytes(contents: Contents, size: int) -> int:
    """Memory of one token's keys and values, in bytes; where layers differ, a bound."""
    heads = max(_number(contents, "attention.head_count", 1), 1)
    groups = _number(contents, "attention.head_count_kv", heads)
    width = _number(contents, "embedding_length", 0) // heads
    keys = _number(contents, "attention.key_length", width)
    values = _number(contents, "attention.value_length", width)
    return _number(contents, "block_count", 1) * groups * (keys + values) * size


def _number(contents: Contents, name: str, default: int) -> int:
    """A size that the head of the file states; of one that differs by layer, the default."""
    key = f"{contents.values.get('general.architecture')}.{name}"
    if key in contents.arrays:
        return default
    found = contents.values.get(key, default)
    return found if isinstance(found, int) else default


def _padded(cells: int) -> int:
    return -(-cells // 256) * 256


def _free() -> int:
    """Bytes that keys, values and logits may take."""
    return int(psutil.virtual_memory().available * _MEMORY_SHARE)


def _most_paths() -> int:
    """Paths at a time that leave sequences for their trunks and the prefix."""
    most = native.llama_max_parallel_sequences()
    return int((most - 1) * _BRANCHES // (_BRANCHES + 1))


def cores() -> int:
    """Cores that this process may use; a second thread on a core would only be in the way."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(allowed or 1, psutil.cpu_count(logical=False) or 1))


def _reason() -> str:
    """The first error that llama.cpp has told since the last look; what follows only repeats it."""
    first = re.sub(r"^\w+: ", "", _errors[0]).rstrip(".") if _errors else "it gave no reason"
    _errors.clear()
    return first

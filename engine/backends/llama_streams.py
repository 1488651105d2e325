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
from typing import TYPE_CHECKING, Any

import llama_cpp as native
import numpy as np
import psutil

from engine.gguf_header import Contents, read_contents
from store.errors import BadInput, WorkFailed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

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
_TINY = 20e6  # weights; below it a step takes few milliseconds
_SLOTS = ((_TINY, 192), (200e6, 64), (2e9, 32))  # weights below the first: paths together
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

    def _piece(self, token: int, *, special: bool = False) -> bytes:
        buffer = ctypes.create_string_buffer(256)
        size = native.llama_token_to_piece(self._native, token, buffer, 256, 0, special)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = native.llama_token_to_piece(self._native, token, buffer, -size, 0, special)
        return buffer.raw[:size]


class Streams:
    """A loaded model with `slots` + `trunks` + 1 streams of `length` tokens each."""

    def __init__(
        self,
        gguf: Path,
        adapter: Path | None,
        *,
        threads: int | None,
        slots: int | None,
        context: int | None,
    ) -> None:
        self._model = self._context = self._adapter = None
        self.version: str = native.__version__
        contents = read_contents(gguf)
        if contents.values.get("general.type") == "adapter":
            raise BadInput(f"{gguf} is an adapter: give the base model's GGUF file here.")
        if adapter is not None:
            _check_adapter(adapter, gguf, contents)
        try:
            self._load(gguf, adapter)
            self._plan(gguf, contents, slots, context)
            self._open(gguf, threads or self._threads())
        except BaseException:
            self.close()
            raise
        self.vocabulary = Vocabulary(gguf, self._model, contents)
        self.prefix = self.slots + self.trunks
        self._fill = _Batch(_BATCH)

    def _load(self, gguf: Path, adapter: Path | None) -> None:
        _errors.clear()
        settings = native.llama_model_default_params()
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

    def _plan(self, gguf: Path, contents: Contents, slots: int | None, context: int | None) -> None:
        """Decide how many streams of which length fit into the free memory."""
        trained: int = native.llama_model_n_ctx_train(self._model)
        self.length = min(context or trained, trained)
        self._exact = contents.values.get("general.file_type") == 0
        most = native.llama_max_parallel_sequences()
        if slots is None:
            size = native.llama_model_n_params(self._model)
            slots = next((count for limit, count in _SLOTS if size < limit), 16)
        self.slots = min(slots, (most - 1) * _BRANCHES // (_BRANCHES + 1))
        self.trunks = -(-self.slots // _BRANCHES)
        cell = _cell_bytes(self._model, contents, 4 if self._exact else 2)
        per_stream = cell * -(-self.length // 256) * 256
        free = int(psutil.virtual_memory().available * _MEMORY_SHARE)
        if 3 * per_stream > free:
            raise WorkFailed(
                f"{gguf} needs {3 * per_stream / 2**30:.1f} GiB for one path of {self.length} "
                f"tokens and its prompt, and {free / 2**30:.1f} GiB are free: "
                "close other programs, or lower max_tokens or the exemplars."
            )
        while (self.slots + self.trunks + 1) * per_stream > free:
            self.slots = max(1, self.slots // 2)
            self.trunks = -(-self.slots // _BRANCHES)

    def _open(self, gguf: Path, threads: int) -> None:
        settings = native.llama_context_default_params()
        settings.n_batch = _BATCH
        settings.n_ubatch = _MICRO_BATCH
        settings.n_threads = settings.n_threads_batch = threads
        settings.kv_unified = False
        settings.swa_full = True  # a window's older cells are needed to branch from a prompt
        settings.no_perf = True
        if self._exact:
            settings.type_k = settings.type_v = native.GGML_TYPE_F32
        if not native.llama_supports_gpu_offload():
            # On CPU the fused kernel takes one query at a time: half as fast with many streams.
            settings.flash_attn_type = native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        while True:
            streams = self.slots + self.trunks + 1
            settings.n_seq_max = streams
            settings.n_outputs_max = streams
            settings.n_ctx = streams * -(-self.length // 256) * 256
            self._context = native.llama_init_from_model(self._model, settings)
            if self._context:
                break
            if self.slots == 1:
                raise WorkFailed(f"llama.cpp cannot make a context for {gguf}: {_reason()}.")
            self.slots //= 2
            self.trunks = -(-self.slots // _BRANCHES)
        self._memory = native.llama_get_memory(self._context)
        if self._adapter:
            adapters = (native.llama_adapter_lora_p_ctypes * 1)(self._adapter)
            native.llama_set_adapters_lora(self._context, adapters, 1, (ctypes.c_float * 1)(1.0))

    def _threads(self) -> int:
        """One per core, but one alone for tiny models: threads would mostly wait for each other."""
        return _cores() if native.llama_model_n_params(self._model) >= _TINY else 1

    def trunk(self, number: int) -> int:
        """The stream of a trunk; slots are the streams from 0."""
        return self.slots + number

    def clear(self, stream: int) -> None:
        """Forget what a stream holds."""
        native.llama_memory_seq_rm(self._memory, stream, -1, -1)

    def copy(self, source: int, target: int) -> None:
        """Make a stream equal to another one, before the next evaluation."""
        self.clear(target)
        native.llama_memory_seq_cp(self._memory, source, target, -1, -1)

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


def _cell_bytes(model: Any, contents: Contents, size: int) -> int:
    """Memory of one token's keys and values, in bytes."""
    name = contents.values.get("general.architecture")
    heads = native.llama_model_n_head(model)
    width = native.llama_model_n_embd(model) // max(heads, 1)
    keys = contents.values.get(f"{name}.attention.key_length", width)
    values = contents.values.get(f"{name}.attention.value_length", width)
    layers, groups = native.llama_model_n_layer(model), native.llama_model_n_head_kv(model)
    return int(layers * groups * (keys + values) * size)


def _cores() -> int:
    """Cores that this process may use; a second thread on a core would only be in the way."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(allowed or 1, psutil.cpu_count(logical=False) or 1))


def _reason() -> str:
    """The first error that llama.cpp has told since the last look; what follows only repeats it."""
    first = re.sub(r"^\w+: ", "", _errors[0]).rstrip(".") if _errors else "it gave no reason"
    _errors.clear()
    return first

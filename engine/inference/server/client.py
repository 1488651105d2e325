"""One OpenAI-compatible server: what it offers, and asking it again when it fails.

Servers differ in what they understand beyond OpenAI's own fields, and most keep silent about what
they ignore: one answers `n = 8` with a single choice, one takes whatever a request leaves out from
the model's `generation_config.json`, one refuses what it does not know. So nothing is taken from a
server's name: `probe` asks for each thing once and looks at what comes back.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import httpx2

from engine.inference.backend import Sampling
from store.errors import BadInput, WorkFailed
from store.records import content_hash

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

API_KEY = "LMSI_API_KEY"
"""Environment variable with the key that is sent to servers; it is never stored."""

WAVES = (8, 4, 2)
"""How many choices a request may ask for. Eight keep a server's batch full and still let a vote
stop early; a server with fewer slots refuses more than it has."""

TRIES = 10
"""How often a request is sent before its server counts as gone: about a minute in all, the time in
which a server is started again."""
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
"""Seconds; each wait is drawn evenly up to twice the bound of the one before, so that a crowd of
requests does not come back at once (full jitter, Brooker 2015)."""

TIMEOUT = httpx2.Timeout(connect=10, read=900, write=60, pool=None)
"""Seconds. A request may wait behind many others before its first byte comes."""

_BUSY = frozenset({429, 502, 503, 504})
_OPENING = "Q:"
"""What probes ask to be continued."""

T = TypeVar("T")
Json = dict[str, Any]


class Dialect(StrEnum):
    """How a server is told to leave alone every token that temperature alone would allow.

    Tried in this order. Unless told, servers cut the distribution: top-k 40 and min-p 0.05 in
    llama.cpp, the model's `generation_config.json` in vLLM, SGLang and transformers.
    """

    MINUS_ONE = "top_k -1 is off"
    """vLLM, SGLang, llama-server."""
    ZERO = "top_k 0 is off"
    """llama_cpp.server."""
    GENERATION_CONFIG = "generation_config"
    """transformers serve, which refuses unknown fields and samples greedily unless told."""
    PLAIN = "temperature and top_p only"
    """OpenAI's own fields; what the server does beside them is its own affair."""


class Refused(Exception):
    """The server understood the request and will not do it (4xx)."""

    def __init__(self, status: int, says: str) -> None:
        super().__init__(says)
        self.status = status


class Gone(Exception):
    """The server gave no whole answer, however often it was asked."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a server does, as a probe found it."""

    served: str
    """Name of the model in requests."""
    described: str
    """What the server says of the weights behind that name, as JSON; empty for nothing."""
    context: int | None
    """Most tokens in prompt and path together; None when the server does not say."""
    completions: bool
    """Whether it continues plain text; otherwise it only chats."""
    dialect: Dialect
    wave: int
    """Most choices of one request."""
    token_ids: bool
    """Whether a prompt may be token ids."""
    gives_token_ids: bool
    """Whether it gives the token ids of what it wrote, when asked."""
    seeds: bool
    """Whether the same seed gives the same text."""
    log_probabilities: bool

    @property
    def identity(self) -> str:
        """What stands for the hash of the weights: the name, and what is said of it.

        Addresses are no part of it: the same model on other machines goes on with its paths.
        """
        return content_hash(["server", self.served, self.described])

    def says(self) -> str:
        """The offer in one line for a person."""
        found = {
            f"{self.wave} paths a request" if self.wave > 1 else "one path a request": True,
            "token-id prompts": self.token_ids,
            "seeds": self.seeds,
            "log-probabilities": self.log_probabilities,
        }
        words = [name if there else f"no {name}" for name, there in found.items()]
        return f"serves {self.served}: {', '.join(words)}; {self.dialect}"


def split_address(address: str) -> tuple[str, str | None]:
    """An address such as `http://host:8000/v1#model` as its base URL and its model's name.

    Raises:
        BadInput: it is no address.
    """
    url, _, name = address.strip().partition("#")
    try:
        parsed = httpx2.URL(url)
        good = parsed.scheme in ("http", "https") and bool(parsed.host)
    except (httpx2.InvalidURL, ValueError):
        good = False
    if not good:
        raise BadInput(f"{address!r} is not a server's address: write http://host:port/v1.")
    return url.rstrip("/"), name or None


class Server:
    """A connection to one server. Belongs to the event loop in which it is used."""

    def __init__(self, address: str, *, wait: Callable[[float], Awaitable[None]]) -> None:
        """Args:
        address: base URL, with the model's name behind `#` where the server has several.
        wait: sleeps between two tries.
        """
        self.url, self.named = split_address(address)
        self._wait = wait
        key = os.environ.get(API_KEY)
        self._client = httpx2.AsyncClient(
            timeout=TIMEOUT,
            # The bound on requests is the backend's own.
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    async def close(self) -> None:
        """End the connections; servers drop what they were doing for us."""
        await self._client.aclose()

    async def post(
        self,
        path: str,
        body: Mapping[str, object],
        read: Callable[[Json], T],
        *,
        name: str = "",
        tries: int = TRIES,
        probing: bool = False,
    ) -> T:
        """Ask until there is an answer that can be read.

        Args:
            path: behind the base URL.
            body: of the request.
            read: takes what is wanted out of the answer; raises ValueError, KeyError, TypeError or
                IndexError where it is not there, and then the server is asked again.
            name: of the request, for the server's log: the same for every try.
            tries: at most.
            probing: a 500 is a no; some servers mean by it that they do not know a field.

        Raises:
            Refused: 4xx.
            Gone: every try failed by the connection, by 429 or 5xx, or by a broken answer.
            BadInput: the server wants another key.
        """
        reason = ""
        for number in range(tries):
            if number:
                await self._wait(_jittered(number))
            try:
                response = await self._client.post(
                    f"{self.url}/{path}", json=body, headers={"X-Request-Id": name} if name else {}
                )
                status = response.status_code
                if status in (401, 403):
                    raise BadInput(
                        f"The server {self.url} wants a key: put it into the environment variable "
                        f"{API_KEY} and start again."
                    )
                if status in _BUSY or status >= 500:
                    reason = f"it answers {status}: {_message(response)}"
                    if probing and status not in _BUSY:
                        raise Refused(status, _message(response))
                elif status >= 300:
                    raise Refused(status, _message(response))
                else:
                    return read(response.json())
            except httpx2.TransportError as failure:
                reason = str(failure) or type(failure).__name__
            except (ValueError, KeyError, TypeError, IndexError) as failure:
                reason = f"its answer is broken ({type(failure).__name__}: {failure})"
        raise Gone(reason)

    async def tell(self, url: str, body: Mapping[str, object]) -> str:
        """Send something once; why it was refused, or nothing when it was done.

        Raises:
            Gone: nothing answers there.
        """
        try:
            response = await self._client.post(url, json=body)
        except httpx2.TransportError as failure:
            raise Gone(str(failure) or type(failure).__name__) from failure
        return "" if response.is_success else _message(response)

    async def listed(self) -> list[Json]:
        """The models that the server lists; none where it has no list.

        Raises:
            Gone: nothing answers there.
            BadInput: it wants another key.
        """
        try:
            response = await self._client.get(f"{self.url}/models")
        except httpx2.TransportError as failure:
            raise Gone(str(failure) or type(failure).__name__) from failure
        if response.status_code in (401, 403):
            raise BadInput(
                f"The server {self.url} wants a key: put it into the environment variable "
                f"{API_KEY} and start again."
            )
        try:
            found = response.json()["data"]
            return [one for one in found if isinstance(one, dict) and "id" in one]
        except (ValueError, KeyError, TypeError):
            return []

    async def probe(self, *, tries: int = TRIES) -> Offer:
        """Find out what the server does; about ten requests of a few tokens.

        Raises:
            Gone: it does not answer.
            BadInput: it serves no such model, it wants a key, or it does not sample.
        """
        served, entry = await self._model(tries)
        path, body, dialect = await self._dialect(served, tries)
        wave = 1
        for n in WAVES:
            if len(await self._choices(path, body | {"n": n}, tries)) == n:
                wave = n
                break
        completions = path == "completions"
        ids = completions and await self._choices(path, body | {"prompt": [1, 2, 3]}, tries)
        given = await self._choices(path, body | {"return_token_ids": True}, tries)
        logs = await self._choices(path, body | {"logprobs": 1 if completions else True}, tries)
        return Offer(
            served=served,
            described=_described(entry),
            context=entry.get("max_model_len"),
            completions=completions,
            dialect=dialect,
            wave=wave,
            token_ids=bool(ids),
            gives_token_ids=any(one.get("token_ids") for one in given),
            seeds=await self._seeds(path, body, dialect, tries),
            log_probabilities=any(one.get("logprobs") for one in logs),
        )

    async def _model(self, tries: int) -> tuple[str, Json]:
        """The model that is meant, and what the server says of it."""
        for number in range(tries):
            if number:
                await self._wait(_jittered(number))
            try:
                listed = await self.listed()
                break
            except Gone:
                if number + 1 == tries:
                    raise
        names = [str(one["id"]) for one in listed]
        if self.named:
            return self.named, next((one for one in listed if one["id"] == self.named), {})
        if len(names) == 1:
            return names[0], listed[0]
        known = f"it lists {', '.join(names[:8])}" if names else "it does not list its models"
        raise BadInput(
            f"The server {self.url} does not say which model is meant, {known}: "
            f"write {self.url}#NAME."
        )

    async def _dialect(self, served: str, tries: int) -> tuple[str, Json, Dialect]:
        """Where and how the server can be asked: path, the body of a probe, dialect."""
        turns = [{"role": "user", "content": _OPENING}]
        refusal: Refused | None = None
        for path, asked in (
            ("completions", {"prompt": _OPENING}),
            ("chat/completions", {"messages": turns}),
        ):
            for dialect in Dialect:
                body = {"model": served, **asked, **spelled(Sampling(1.0, 1), dialect)}
                try:
                    await self.post(path, body, choices, tries=tries, probing=True)
                    return path, body, dialect
                except Refused as no:
                    refusal = refusal if refusal and no.status == 404 else no
        raise BadInput(
            f"The server {self.url} continues neither text nor chats of {served} ({refusal}): "
            "give the base URL of an OpenAI-compatible server, and the model's name behind #."
        )

    async def _choices(self, path: str, body: Json, tries: int) -> list[Json]:
        """What comes back; nothing where the server refuses."""
        try:
            return await self.post(path, body, choices, tries=tries, probing=True)
        except Refused:
            return []

    async def _seeds(self, path: str, body: Json, dialect: Dialect, tries: int) -> bool:
        """Whether equal seeds give equal texts, and other seeds others.

        Raises:
            BadInput: they are all equal, at a temperature of 2: the server does not sample.
        """
        hot = body | spelled(Sampling(2.0, 16), dialect)
        texts = [
            [text_of(one) for one in await self._choices(path, hot | {"seed": seed}, tries)]
            for seed in (1, 1, 2)
        ]
        if texts[0] and any(texts[0]) and texts[0] == texts[1] == texts[2]:
            raise BadInput(
                f"The server {self.url} writes the same text for every seed at temperature 2, so "
                "it does not sample: let it, or use another server."
            )
        return bool(texts[0]) and texts[0] == texts[1]

    def lost(self, reason: object) -> str:
        """What has happened, in one sentence for a person."""
        return f"The server {self.url} does not answer ({reason})"


async def load_adapter(server: Server, base: str, name: str, folder: str) -> str:
    """Have a server load a LoRA adapter from its own disk, and say how requests name it.

    vLLM takes adapters below its base URL and asks for them by their name, SGLang takes them at its
    root and asks for them as `base:name`.

    Args:
        server: of the model.
        base: name of the model in requests.
        name: of the adapter, which no other version of it has.
        folder: where the server finds it.

    Raises:
        BadInput: it cannot.
        Gone: it does not answer.
    """
    for entry in await server.listed():
        if entry["id"] == name:
            return f"{base}:{name}" if entry.get("owned_by") == "sglang" else name
    body = {"lora_name": name, "lora_path": folder}
    reason = await server.tell(f"{server.url}/load_lora_adapter", body)
    if not reason:
        return name
    if not await server.tell(f"{server.url.removesuffix('/v1')}/load_lora_adapter", body):
        return f"{base}:{name}"
    raise BadInput(
        f"The server {server.url} cannot load the adapter {folder} ({reason}): start it so that "
        "it loads adapters at run time and sees this folder (docs/scale.md), or sample here with "
        "--set model.engine=auto."
    )


def spelled(sampling: Sampling, dialect: Dialect) -> Json:
    """The fields of a request that say how tokens are chosen: all of them, always."""
    said: Json = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "max_tokens": sampling.max_tokens,
    }
    if sampling.stop:
        said["stop"] = list(sampling.stop)
    if dialect is Dialect.GENERATION_CONFIG:
        config: Json = {
            "do_sample": sampling.temperature > 0,
            "max_new_tokens": sampling.max_tokens,
            "repetition_penalty": 1.0,
        }
        if sampling.temperature > 0:
            config |= {
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                "top_k": sampling.top_k,
                "min_p": sampling.min_p,
            }
        return said | {"generation_config": json.dumps(config)}
    if dialect is not Dialect.PLAIN:
        off = -1 if dialect is Dialect.MINUS_ONE else 0
        said |= {
            "top_k": sampling.top_k or off,
            "min_p": sampling.min_p,
            "presence_penalty": 0,
            "frequency_penalty": 0,
            "repetition_penalty": 1.0,
            "repeat_penalty": 1.0,  # llama.cpp's name for it
        }
    return said


def choices(answer: Json) -> list[Json]:
    """The choices of an answer, at least one.

    Raises:
        ValueError, KeyError, TypeError: there are none, or one was not written to its end.
    """
    found = answer["choices"]
    if not found:
        raise ValueError("no choices")
    for one in found:
        text_of(one)
        if one.get("finish_reason") in ("abort", "error"):
            raise ValueError(f"a path was given up: {one['finish_reason']}")
    return list(found)


def text_of(choice: Json) -> str:
    """What was written, thoughts included, which some servers take apart."""
    if "message" not in choice:
        text = choice["text"]
    else:
        message = choice["message"]
        text = message.get("content") or ""
        thought = message.get("reasoning_content") or message.get("reasoning")
        if thought:
            text = f"<think>{thought}</think>{text}"
    if not isinstance(text, str):
        raise TypeError(f"text is {type(text).__name__}")
    return text


def _described(entry: Json) -> str:
    """Sizes of the weights, which llama-server tells and which outlive a restart."""
    meta = entry.get("meta")
    if not isinstance(meta, dict):
        return ""
    sizes = {name: meta[name] for name in ("n_params", "n_vocab", "size") if name in meta}
    return json.dumps(sizes, sort_keys=True) if sizes else ""


def _message(response: httpx2.Response) -> str:
    """What a server says of its refusal, in one line."""
    try:
        said = response.json()
        said = said.get("error", said.get("detail", said.get("message", said)))
        said = said.get("message", said) if isinstance(said, dict) else said
    except (ValueError, AttributeError):
        said = response.text
    return " ".join(str(said).split())[:200].rstrip(" .") or f"status {response.status_code}"


def _jittered(number: int) -> float:
    """Seconds to wait before try `number`."""
    bound = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (number - 1))
    return random.uniform(0, bound)  # noqa: S311 - spreading a crowd is not cryptography


def examine(address: str) -> Offer:
    """Ask a server once what it offers. Not to be called where an event loop runs.

    Raises:
        BadInput: nothing answers there, or not as it must.
    """

    async def ask() -> Offer:
        server = Server(address, wait=asyncio.sleep)
        try:
            return await server.probe(tries=1)
        except Gone as gone:
            raise BadInput(f"{server.lost(gone)}: start it, or correct the address.") from gone
        finally:
            await server.close()

    return asyncio.run(ask())


def failed(server: Server, reason: object) -> WorkFailed:
    """The failure of work that no server is left for."""
    return WorkFailed(
        f"{server.lost(reason)}, and no other one is left; every finished path is stored, and the "
        "same command goes on."
    )

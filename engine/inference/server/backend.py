"""Sample from OpenAI-compatible servers, several at once: vLLM, SGLang, llama-server and others.

A question is pinned to the server that had the least to do when its first path was asked for, so
that its prompt is in one prefix cache. Its paths are asked for in waves of as many choices as the
server gives for one request, each wave in a request of its own, and every wave that comes back is
given on at once. A wave is named by its question and its indices: one that is lost on the way is
asked for again, and no path can come twice. A server that stays silent is left out, and its waves
go to the others.

Everything happens in one thread: between two paths the event loop stands still, and what servers
send meanwhile waits in the sockets.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from uuid import NAMESPACE_URL, uuid5

import numpy as np

from engine.inference.backend import Generation, Message
from engine.inference.server.client import (
    Dialect,
    Gone,
    Offer,
    Refused,
    Server,
    choices,
    failed,
    load_adapter,
    spelled,
    text_of,
)
from engine.inference.stopping import Ending, Endings
from store.enums import EndReason
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
    from pathlib import Path

    from engine.inference.backend import PathRequest, PathSource, Sampling
    from engine.inference.server.client import Json

T = TypeVar("T")

_log = logging.getLogger(__name__)

IN_FLIGHT, IN_FLIGHT_ALONE = 512, 64
"""Paths in flight at each server unless asked otherwise: twice what vLLM decodes at once, so that
it never waits for us; fewer where each path is a request, since such servers decode few at once."""

LOOK = 0.5
"""Seconds after which the source is asked whether anybody still waits, however slow servers are."""

GRACE = 10.0
"""Seconds that the other servers have to answer at the start when one has answered."""

UNKNOWN_CONTEXT = 2**31
"""Where a server does not say what fits, it will refuse what does not."""

_CHAT = 256
"""First of the ids of a chat that is kept as text; the ids behind it are bytes."""


class Spelling(Protocol):
    """How prompts are told to a server, and what is taken from its choices."""

    def tokenize(self, text: str) -> list[int]:
        """Ids of plain text."""

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """Ids of a chat."""

    def request(self, prompt: tuple[int, ...], offer: Offer) -> tuple[str, Json]:
        """Path and prompt fields of a request."""

    def ending(self, choice: Json, sampling: Sampling) -> Ending:
        """What a choice says, and how it ended."""


class AsText:
    """The server has the only tokenizer: prompts are text, kept as their bytes.

    Paths have no token ids then; what is trained on them tokenises their text.
    """

    def tokenize(self, text: str) -> list[int]:
        """The bytes of the text."""
        return list(text.encode())

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """A mark, and the turns as bytes of JSON; the server fills its own template."""
        turns = [{"role": one.role, "content": one.content} for one in messages]
        return [_CHAT, *json.dumps(turns).encode()]

    def request(self, prompt: tuple[int, ...], offer: Offer) -> tuple[str, Json]:
        """The text, or the turns of the chat.

        Raises:
            BadInput: the server only chats, or cannot go on with a turn that is begun.
        """
        if prompt[:1] != (_CHAT,):
            if not offer.completions:
                raise BadInput(
                    f"The server of {offer.served} chats and does not continue text: "
                    "set sample.style to chat."
                )
            return "completions", {"prompt": bytes(prompt).decode()}
        turns = json.loads(bytes(prompt[1:]))
        said: Json = {"messages": turns}
        if turns[-1]["role"] == "assistant":
            if offer.dialect is not Dialect.MINUS_ONE:
                raise BadInput(
                    f"The server of {offer.served} cannot go on with a turn that is begun: choose "
                    "another format than zero-shot-cot, or set sample.style to base."
                )
            said |= {"continue_final_message": True, "add_generation_prompt": False}
        return "chat/completions", said

    def ending(self, choice: Json, sampling: Sampling) -> Ending:
        """The text before a stop string, which some servers leave in."""
        text = text_of(choice)
        found = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
        if found:
            return Ending(EndReason.STOP, (), text[: min(found)])
        if choice.get("finish_reason") == "length":
            return Ending(EndReason.LENGTH, (), text)
        stopped = isinstance(choice.get("stop_reason"), str)
        return Ending(EndReason.STOP if stopped else EndReason.END, (), text)


class AsTokens:
    """The tokenizer lies here, and servers take its ids: what is trained is what was sampled."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: a Hugging Face folder of the served model; its weights are not read.

        Raises:
            BadInput: its tokenizer cannot be loaded.
        """
        from engine.inference.hf.loading import (
            Prompts,
            load_tokenizer,
            piece_bytes,
            said_in_folder,
        )

        tokenizer = load_tokenizer(folder)
        self._prompts = Prompts(tokenizer)
        self._ends, vocabulary = said_in_folder(folder, tokenizer)
        self._pieces = piece_bytes(tokenizer, vocabulary)
        self._endings: tuple[Sampling, Endings] | None = None

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text."""
        return self._prompts.tokenize(text)

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a chat, by the folder's own template."""
        return self._prompts.tokenize_chat(messages)

    def request(self, prompt: tuple[int, ...], offer: Offer) -> tuple[str, Json]:
        """The token ids; those of the path are asked for where the server gives them."""
        asked: Json = {"prompt": list(prompt)}
        return "completions", asked | ({"return_token_ids": True} if offer.gives_token_ids else {})

    def ending(self, choice: Json, sampling: Sampling) -> Ending:
        """Cut where our own engines would; by its text where the ids are not given."""
        given = choice.get("token_ids")
        if not given:
            return AsText().ending(choice, sampling)
        if self._endings is None or self._endings[0] is not sampling:
            self._endings = sampling, Endings(self._pieces, self._ends, sampling)
        endings = self._endings[1]
        ids = np.asarray(given, np.int64)
        for last in endings.suspects(ids, np.arange(1, len(ids) + 1)):
            ending = endings.ending(given[: last + 1])
            if ending is not None:
                return ending
        # It met a limit of its server, or an end that the folder does not know.
        cut = choice.get("finish_reason") == "length"
        return Ending(EndReason.LENGTH if cut else EndReason.END, tuple(given), text_of(choice))


def open_servers(
    addresses: Sequence[str],
    *,
    identity: str | None = None,
    folder: Path | None = None,
    adapter: tuple[str, Path] | None = None,
    batch: int | None = None,
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Servers:
    """Connect to servers of one model.

    Args:
        addresses: base URLs, each with the model's name behind `#` where its server has several.
        identity: what the model was when it was brought along; None does not ask.
        folder: the same model as a Hugging Face folder, for its tokenizer; None leaves the
            tokenizer to the servers.
        adapter: a LoRA adapter's name, of this version alone, and its PEFT folder, which the
            servers must see at the same place.
        batch: most paths in flight at each server; None for `IN_FLIGHT`.
        wait: sleeps between two tries.

    Raises:
        BadInput: an address is none, a server serves something else, or cannot load the adapter.
        WorkFailed: a server does not answer.
    """
    servers = [Server(address, wait=wait) for address in addresses]
    loop = asyncio.new_event_loop()
    faults: list[BaseException] = []

    def note(loop: asyncio.AbstractEventLoop, told: dict[str, Any]) -> None:
        # A wish to end that a signal brings in the middle of a callback must not end in a log.
        if "exception" in told and "future" not in told:
            faults.append(told["exception"])
            loop.stop()

    loop.set_exception_handler(note)
    opened = Servers(loop, servers, faults, batch)
    try:
        opened.connect(identity, folder, adapter)
    except BaseException:
        opened.close()
        raise
    return opened


@dataclass(slots=True)
class _Site:
    """A server while it is sampled from."""

    server: Server
    offer: Offer
    served: str
    """Name in requests: the model's, or that of its adapter."""
    most: int
    """Paths that may be asked for at a time."""
    room: asyncio.Semaphore
    """One for each request that may be under way."""
    paths: int = 0
    """Asked for and not back."""
    gone: str = ""
    """Why it is left out; empty while it answers."""


@dataclass(slots=True)
class _Wave:
    """Paths of one question that are asked for in one request."""

    question: str
    site: _Site
    """Where it is asked for; another one when that is gone."""
    requests: list[PathRequest]


class Servers:
    """One model on several servers; implements `engine.inference.backend.Backend`."""

    name = "server"
    version = ""
    """Servers do not say theirs."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        servers: Sequence[Server],
        faults: list[BaseException],
        batch: int | None,
    ) -> None:
        """Args:
        loop: in which the servers are used; closed with this backend.
        servers: at least one, not asked yet.
        faults: what went wrong where nobody waits; the loop writes it.
        batch: most paths in flight at each server; None for `IN_FLIGHT`.
        """
        self.loop = loop
        self.sites: list[_Site] = []
        self.spelling: Spelling = AsText()
        self._servers = servers
        self._faults = faults
        self._batch = batch
        self.context_length = UNKNOWN_CONTEXT
        self.details: dict[str, object] = {}

    def connect(
        self, identity: str | None, folder: Path | None, adapter: tuple[str, Path] | None
    ) -> None:
        """Ask every server what it does; see `open_servers`."""
        offers = self.wait_for(self._probe())
        for server, offer in offers:
            if identity is not None and offer.identity != identity:
                raise BadInput(
                    f"The server {server.url} serves {offer.served} {offer.described}, which is not"
                    " the model that was brought along: give the address of that one, or make a "
                    "project for this one."
                )
        if folder is not None and all(offer.token_ids for _, offer in offers):
            self.spelling = AsTokens(folder)
        for server, offer in offers:
            served = offer.served
            if adapter is not None:
                name, where = adapter
                served = self.wait_for(load_adapter(server, served, name, str(where.resolve())))
            most = self._batch or (IN_FLIGHT if offer.wave > 1 else IN_FLIGHT_ALONE)
            self.sites.append(
                _Site(
                    server,
                    offer,
                    served=served,
                    most=most,
                    room=asyncio.Semaphore(max(1, most // offer.wave)),
                )
            )
        self.context_length = min(
            (offer.context for _, offer in offers if offer.context), default=UNKNOWN_CONTEXT
        )

    async def _probe(self) -> list[tuple[Server, Offer]]:
        """What each server that answers does; one that is slow does not keep the others waiting.

        Raises:
            WorkFailed: none does.
        """
        probes = {asyncio.create_task(server.probe()): server for server in self._servers}
        waiting = set(probes)
        while waiting and all(_failed(task) for task in probes.keys() - waiting):
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting:
            _, waiting = await asyncio.wait(waiting, timeout=GRACE)
        await _end(waiting)
        offers, reason = [], ""
        for task, server in probes.items():
            try:
                offers.append((server, task.result()))
            except (Gone, asyncio.CancelledError) as gone:
                reason = str(gone) or f"nothing within {GRACE:.0f} seconds of the others"
                _log.warning("%s: it is left out.", server.lost(reason))
        if not offers:
            raise failed(self._servers[-1], reason)
        return offers

    def check_room(self, request: PathRequest, sampling: Sampling) -> None:
        """Compare with the context, where tokens are counted here.

        Raises:
            BadInput: prompt and path do not fit.
        """
        long = len(request.prompt) + sampling.max_tokens > self.context_length
        if long and isinstance(self.spelling, AsTokens):
            raise BadInput(
                f"The prompt of question {request.question} has {len(request.prompt)} tokens and a "
                f"path may take {sampling.max_tokens}, but the server's context holds "
                f"{self.context_length}: use fewer examples, or lower max_tokens."
            )

    @property
    def offers(self) -> list[Offer]:
        """What each server does."""
        return [site.offer for site in self.sites]

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text; its bytes where the tokenizer is the server's own."""
        return self.spelling.tokenize(text)

    def tokenize_chat(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a chat; a mark and bytes where the template is the server's own.

        Raises:
            BadInput: the folder has no chat template.
        """
        return self.spelling.tokenize_chat(messages)

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        """Yield paths as their waves come back.

        Raises:
            BadInput: a prompt does not fit, or a server refuses it.
            WorkFailed: no server answers any more.
        """
        yield from _Waves(self, source, sampling).run()

    def close(self) -> None:
        """End all connections; more than once does no harm."""
        if self.loop.is_closed():
            return
        self.loop.run_until_complete(_end(asyncio.all_tasks(self.loop)))
        for server in self._servers:
            self.loop.run_until_complete(server.close())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Let the servers be heard until this is done."""
        try:
            return self.loop.run_until_complete(work)
        finally:
            if self._faults:
                raise self._faults.pop()


class _Waves:
    """The waves of one call of `sample`."""

    def __init__(self, model: Servers, source: PathSource, sampling: Sampling) -> None:
        self.model = model
        self.source = source
        self.sampling = sampling
        self.running: dict[asyncio.Task[list[Generation]], _Wave] = {}
        self.again: deque[PathRequest] = deque()
        """Taken from the source, but not asked for, or asked for in vain."""
        self.pins: dict[str, _Site] = {}

    def run(self) -> Iterator[Generation]:
        try:
            while True:
                self._begin()
                if not self.running:
                    return
                done, _ = self.model.wait_for(
                    asyncio.wait(self.running, timeout=LOOK, return_when=asyncio.FIRST_COMPLETED)
                )
                # What came is given on before a failure ends everything.
                for task in sorted(done, key=_failed):
                    wave = self.running.pop(task)
                    for generation in self._came(task, wave):
                        if not self.source.is_settled(generation.question):
                            yield generation
                    if self.source.is_settled(wave.question):
                        self.pins.pop(wave.question, None)
                for task, wave in self.running.items():
                    if self.source.is_settled(wave.question):
                        task.cancel()
        finally:
            if self.running and not self.model.loop.is_closed():
                self.model.loop.run_until_complete(_end(self.running))

    def _begin(self) -> None:
        """Start waves until the servers have enough to do."""
        sites = self.model.sites
        most = sum(site.most for site in sites if not site.gone)
        while not most or sum(site.paths for site in sites) < most:
            first = self._next()
            if first is None:
                return
            wave = _Wave(first.question, self._site_of(first.question), [first])
            while len(wave.requests) < wave.site.offer.wave and (other := self._next()):
                if other.question != first.question:
                    self.again.appendleft(other)
                    break
                wave.requests.append(other)
            wave.site.paths += len(wave.requests)
            self.running[self.model.loop.create_task(self._ask(wave))] = wave

    def _next(self) -> PathRequest | None:
        while self.again:
            request = self.again.popleft()
            if not self.source.is_settled(request.question):
                return request
        return self.source.next_path()

    def _site_of(self, question: str) -> _Site:
        """The server that a question is pinned to: the idlest one when it was first asked for.

        Raises:
            WorkFailed: all are gone.
        """
        pinned = self.pins.get(question)
        if pinned is None or pinned.gone:
            left = [site for site in self.model.sites if not site.gone]
            if not left:
                site = pinned or self.model.sites[0]
                raise failed(site.server, site.gone)
            pinned = min(left, key=lambda site: site.paths / site.most)
            self.pins[question] = pinned
        return pinned

    def _came(self, task: asyncio.Task[list[Generation]], wave: _Wave) -> list[Generation]:
        """What a wave brought; paths that it did not bring are asked for again."""
        wave.site.paths -= len(wave.requests)
        came = [] if task.cancelled() else task.result()
        have = {one.index for one in came}
        self.again.extend(one for one in wave.requests if one.index not in have)
        return came

    async def _ask(self, wave: _Wave) -> list[Generation]:
        while True:
            site = self._site_of(wave.question)
            wave.site.paths -= len(wave.requests)
            site.paths += len(wave.requests)
            wave.site = site
            async with site.room:
                if site.gone:
                    continue
                try:
                    return await self._ask_at(site, wave.requests)
                except Gone as gone:
                    site.gone = str(gone)
                    _log.warning("%s: it is left out.", site.server.lost(gone))

    async def _ask_at(self, site: _Site, requests: Sequence[PathRequest]) -> list[Generation]:
        first, offer, model = requests[0], site.offer, self.model
        model.check_room(first, self.sampling)
        path, prompt = model.spelling.request(first.prompt, offer)
        body = {"model": site.served, **prompt, **spelled(self.sampling, offer.dialect)}
        if len(requests) > 1:
            body["n"] = len(requests)
        if offer.wave == 1 and offer.seeds:
            # One seed for several paths would say little, and seeds make vLLM slow.
            body["seed"] = first.seed % 2**31

        def read(answer: Json) -> list[Ending]:
            # In the order of their indices, not of finishing: short paths finish first.
            found = sorted(choices(answer), key=lambda one: int(one.get("index", 0)))
            return [model.spelling.ending(one, self.sampling) for one in found]

        try:
            name = wave_id(first.question, first.index)
            endings = await site.server.post(path, body, read, name=name)
        except Refused as no:
            raise BadInput(
                f"The server {site.server.url} refuses the prompt of question {first.question} "
                f"({no}): shorten it or lower sample.max_tokens, or start the server otherwise."
            ) from no
        return [
            Generation(request.question, request.index, end.text, end.token_ids, end.reason)
            for request, end in zip(requests, endings, strict=False)
        ]


def wave_id(question: str, first: int) -> str:
    """Name of a wave, the same for every try; a UUID, since llama_cpp.server takes nothing else."""
    return str(uuid5(NAMESPACE_URL, f"lmsi:{question}:{first}"))


async def _end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Give tasks up, and their connections with them."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _failed(task: asyncio.Task[Any]) -> bool:
    return not task.cancelled() and task.exception() is not None

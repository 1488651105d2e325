"""Sample from OpenAI-compatible servers, several at once: vLLM, SGLang, llama-server and others.

A question is assigned to the least busy server when its first path is requested, so that its prompt
is in one prefix cache. Its paths are requested in groups of as many choices as the server returns
for one request, and each response is passed on at once. A request is named by its question and its
first path: a lost one is sent again, and no path can come twice. A server that does not respond is
dropped, and its paths are requested from the others.

Everything happens in one thread: while the caller handles a path the event loop does not run, and
responses wait in the sockets.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import NAMESPACE_URL, uuid5

from engine.inference.backend import Generation
from engine.inference.server.client import (
    RequestRefused,
    ServerClient,
    ServerUnavailable,
    choices,
    no_server_left,
)
from engine.inference.server.probe import (
    ServerCapabilities,
    load_adapter,
    probe,
    sampling_fields,
)
from engine.inference.server.prompt_encoding import PromptEncoding, TextEncoding, TokenEncoding
from engine.inference.server.token_logprobs import confidence_of, request_field
from store.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Sequence
    from pathlib import Path

    from engine.inference.backend import PathRequest, PathSource, Sampling
    from engine.inference.server.client import Json
    from engine.inference.stopping import Ending
    from engine.prompting.messages import ChatMessage
    from store.confidence import PathConfidence

T = TypeVar("T")

_log = logging.getLogger(__name__)

IN_FLIGHT, IN_FLIGHT_SINGLE = 512, 64
"""Default number of paths in flight at each server: twice what vLLM decodes at once, so that it
never waits for requests; fewer for servers that return one path per request, since these decode few
at once."""

POLL_SECONDS = 0.5
"""How often the source is asked whether it still needs the paths, however slow the servers are."""

GRACE_SECONDS = 10.0
"""Time for the other servers to respond to the first probe after one has responded."""

UNKNOWN_CONTEXT = 2**31
"""For a server that does not report its context length; it refuses what does not fit."""


def open_servers(
    addresses: Sequence[str],
    *,
    identity: str | None = None,
    folder: Path | None = None,
    adapter: tuple[str, Path] | None = None,
    batch_size: int | None = None,
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Servers:
    """Connect to servers of one model.

    Args:
        addresses: base URLs, each followed by `#` and the model's name if its server has several.
        identity: the identity of the model when it was added; None skips the comparison.
        folder: the same model as a Hugging Face folder, for its tokenizer; None leaves
            tokenization to the servers.
        adapter: name of a LoRA adapter, different for each version, and its PEFT folder, which the
            servers must see at the same path.
        batch_size: most paths in flight at each server; None for `IN_FLIGHT`.
        wait: sleeps between two attempts.

    Raises:
        BadInput: an address is invalid, or a server has another model or cannot load the adapter.
        WorkFailed: no server responds.
    """
    clients = [ServerClient(address, wait=wait) for address in addresses]
    loop = asyncio.new_event_loop()
    errors: list[BaseException] = []

    def collect(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        # A signal handler that raises inside a callback, to end the job, must not only be logged.
        if "exception" in context and "future" not in context:
            errors.append(context["exception"])
            loop.stop()

    loop.set_exception_handler(collect)
    servers = Servers(loop, clients, errors, batch_size)
    try:
        servers.connect(identity, folder, adapter)
    except BaseException:
        servers.close()
        raise
    return servers


@dataclass(slots=True)
class _Server:
    """A server that is being sampled from."""

    client: ServerClient
    capabilities: ServerCapabilities
    served: str
    """Name in requests: the model's, or its adapter's."""
    max_paths: int
    """Most paths in flight."""
    requests: asyncio.Semaphore
    """Limits the requests in progress."""
    paths: int = 0
    """Paths in flight."""
    failure: str = ""
    """Why it was dropped; empty while it responds."""


@dataclass(slots=True)
class _PathGroup:
    """Paths of one question that are sampled by one request."""

    question: str
    server: _Server
    """Where it is requested; changes when that server is dropped."""
    paths: list[PathRequest]


class Servers:
    """One model on several servers; implements `engine.inference.backend.Backend`."""

    name = "server"
    version = ""
    """Servers do not report theirs."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        clients: Sequence[ServerClient],
        errors: list[BaseException],
        batch_size: int | None,
    ) -> None:
        """Args:
        loop: in which the clients are used; closed with this backend.
        clients: at least one, not connected yet.
        errors: exceptions raised in callbacks; the loop's exception handler appends to it.
        batch_size: most paths in flight at each server; None for `IN_FLIGHT`.
        """
        self.loop = loop
        self.servers: list[_Server] = []
        self.encoding: PromptEncoding = TextEncoding()
        self._clients = clients
        self._errors = errors
        self._batch_size = batch_size
        self.context_length = UNKNOWN_CONTEXT
        self.details: dict[str, object] = {}

    def connect(
        self, identity: str | None, folder: Path | None, adapter: tuple[str, Path] | None
    ) -> None:
        """Probe every server; see `open_servers`."""
        probed = self.run_until(self._probe())
        for client, capabilities in probed:
            if identity is not None and capabilities.identity != identity:
                raise BadInput(
                    f"The server {client.url} serves {capabilities.served} "
                    f"{capabilities.described}, which is not the model that was added: give that "
                    "model's address, or create a project for this one."
                )
        if folder is not None and all(capabilities.token_ids for _, capabilities in probed):
            self.encoding = TokenEncoding(folder)
        for client, capabilities in probed:
            served = capabilities.served
            if adapter is not None:
                name, path = adapter
                served = self.run_until(load_adapter(client, served, name, str(path.resolve())))
            default = IN_FLIGHT if capabilities.max_choices > 1 else IN_FLIGHT_SINGLE
            max_paths = self._batch_size or default
            requests = asyncio.Semaphore(max(1, max_paths // capabilities.max_choices))
            self.servers.append(_Server(client, capabilities, served, max_paths, requests))
        self.context_length = min(
            (capabilities.context for _, capabilities in probed if capabilities.context),
            default=UNKNOWN_CONTEXT,
        )

    async def _probe(self) -> list[tuple[ServerClient, ServerCapabilities]]:
        """The capabilities of each server that responds; a slow one does not delay the others long.

        Raises:
            WorkFailed: none responds.
        """
        probes = {asyncio.create_task(probe(client)): client for client in self._clients}
        waiting = set(probes)
        while waiting and all(_failed(task) for task in probes.keys() - waiting):
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting:
            _, waiting = await asyncio.wait(waiting, timeout=GRACE_SECONDS)
        await _cancel(waiting)
        probed, reason = [], ""
        for task, client in probes.items():
            try:
                probed.append((client, task.result()))
            except (ServerUnavailable, asyncio.CancelledError) as error:
                reason = (
                    str(error) or f"no response within {GRACE_SECONDS:.0f} seconds of the others"
                )
                _log.warning("%s: it is not used.", client.unavailable(reason))
        if not probed:
            raise no_server_left(self._clients[-1], reason)
        return probed

    def check_length(self, request: PathRequest, sampling: Sampling) -> None:
        """Compare with the context length, if tokens are counted here.

        Raises:
            BadInput: prompt and path do not fit.
        """
        too_long = len(request.prompt) + sampling.max_tokens > self.context_length
        if too_long and isinstance(self.encoding, TokenEncoding):
            raise BadInput(
                f"The prompt of question {request.question} has {len(request.prompt)} tokens and a "
                f"path may take {sampling.max_tokens}, but the server's context holds "
                f"{self.context_length}: use fewer examples, or lower max_tokens."
            )

    @property
    def capabilities(self) -> list[ServerCapabilities]:
        """What each server can do."""
        return [server.capabilities for server in self.servers]

    def tokenize(self, text: str) -> list[int]:
        """Token ids of plain text; its bytes if only the server has the tokenizer."""
        return self.encoding.tokenize(text)

    def tokenize_chat(
        self, messages: Sequence[ChatMessage], *, thinking: bool = False
    ) -> list[int]:
        """Token ids of a chat; a marker and bytes if only the server has the template.

        Raises:
            BadInput: the folder has no chat template.
        """
        return self.encoding.tokenize_chat(messages, thinking=thinking)

    def sample(self, source: PathSource, sampling: Sampling) -> Iterator[Generation]:
        """Yield paths as the responses arrive.

        Raises:
            BadInput: a prompt does not fit, or a server refuses it.
            WorkFailed: no server responds any more.
        """
        yield from _Dispatcher(self, source, sampling).run()

    def close(self) -> None:
        """Close all connections; calling it again has no effect."""
        if self.loop.is_closed():
            return
        self.loop.run_until_complete(_cancel(asyncio.all_tasks(self.loop)))
        for client in self._clients:
            self.loop.run_until_complete(client.close())
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def run_until(self, work: Coroutine[Any, Any, T]) -> T:
        """Run the event loop until a coroutine is done."""
        try:
            return self.loop.run_until_complete(work)
        finally:
            if self._errors:
                raise self._errors.pop()


class _Dispatcher:
    """The requests of one call of `sample`."""

    def __init__(self, backend: Servers, source: PathSource, sampling: Sampling) -> None:
        self.backend = backend
        self.source = source
        self.sampling = sampling
        self.running: dict[asyncio.Task[list[Generation]], _PathGroup] = {}
        self.pending: deque[PathRequest] = deque()
        """Paths taken from the source that were not requested, or whose request failed."""
        self.assigned: dict[str, _Server] = {}
        """Server of each question."""

    def run(self) -> Iterator[Generation]:
        try:
            while True:
                self._start_requests()
                if not self.running:
                    return
                done, _ = self.backend.run_until(
                    asyncio.wait(
                        self.running, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED
                    )
                )
                # Successes first: they are passed on before a failure ends everything.
                for task in sorted(done, key=_failed):
                    group = self.running.pop(task)
                    for generation in self._finish(task, group):
                        if not self.source.is_settled(generation.question):
                            yield generation
                    if self.source.is_settled(group.question):
                        self.assigned.pop(group.question, None)
                for task, group in self.running.items():
                    if self.source.is_settled(group.question):
                        task.cancel()
        finally:
            if self.running and not self.backend.loop.is_closed():
                self.backend.loop.run_until_complete(_cancel(self.running))

    def _start_requests(self) -> None:
        """Start requests until the servers have enough paths in flight."""
        servers = self.backend.servers
        limit = sum(server.max_paths for server in servers if not server.failure)
        while not limit or sum(server.paths for server in servers) < limit:
            first = self._next()
            if first is None:
                return
            server = self._server_for(first.question)
            group = _PathGroup(first.question, server, [first])
            while len(group.paths) < server.capabilities.max_choices and (path := self._next()):
                if path.question != first.question:
                    self.pending.appendleft(path)
                    break
                group.paths.append(path)
            server.paths += len(group.paths)
            self.running[self.backend.loop.create_task(self._request(group))] = group

    def _next(self) -> PathRequest | None:
        while self.pending:
            path = self.pending.popleft()
            if not self.source.is_settled(path.question):
                return path
        return self.source.next_path()

    def _server_for(self, question: str) -> _Server:
        """The server that a question is assigned to: the least busy one at its first request.

        Raises:
            WorkFailed: all servers were dropped.
        """
        server = self.assigned.get(question)
        if server is None or server.failure:
            left = [server for server in self.backend.servers if not server.failure]
            if not left:
                last = server or self.backend.servers[0]
                raise no_server_left(last.client, last.failure)
            server = min(left, key=lambda server: server.paths / server.max_paths)
            self.assigned[question] = server
        return server

    def _finish(self, task: asyncio.Task[list[Generation]], group: _PathGroup) -> list[Generation]:
        """The paths that a request returned; those it did not return become pending again."""
        group.server.paths -= len(group.paths)
        finished = [] if task.cancelled() else task.result()
        indices = {generation.index for generation in finished}
        self.pending.extend(path for path in group.paths if path.index not in indices)
        return finished

    async def _request(self, group: _PathGroup) -> list[Generation]:
        """Request a group of paths, from another server if its own fails."""
        while True:
            server = self._server_for(group.question)
            group.server.paths -= len(group.paths)
            server.paths += len(group.paths)
            group.server = server
            async with server.requests:
                if server.failure:
                    continue
                try:
                    return await self._request_from(server, group.paths)
                except ServerUnavailable as error:
                    server.failure = str(error)
                    _log.warning("%s: it is no longer used.", server.client.unavailable(error))

    async def _request_from(
        self, server: _Server, paths: Sequence[PathRequest]
    ) -> list[Generation]:
        first, capabilities, encoding = paths[0], server.capabilities, self.backend.encoding
        self.backend.check_length(first, self.sampling)
        path, prompt = encoding.request(first.prompt, capabilities)
        fields = sampling_fields(self.sampling, capabilities.dialect)
        body = {"model": server.served, **prompt, **fields}
        if len(paths) > 1:
            body["n"] = len(paths)
        if capabilities.max_choices == 1 and capabilities.seeds:
            # Not for several paths: one seed for all is of little use, and seeds make vLLM slow.
            body["seed"] = first.seed % 2**31
        if capabilities.log_probabilities:
            body |= request_field(path)

        def read(response: Json) -> list[tuple[Ending, PathConfidence | None]]:
            # In the order of their indices, not of finishing: short paths finish first.
            ordered = sorted(choices(response), key=lambda choice: int(choice.get("index", 0)))
            endings = [encoding.ending(choice, self.sampling) for choice in ordered]
            return [
                (ending, confidence_of(choice, ending))
                for choice, ending in zip(ordered, endings, strict=True)
            ]

        try:
            name = request_id(first.question, first.index)
            finished = await server.client.post(path, body, read, name=name)
        except RequestRefused as error:
            raise BadInput(
                f"The server {server.client.url} refuses the prompt of question {first.question} "
                f"({error}): shorten it, lower sample.max_tokens, or change the server's options."
            ) from error
        return [
            Generation(
                request.question, request.index, end.text, end.token_ids, end.reason, confidence
            )
            for request, (end, confidence) in zip(paths, finished, strict=False)
        ]


def request_id(question: str, first: int) -> str:
    """Name of a request, the same for every attempt; llama_cpp.server accepts only UUIDs."""
    return str(uuid5(NAMESPACE_URL, f"lmsi:{question}:{first}"))


async def _cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and their connections with them."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _failed(task: asyncio.Task[Any]) -> bool:
    return not task.cancelled() and task.exception() is not None

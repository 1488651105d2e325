"""A fake HTTP server on the loopback interface, with configurable features and faults.

Each request that the backend names (it names requests for paths, not probes) takes the next fault
from the list, in order of arrival.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from engine.inference.server.backend import request_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Json = dict[str, Any]

REQUEST_NAMES = {
    request_id(question, first): f"{question}-{first}"
    for question in "abcdefgh"
    for first in range(32)
}
"""Readable names for the request ids that tests use."""


def counting(body: Json, number: int) -> Json:
    """A choice whose answer is its number."""
    return {"text": f" The answer is {number}.", "finish_reason": "stop"}


@dataclass
class Fake:
    """The features and faults of a server, and the requests it received."""

    served: str = "pebble"
    most: int = 8
    """Most choices of one request."""
    refuses_more: bool = True
    """Whether a larger `n` is refused, as by llama-server, or silently reduced."""
    least_top_k: int = -1
    unknown_fields: frozenset[str] = frozenset()
    """Fields whose presence is refused."""
    token_ids: bool = False
    gives_token_ids: bool = False
    context: int | None = None
    completions: bool = True
    key: str = ""
    loads_adapters: str = ""
    """Path that loads adapters; empty for none."""
    write: Callable[[Json, int], Json] = counting
    """Makes a choice from the request body and a number, unique except for equal seeds."""
    faults: deque[str] = field(default_factory=deque)
    """`drop`, `half`, `empty`, `short`, `long`, or a status."""
    retry_after: str = ""
    """Header sent with a status from `faults`."""
    holds: Callable[[str], bool] = lambda _: False
    """Whether a request, by its name, waits for `release`."""
    requests: list[tuple[str, Json]] = field(default_factory=list)
    """Name (question and first index) and body of every named request."""
    adapters: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    """Releases the requests held."""
    url: str = ""
    written: int = 1_000
    lock: threading.Lock = field(default_factory=threading.Lock)

    def number(self, body: Json) -> int:
        with self.lock:
            self.written += 1
            return int(body.get("seed", self.written))

    def refusal(  # noqa: PLR0911 - a return for each reason
        self, path: str, body: Json
    ) -> tuple[int, str] | None:
        """Status and reason; None to accept the request."""
        if path == "completions" and not self.completions:
            return 404, "Not Found"
        adapters = [*self.adapters, *(f"{self.served}:{name}" for name in self.adapters)]
        if body["model"] not in (self.served, *adapters):
            return 404, f"The model {body['model']} does not exist."
        if body.get("top_k", 0) < self.least_top_k:
            return 422, "top_k is too small"
        if unknown := self.unknown_fields & body.keys():
            return 422, f"Unexpected fields: {unknown}"
        if self.refuses_more and body.get("n", 1) > self.most:
            return 400, "n is more than the slots"
        if isinstance(body.get("prompt"), list) and not self.token_ids:
            return 400, "prompt must be a string."
        return None


@contextmanager
def serving(fake: Fake) -> Iterator[Fake]:
    """Run a fake server on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet

        def log_message(self, *_: object) -> None:
            """Log nothing."""

        def do_GET(self) -> None:
            self.answer_models()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path = self.path.removeprefix("/v1/")
            if fake.key and self.headers.get("Authorization") != f"Bearer {fake.key}":
                self.respond(401, {"error": {"message": "no key"}})
            elif path.endswith("load_lora_adapter"):
                self.load(self.path, body)
            else:
                self.write_paths(path, body)

        def answer_models(self) -> None:
            maker = {"/load_lora_adapter": "sglang"}.get(fake.loads_adapters, "test")
            models = [{"id": name, "owned_by": maker} for name in (fake.served, *fake.adapters)]
            if fake.context:
                models[0]["max_model_len"] = fake.context  # type: ignore[assignment]
            self.respond(200, {"data": models})

        def load(self, path: str, body: Json) -> None:
            if path != fake.loads_adapters:
                self.respond(404, {"detail": "Not Found"})
                return
            fake.adapters.append(body["lora_name"])
            self.respond_bytes(200, b"Success: LoRA adapter added.")

        def write_paths(self, path: str, body: Json) -> None:
            fault = ""
            if name := self.headers.get("X-Request-Id"):
                with fake.lock:
                    name = REQUEST_NAMES.get(name, name)
                    fake.requests.append((name, body))
                    fault = fake.faults.popleft() if fake.faults else ""
                    fault = "hold" if fake.holds(name) else fault
            if fault == "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            if fault == "hold":
                fake.release.wait(60)
            if fault.isdigit():
                self.respond(int(fault), {"error": {"message": "busy or broken"}})
                return
            if refusal := fake.refusal(path, body):
                self.respond(refusal[0], {"error": {"message": refusal[1]}})
                return
            count = min(body.get("n", 1), fake.most)
            count += {"short": -1, "long": 3, "empty": -count}.get(fault, 0)
            made = [fake.write(body, fake.number(body)) | {"index": i} for i in range(count)]
            if path == "chat/completions":
                made = [choice | {"message": {"content": choice.pop("text")}} for choice in made]
            # In reverse: the index of a choice need not be its position.
            data = json.dumps({"choices": made[::-1]}).encode()
            self.respond_bytes(200, data, len(data) // 2 if fault == "half" else None)

        def respond(self, status: int, value: Json) -> None:
            self.respond_bytes(status, json.dumps(value).encode())

        def respond_bytes(self, status: int, data: bytes, cut: int | None = None) -> None:
            self.send_response(status)
            if fake.retry_after and status >= 400:
                self.send_header("Retry-After", fake.retry_after)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data[:cut])
            if cut is not None:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Ignore clients that disconnect."""

    server = Quiet(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield fake
    finally:
        fake.release.set()
        server.shutdown()
        server.server_close()
        thread.join()

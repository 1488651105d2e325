"""A server of this test's own, which does what servers do, and fails as it is told.

It speaks HTTP on the loopback. Requests that the backend names (it names waves, not probes) take
the next fault from the list, in the order in which they come.
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

WAVES = {
    request_id(question, first): f"{question}-{first}"
    for question in "abcdefgh"
    for first in range(32)
}
"""Names of the waves that tests ask for, so that they can be read."""


def counting(body: Json, number: int) -> Json:
    """A path that says which one it is."""
    return {"text": f" The answer is {number}.", "finish_reason": "stop"}


@dataclass
class Fake:
    """What the server is like, and what it was asked."""

    served: str = "pebble"
    most: int = 8
    """Choices of one request; 1 ignores `n`."""
    refuses_more: bool = True
    """Whether more are refused, as llama-server does, or cut in silence."""
    least_top_k: int = -1
    unknown_fields: frozenset[str] = frozenset()
    """Fields that are refused."""
    token_ids: bool = False
    gives_token_ids: bool = False
    context: int | None = None
    completions: bool = True
    key: str = ""
    loads_adapters: str = ""
    """Path at which adapters are loaded; empty for nowhere."""
    write: Callable[[Json, int], Json] = counting
    """One choice from the request and a number that is never used twice, but by equal seeds."""
    faults: deque[str] = field(default_factory=deque)
    """`drop`, `half`, `empty`, `short`, `long`, or a status."""
    holds: Callable[[str], bool] = lambda _: False
    """Whether a wave waits for `release`, by its name."""
    waves: list[tuple[str, Json]] = field(default_factory=list)
    """Name (question and first index) and body of every request that was named."""
    adapters: list[str] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    """Lets go what was held."""
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
        """Status and reason."""
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
    """Run it on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # headers and body in one packet

        def log_message(self, *_: object) -> None:
            """Say nothing."""

        def do_GET(self) -> None:
            self.answer_models()

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            path = self.path.removeprefix("/v1/")
            if fake.key and self.headers.get("Authorization") != f"Bearer {fake.key}":
                self.say(401, {"error": {"message": "no key"}})
            elif path.endswith("load_lora_adapter"):
                self.load(self.path, body)
            else:
                self.write_paths(path, body)

        def answer_models(self) -> None:
            maker = {"/load_lora_adapter": "sglang"}.get(fake.loads_adapters, "test")
            models = [{"id": name, "owned_by": maker} for name in (fake.served, *fake.adapters)]
            if fake.context:
                models[0]["max_model_len"] = fake.context  # type: ignore[assignment]
            self.say(200, {"data": models})

        def load(self, path: str, body: Json) -> None:
            if path != fake.loads_adapters:
                self.say(404, {"detail": "Not Found"})
                return
            fake.adapters.append(body["lora_name"])
            self.say_bytes(200, b"Success: LoRA adapter added.")

        def write_paths(self, path: str, body: Json) -> None:
            fault = ""
            if name := self.headers.get("X-Request-Id"):
                with fake.lock:
                    name = WAVES.get(name, name)
                    fake.waves.append((name, body))
                    fault = fake.faults.popleft() if fake.faults else ""
                    fault = "hold" if fake.holds(name) else fault
            if fault == "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            if fault == "hold":
                fake.release.wait(60)
            if fault.isdigit():
                self.say(int(fault), {"error": {"message": "busy or broken"}})
                return
            if refusal := fake.refusal(path, body):
                self.say(refusal[0], {"error": {"message": refusal[1]}})
                return
            count = min(body.get("n", 1), fake.most)
            count += {"short": -1, "long": 3, "empty": -count}.get(fault, 0)
            made = [fake.write(body, fake.number(body)) | {"index": i} for i in range(count)]
            if path == "chat/completions":
                made = [one | {"message": {"content": one.pop("text")}} for one in made]
            # The last one first: an index is not a place.
            data = json.dumps({"choices": made[::-1]}).encode()
            self.say_bytes(200, data, len(data) // 2 if fault == "half" else None)

        def say(self, status: int, said: Json) -> None:
            self.say_bytes(status, json.dumps(said).encode())

        def say_bytes(self, status: int, data: bytes, cut: int | None = None) -> None:
            self.send_response(status)
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
            """A client that went away is what these tests are about."""

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

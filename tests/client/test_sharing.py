"""Many threads that share one client: no answer is mixed up, and no bound is broken."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from resource_server import HTTPClient, Request, Resource, get, post

if TYPE_CHECKING:
    from tests.conftest import Serve

PATIENCE = 60.0
THREADS = 200
REQUESTS = 20
CONNECTIONS = 8


def expected(text: str) -> str:
    """The answer for a text: of many lengths, so that bytes of two answers would be told apart."""
    return f"{text};" * (1 + len(text) * 37 % 101)


class Echo(Resource):
    """Tells what it was asked, and notes how many ask at a time and over which connections."""

    def __init__(self) -> None:
        self.connections: set[tuple[str, int]] = set()
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def _answer(self, request: Request, text: str) -> str:
        with self._lock:
            self.connections.add(request.client_address)
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            return expected(text)
        finally:
            with self._lock:
                self._now -= 1

    @get("/echo/:word")
    def echo(self, request: Request) -> str:
        return self._answer(request, f"{request.matches['word']}{request.query['n']}")

    @post("/echo")
    def echo_body(self, request: Request) -> str:
        return self._answer(request, request.text())


def test_two_hundred_threads_share_a_client(serve: Serve) -> None:
    echo = Echo()
    server = serve(echo)
    wrong: list[Any] = []
    called: list[str] = []
    begin = threading.Barrier(THREADS)

    def ask(client: HTTPClient, number: int) -> None:
        try:
            begin.wait(PATIENCE)
            for count in range(REQUESTS):
                word = "x" * (number % 7) + f"{number}-{count}-"
                if count % 3 == 2:
                    handle = client.post("/echo", word)
                    text = word
                else:
                    handle = client.get(f"/echo/{word}", {"n": count})
                    text = f"{word}{count}"
                answer = handle.result(PATIENCE)
                if answer.status_code != 200 or answer.text != expected(text):
                    wrong.append((text, answer.status_code, answer.text[:100]))
            client.get("/echo/last", {"n": number}, None, lambda each: called.append(each.path))
        except BaseException as error:  # whatever it is, the test fails for it
            wrong.append(error)

    with HTTPClient(
        server.address, timeout=PATIENCE, threads=2 * CONNECTIONS, max_connections=CONNECTIONS
    ) as client:
        threads = [
            threading.Thread(target=ask, args=(client, number), daemon=True)
            for number in range(THREADS)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert not any(thread.is_alive() for thread in threads)
        for handle in client._desk.under_way():
            handle.wait()
        assert client.update() == THREADS
        assert client.pending() == 0
    assert wrong == []
    assert called == ["/echo/last"] * THREADS
    assert echo.most <= CONNECTIONS
    # None was lost and made anew, either.
    assert len(echo.connections) <= CONNECTIONS

"""HTTPClient against our own server: requests, results, callbacks, life."""

from __future__ import annotations

import concurrent.futures
import gc
import io
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import (
    ErrorResponse,
    HTTPClient,
    JsonResponse,
    RequestHandle,
)
from resource_server.client import Cancelled, ClientResponse, ProtocolError
from resource_server.client import http as client_http
from resource_server.errors import Conflict, NotFound, Unauthorized
from tests.client.things import PATIENCE, Things, seen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Serve


@pytest.fixture
def things() -> Iterator[Things]:
    things = Things()
    yield things
    things.go_on.set()


@pytest.fixture
def client(serve: Serve, things: Things) -> Iterator[HTTPClient]:
    server = serve(things)
    with HTTPClient(server.address) as client:
        yield client
        things.go_on.set()


class TestRequests:
    def test_the_query_is_encoded(self, client: HTTPClient) -> None:
        query = {"a": [1, 2.5], "b c": "ü&=", "yes": True, "none": None}
        answer = seen(client.get("/seen", query))
        assert answer["params"] == {"a": ["1", "2.5"], "b c": ["ü&="], "yes": ["true"]}

    @pytest.mark.parametrize("query", ["?x=1", "x=1", [("x", 1)], {"x": 1}])
    def test_the_query_can_be_given_in_several_ways(self, client: HTTPClient, query: Any) -> None:
        assert seen(client.get("/seen", query))["params"] == {"x": ["1"]}

    def test_a_query_joins_that_of_the_path(self, client: HTTPClient) -> None:
        assert seen(client.get("/seen?a=1#part", {"b": 2}))["target"] == "/seen?a=1&b=2"

    @pytest.mark.parametrize(
        ("path", "target"),
        [
            ("/seen?a b", "/seen?a%20b"),
            ("seen", "/seen"),
            ("/seen?100%", "/seen?100%25"),
            ("/seen?%41%zz", "/seen?%41%25zz"),
            ("/seen?ü", "/seen?%C3%BC"),
            ("/seen#part", "/seen"),
            ("/seen?", "/seen?"),
        ],
    )
    def test_a_path_is_encoded_where_it_needs_it(
        self, client: HTTPClient, path: str, target: str
    ) -> None:
        assert seen(client.get(path))["target"] == target

    @pytest.mark.parametrize("path", ["/a\r\nX: y", "/\0", "http://other/x"])
    def test_what_is_no_path_is_refused_at_once(self, client: HTTPClient, path: str) -> None:
        with pytest.raises(ValueError, match=r"control|URL"):
            client.get(path)
        assert client.pending() == 0

    @pytest.mark.parametrize("method", ["", "GET /", "GE\r\nT", "CONNECT"])
    def test_what_is_no_method_is_refused_at_once(self, client: HTTPClient, method: str) -> None:
        with pytest.raises(ValueError, match=r"CONNECT|method"):
            client.request(method, "/seen")

    @pytest.mark.parametrize(
        "headers",
        [{"X": "a\r\nb"}, {"a b": "c"}, {"Content-Length": "1"}, {"Transfer-Encoding": ""}],
    )
    def test_fields_that_may_not_be_sent_are_refused_at_once(
        self, client: HTTPClient, headers: dict[str, str]
    ) -> None:
        with pytest.raises(ValueError, match=r"RFC|leave it out|value"):
            client.get("/seen", headers=headers)

    def test_the_headers_of_a_request_replace_those_of_the_client(self, serve: Serve) -> None:
        with HTTPClient(serve(Things).address, headers={"X-A": "1", "Accept": "a/b"}) as client:
            one = client.get("/seen", headers=[("x-a", "2"), ("x-a", "3")]).result(PATIENCE)
            fields = [tuple(field) for field in one.json()["headers"]]
            assert [field for field in fields if field[0].lower() == "x-a"] == [
                ("x-a", "2"),
                ("x-a", "3"),
            ]
            assert ("Accept", "a/b") in fields
            assert one.request.headers.fields() == fields
            assert ["X-A", "1"] in seen(client.get("/seen"))["headers"]

    def test_what_is_sent_with_every_request(self, client: HTTPClient) -> None:
        fields = dict(map(tuple, seen(client.get("/seen"))["headers"]))
        assert fields["Host"] == client.url.removeprefix("http://")
        assert fields["User-Agent"].startswith("resource_server/")
        assert fields["Accept-Encoding"].startswith("gzip, deflate")

    def test_methods(self, client: HTTPClient) -> None:
        for method in ("post", "put", "patch"):
            answer = seen(getattr(client, method)("/seen", "x"))
            assert answer["method"] == method.upper()
        assert client.delete("/seen").result(PATIENCE).status_code == 204
        assert client.options("/seen").result(PATIENCE).text == "can"
        assert client.options().result(PATIENCE).status_code in (200, 204)
        response = client.head("/only-head").result(PATIENCE)
        assert response.headers["x-length"] == "none"
        assert client.head("/bytes").result(PATIENCE).body == b""
        assert client.request("REPORT", "/seen").result(PATIENCE).status_code in (405, 501)

    def test_a_post_of_nothing_says_so(self, client: HTTPClient) -> None:
        answer = seen(client.post("/seen", None))
        assert (answer["length"], answer["body"]) == ("0", "")


class TestPayloads:
    @pytest.mark.parametrize(
        ("payload", "kind", "body"),
        [
            ({"a": [1]}, "application/json", '{"a":[1]}'),
            ([1, "ü"], "application/json", '[1,"ü"]'),
            ("tüxt", "text/plain", "tüxt"),
            (b"bytes", "application/octet-stream", "bytes"),
            (bytearray(b"array"), "application/octet-stream", "array"),
            (memoryview(b"view"), "application/octet-stream", "view"),
            (io.BytesIO(b"file"), "application/octet-stream", "file"),
        ],
    )
    def test_of_a_known_length(
        self, client: HTTPClient, payload: Any, kind: str, body: str
    ) -> None:
        answer = seen(client.post("/seen", payload))
        assert (answer["type"], answer["body"]) == (kind, body)
        assert answer["length"] == str(len(body.encode()))

    @pytest.mark.parametrize(
        ("payload", "body"),
        [
            (iter([b"a", "ü", bytearray(b"c"), b"", b"d"]), "aücd"),
            (io.StringIO("tüxt"), "tüxt"),
        ],
    )
    def test_of_an_unknown_length(self, client: HTTPClient, payload: Any, body: str) -> None:
        answer = seen(client.post("/seen", payload))
        assert (answer["coding"], answer["length"], answer["body"]) == ("chunked", None, body)

    def test_a_file_is_sent_from_where_it_is(self, client: HTTPClient, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"0123456789")
        with path.open("rb") as file:
            file.seek(4)
            assert seen(client.post("/seen", file))["body"] == "456789"

    def test_a_content_type_can_be_given(self, client: HTTPClient) -> None:
        answer = seen(client.post("/seen", "<a/>", headers={"content-type": "text/xml"}))
        assert answer["type"] == "text/xml"

    def test_progress_of_an_upload(self, client: HTTPClient) -> None:
        told: list[tuple[int, int | None]] = []

        def progress(done: int, total: int | None) -> None:
            told.append((done, total))

        client.post("/seen", b"x" * 200_000, progress=progress).result(PATIENCE)
        assert told == [(65536, 200000), (131072, 200000), (196608, 200000), (200000, 200000)]
        told.clear()
        client.post("/seen", "abc", progress=progress).result(PATIENCE)
        client.post("/seen", iter(["de", "f"]), progress=progress).result(PATIENCE)
        assert told == [(3, 3), (2, None), (3, None)]

    @pytest.mark.parametrize("payload", [1, object(), (1, 2)])
    def test_what_cannot_be_sent_is_refused_at_once(
        self, client: HTTPClient, payload: object
    ) -> None:
        with pytest.raises(TypeError, match="cannot be sent"):
            client.post("/seen", payload)

    def test_what_an_iterator_raises_is_what_the_request_ends_in(self, client: HTTPClient) -> None:
        def pieces() -> Iterator[bytes]:
            yield b"a"
            raise OSError("no more")

        with pytest.raises(OSError, match=r"^no more$"):
            client.post("/seen", pieces()).result(PATIENCE)
        with pytest.raises(TypeError, match="bytes or str"):
            client.post("/seen", iter([1])).result(PATIENCE)

    def test_what_progress_raises_is_what_the_request_ends_in(self, client: HTTPClient) -> None:
        def progress(done: int, total: int | None) -> None:
            raise ConnectionResetError("mine")

        for payload in ("x", iter("xy")):
            with pytest.raises(ConnectionResetError, match="mine"):
                client.post("/seen", payload, progress=progress).result(PATIENCE)
        assert seen(client.get("/seen"))["target"] == "/seen"


class TestResponses:
    def test_json(self, client: HTTPClient) -> None:
        response = client.get("/seen").result(PATIENCE)
        assert isinstance(response, JsonResponse)
        assert isinstance(response, ClientResponse)
        assert response.payload == response.json() == response.payload
        assert response.status_code == 200
        assert response.ok
        assert response.reason == "OK"
        assert response.url == f"{client.url}/seen"
        assert response.request.method == "GET"
        assert 0 < response.elapsed < PATIENCE
        response.raise_for_status()

    def test_bytes(self, client: HTTPClient) -> None:
        response = client.get("/bytes").result(PATIENCE)
        assert response.payload == response.body == bytes(range(256))
        assert type(response) is ClientResponse

    def test_chunks(self, client: HTTPClient) -> None:
        text = client.get("/pieces").result(PATIENCE).text
        assert text == "".join(f"{number}," for number in range(1000))

    def test_text_is_decoded_as_it_says(self, client: HTTPClient) -> None:
        assert client.get("/latin").result(PATIENCE).text == "café"
        # Only what is a character set, and known to be harmless.
        assert client.get("/odd-charset").result(PATIENCE).text == "é"

    def test_malformed_json_is_a_protocol_error(self, client: HTTPClient) -> None:
        response = client.get("/no-json").result(PATIENCE)
        with pytest.raises(ProtocolError, match=r"GET http.*/no-json: the content is not JSON"):
            _ = response.payload
        assert response.text == "{"

    def test_an_error_status(self, client: HTTPClient) -> None:
        response = client.get("/conflict").result(PATIENCE)
        assert isinstance(response, ErrorResponse)
        assert not response.ok
        assert isinstance(response.error, Conflict)
        assert "not twice" in response.text
        with pytest.raises(Conflict):
            response.raise_for_status()
        missing = client.get("/nothing").result(PATIENCE)
        assert isinstance(missing.error, NotFound)
        assert str(missing) == "Not Found"

    def test_an_error_tells_what_the_server_says(self, client: HTTPClient) -> None:
        response = client.get("/problem").result(PATIENCE)
        assert response.payload == {"detail": "why"}
        assert str(response) == "why"

    def test_an_error_has_the_fields_of_the_answer(self, client: HTTPClient) -> None:
        error = client.get("/login").result(PATIENCE).error
        assert isinstance(error, Unauthorized)
        assert ("WWW-Authenticate", 'Basic realm="x"') in error.headers

    def test_a_status_that_nobody_knows(self, client: HTTPClient) -> None:
        response = client.get("/strange").result(PATIENCE)
        assert response.status_code == 600
        assert isinstance(response, ErrorResponse)
        assert response.payload == b"strange"


class TestResults:
    def test_a_handle_is_a_future(self, client: HTTPClient) -> None:
        handles = [client.get("/seen", {"n": number}) for number in range(20)]
        done, waiting = concurrent.futures.wait(handles, PATIENCE)
        assert (done, waiting) == (set(handles), set())
        for number, handle in enumerate(handles):
            assert handle.done()
            assert handle.exception() is None
            assert handle.result().json()["params"] == {"n": [str(number)]}
            assert handle.response is handle.result()
        again = [client.get("/seen") for _ in range(3)]
        assert set(concurrent.futures.as_completed(again, PATIENCE)) == set(again)

    def test_a_handle_tells_what_was_asked(self, client: HTTPClient) -> None:
        handle = client.get("/bytes", {"a": 1})
        assert (handle.method, handle.path) == ("GET", "/bytes")
        assert handle.url == f"{client.url}/bytes?a=1"
        handle.result(PATIENCE)
        assert repr(handle) == "<RequestHandle GET /bytes done>"

    def test_callbacks_run_in_the_thread_of_update_exactly_once(self, client: HTTPClient) -> None:
        called: list[tuple[RequestHandle, int]] = []

        def callback(handle: RequestHandle) -> None:
            assert handle.response is not None
            called.append((handle, threading.get_ident()))

        handles = [client.get("/seen", callback=callback) for _ in range(10)]
        concurrent.futures.wait(handles, PATIENCE)
        assert called == []
        assert client.pending() == 10
        assert client.update() == 10
        assert client.update() == 0
        assert client.pending() == 0
        assert {handle for handle, _ in called} == set(handles)
        assert {thread for _, thread in called} == {threading.get_ident()}

    def test_a_loop_that_updates_sees_all(self, client: HTTPClient) -> None:
        called: list[RequestHandle] = []
        for number in range(50):
            client.get("/seen", {"n": number}, callback=called.append)
        deadline = time.monotonic() + PATIENCE
        while client.pending():
            client.update()
            assert time.monotonic() < deadline
        assert len(called) == 50

    def test_get_responses_yields_each_handle_once(self, client: HTTPClient) -> None:
        handles = [client.get("/seen"), client.get("/bytes"), client.get("/nothing")]
        concurrent.futures.wait(handles, PATIENCE)
        assert set(client.getResponses()) == set(handles)
        assert list(client.getResponses()) == []

    def test_a_result_that_was_taken_is_delivered(self, client: HTTPClient) -> None:
        called: list[RequestHandle] = []
        client.get("/seen").result(PATIENCE)
        client.get("/seen").exception(PATIENCE)
        kept = client.get("/seen", callback=called.append)
        kept.result(PATIENCE)
        assert client.pending() == 1
        assert list(client.get_responses()) == [kept]
        assert called == [kept]

    def test_what_a_callback_raises_comes_out_of_update(self, client: HTTPClient) -> None:
        def callback(handle: RequestHandle) -> None:
            raise KeyError("mine")

        handles = [client.get("/seen", callback=callback) for _ in range(2)]
        concurrent.futures.wait(handles, PATIENCE)
        for _ in range(2):
            with pytest.raises(KeyError):
                client.update()
        assert client.update() == 0

    def test_results_that_nobody_asks_for_are_forgotten_at_some_time(
        self, client: HTTPClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(client_http, "MAX_UNCLAIMED", 3)
        first = client.get("/seen", callback=id)
        first.result(PATIENCE)
        handles = []
        for _ in range(5):
            handles.append(client.get("/seen"))
            concurrent.futures.wait(handles, PATIENCE)
        assert list(client.get_responses()) == [first, *handles[-3:]]

    def test_a_response_comes_as_an_error_response_if_there_is_none(self) -> None:
        from tests.client.misbehaving import free_address

        with HTTPClient(free_address(), retries=0) as client:
            handle = client.get("/x")
            error = handle.exception(PATIENCE)
            response = handle.response
            assert response is not None
            assert response.error is error
            assert response.status_code == 502
            assert response.payload == {"error": str(error)}
            assert response.url == handle.url


class TestLife:
    def test_it_starts_with_its_first_request(self, serve: Serve) -> None:
        client = HTTPClient(serve(Things).address)
        assert client.get("/seen").result(PATIENCE).ok
        client.stop()

    def test_stop_cancels_and_ends_the_threads(self, client: HTTPClient, things: Things) -> None:
        handles = [client.get("/wait") for _ in range(12)]
        assert things.at_work.acquire(timeout=PATIENCE)
        client.stop()
        names = [thread.name for thread in threading.enumerate()]
        assert not [name for name in names if name.startswith("resource_server-client")]
        for handle in handles:
            assert handle.cancelled()
            with pytest.raises(Cancelled):
                handle.result()
        assert client._transport.pool.count == (0, 0)

    def test_it_can_be_started_again(self, client: HTTPClient) -> None:
        client.stop()
        assert client.get("/seen").result(PATIENCE).ok
        client.stop()
        client.stop()
        client.start()
        assert client.get("/seen").result(PATIENCE).ok

    def test_a_stopped_client_still_gives_what_was_done(self, client: HTTPClient) -> None:
        called: list[RequestHandle] = []
        handle = client.get("/seen", callback=called.append)
        handle.result(PATIENCE)
        client.stop()
        assert client.update() == 1
        assert called == [handle]

    def test_stop_may_be_called_by_a_thread_of_its_own(self, client: HTTPClient) -> None:
        stopped = threading.Event()

        def stop(_: object) -> None:
            client.stop()
            stopped.set()

        client.get("/seen").add_done_callback(stop)
        assert stopped.wait(PATIENCE)

    def test_a_client_that_nobody_stopped_goes_when_it_is_gone(self, serve: Serve) -> None:
        client = HTTPClient(serve(Things).address)
        assert client.get("/seen").result(PATIENCE).ok
        gone = weakref.ref(client)
        transport = client._transport
        del client
        deadline = time.monotonic() + PATIENCE
        while gone() is not None:
            gc.collect()
            assert time.monotonic() < deadline
        assert transport.pool.count == (0, 0)

    def test_a_request_outlives_the_name_of_its_client(self, serve: Serve) -> None:
        assert HTTPClient(serve(Things).address).get("/seen").result(PATIENCE).ok
        gc.collect()

    def test_threads_are_as_many_as_needed_and_no_more(self, serve: Serve, things: Things) -> None:
        with HTTPClient(serve(things).address, threads=3, max_connections=2) as client:
            handles = [client.get("/wait") for _ in range(6)]
            for _ in range(2):
                assert things.at_work.acquire(timeout=PATIENCE)
            names = [thread.name for thread in threading.enumerate()]
            ours = [name for name in names if name.startswith("resource_server-client-")]
            assert sorted(ours) == [
                "resource_server-client-1",
                "resource_server-client-2",
                "resource_server-client-3",
                "resource_server-client-watchdog",
            ]
            assert client._transport.pool.count == (2, 0)
            assert not things.at_work.acquire(blocking=False)
            things.go_on.set()
            assert [handle.result(PATIENCE).text for handle in handles] == ["waited"] * 6

    def test_many_threads_share_a_client_and_no_answer_is_mixed_up(
        self, client: HTTPClient
    ) -> None:
        failed: list[object] = []
        most = 0

        def ask(name: int) -> None:
            nonlocal most
            for number in range(10):
                value = f"{name}-{number}"
                try:
                    answer = seen(client.get("/seen", {"v": value}))
                except Exception as error:
                    failed.append(error)
                    return
                if answer["params"] != {"v": [value]}:
                    failed.append(answer)
                most = max(most, sum(client._transport.pool.count))

        threads = [threading.Thread(target=ask, args=(name,)) for name in range(40)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert failed == []
        assert most <= 8

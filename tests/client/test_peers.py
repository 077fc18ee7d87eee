"""HTTPClient against servers of other people: Python's http.server, and nginx where it is."""

from __future__ import annotations

import http.server
import os
import random
import socket
import ssl
import threading
import time
from contextlib import ExitStack
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from resource_server.client import (
    Cancelled,
    ClientJsonResponse,
    HTTPClient,
    RequestHandle,
    TLSError,
    TooLarge,
)
from resource_server.errors import HTTPNotImplemented, MethodNotAllowed, NotFound
from tests.nginx import EXECUTABLE, Nginx

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE = 30.0
TEXT = "Wie schön!\n" * 2000
#: More than the buffers of sockets hold, so that a transfer can be met half-way.
LARGE = random.Random(7).randbytes(24 * 1024 * 1024)
DATE = "Sat, 01 Jan 2000 00:00:00 GMT"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that are served."""
    folder = tmp_path_factory.mktemp("www")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    (folder / "data.json").write_text('{"a": [1, 2]}')
    (folder / "large.bin").write_bytes(LARGE)
    (folder / "below").mkdir()
    (folder / "below" / "index.html").write_text("<p>below")
    (folder / "a b&c.txt").write_text("spaced")
    return folder


class Served(http.server.SimpleHTTPRequestHandler):
    """Files, and a POST that is answered with what came."""

    timeout = 5  # as nobody else ends one whose client is gone without a word

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", self.headers["Content-Type"])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


class HTTP11(Served):
    protocol_version = "HTTP/1.1"


class Standard(http.server.ThreadingHTTPServer):
    """The standard library's, which counts connections."""

    daemon_threads = False  # so that it waits for its connections to be closed

    def __init__(self, handler: type[Served], folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        self.connections = 0

    def verify_request(self, request: Any, client_address: Any) -> bool:
        self.connections += 1
        return True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that leave early."""


@pytest.fixture(params=[Served, HTTP11])
def standard(request: pytest.FixtureRequest, folder: Path) -> Iterator[Standard]:
    with Standard(request.param, folder) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class TestStandardLibrary:
    @pytest.fixture
    def client(self, standard: Standard) -> Iterator[HTTPClient]:
        # Stopped before the server is, which waits for its connections.
        with HTTPClient(("127.0.0.1", standard.server_port), timeout=PATIENCE) as client:
            yield client

    def test_files(self, client: HTTPClient) -> None:
        response = client.get("/text.txt").result()
        assert (response.status_code, response.text) == (200, TEXT)
        assert response.content_type == "text/plain"
        assert response.headers["Server"].startswith("SimpleHTTP/")
        assert client.get("/a b&c.txt").result().text == "spaced"

    def test_json(self, client: HTTPClient) -> None:
        response = client.get("/data.json").result()
        assert isinstance(response, ClientJsonResponse)
        assert response.payload == {"a": [1, 2]}

    def test_head(self, client: HTTPClient) -> None:
        response = client.head("/text.txt").result()
        assert int(response.headers["Content-Length"]) == len(TEXT.encode())
        assert response.body == b""

    def test_a_directory_leads_on(self, client: HTTPClient) -> None:
        response = client.get("/below").result()
        assert (response.text, response.url) == ("<p>below", f"{client.url}/below/")

    def test_a_condition(self, client: HTTPClient) -> None:
        changed = client.get("/text.txt").result().headers["Last-Modified"]
        response = client.get("/text.txt", headers={"If-Modified-Since": changed}).result()
        assert (response.status_code, response.body) == (304, b"")

    def test_errors(self, client: HTTPClient) -> None:
        assert isinstance(client.get("/nothing").result().error, NotFound)
        assert isinstance(client.put("/text.txt", "x").result().error, HTTPNotImplemented)

    def test_payloads(self, client: HTTPClient, tmp_path: Path) -> None:
        assert client.post("/", {"a": "ä"}).result().payload == {"a": "ä"}
        (tmp_path / "payload").write_bytes(LARGE[:3_000_000])
        with open(tmp_path / "payload", "rb") as file:
            assert client.post("/", file).result().body == LARGE[:3_000_000]

    def test_the_connection_is_kept_if_the_server_keeps_it(
        self, client: HTTPClient, standard: Standard
    ) -> None:
        for _ in range(5):
            assert client.get("/data.json").result().ok
        keeps = standard.RequestHandlerClass.func is HTTP11  # type: ignore[attr-defined]
        assert standard.connections == (1 if keeps else 5)

    def test_a_download(self, client: HTTPClient, tmp_path: Path) -> None:
        target = tmp_path / "large.bin"
        told: list[tuple[int, int | None]] = []
        client.get(
            "/large.bin", stream_to=target, progress=lambda done, total: told.append((done, total))
        ).result()
        assert target.read_bytes() == LARGE
        assert told[-1] == (len(LARGE), len(LARGE))
        assert os.listdir(tmp_path) == ["large.bin"]

    def test_a_download_that_was_cancelled_begins_anew(
        self, client: HTTPClient, tmp_path: Path
    ) -> None:
        """As this server does not know ranges."""
        target = tmp_path / "large.bin"
        cancel_half_way(client, "/large.bin", target)
        assert not target.exists()
        client.get("/large.bin", stream_to=target).result()
        assert target.read_bytes() == LARGE
        assert os.listdir(tmp_path) == ["large.bin"]

    def test_too_large(self, standard: Standard) -> None:
        address = ("127.0.0.1", standard.server_port)
        with HTTPClient(address, timeout=PATIENCE, max_response_size=100_000) as client:
            assert isinstance(client.get("/large.bin").exception(), TooLarge)
            assert client.get("/data.json").result().ok


def cancel_half_way(client: HTTPClient, path: str, target: Path) -> None:
    """Download a file, and cancel that when some of it has come."""
    handles: list[RequestHandle] = []
    known = threading.Event()

    def progress(done: int, total: int | None) -> None:
        assert known.wait(PATIENCE)
        if done >= 1_000_000:
            handles[0].cancel()

    handles.append(client.get(path, stream_to=target, progress=progress))
    known.set()
    with pytest.raises(Cancelled):
        handles[0].result(PATIENCE)
    # Its thread is to let go of the file as well.
    client.stop(PATIENCE)


class Server(Nginx):
    """nginx with our files, plain and by TLS."""

    def __init__(self, www: Path, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))
        issued = self.authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(str(folder / "key.pem"))
        chain = folder / "chain.pem"
        for pem in issued.cert_chain_pems:
            pem.write_to_path(str(chain), append=True)
        der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
        self.fingerprint = sha256(der).hexdigest()
        self._log = folder / "access.log"
        with ExitStack() as stack:
            sockets = [
                stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)
            ]
            self.address, self.tls_address = (each.getsockname() for each in sockets)
            http = HTTP.format(
                folder=folder, www=www, port=self.address[1], tls_port=self.tls_address[1]
            )
            super().__init__(folder, http, sockets)

    def check(self) -> None:
        """Fail with what it says if it does not answer."""
        try:
            with HTTPClient(self.address, timeout=PATIENCE, retries=0) as client:
                assert client.get("/data.json").result().ok
        except OSError:
            pytest.fail(f"nginx does not run: {self.errors}")

    def seen(self, path: str) -> list[str]:
        """The status, and the Range, of each request for a path that has ended."""
        lines = self._log.read_text().splitlines()
        return [line.split(" ", 1)[1] for line in lines if line.split(" ", 1)[0] == path]

    def wait_until_seen(self, path: str, count: int, status: str) -> list[str]:
        """The same with this status, when there are so many: they are told after the answer."""
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = [line for line in self.seen(path) if line.startswith(status)]
            if len(seen) >= count:
                return seen
            assert time.monotonic() < deadline, seen
            time.sleep(0.01)


HTTP = """
    log_format seen "$uri $status $http_range";
    access_log {folder}/access.log seen;
    types {{ text/plain txt; application/json json; text/html html; }}
    default_type application/octet-stream;
    charset utf-8;
    gzip_types text/plain;
    gzip_min_length 1000;
    add_header X-Connection "$connection $connection_requests" always;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} ssl;
        ssl_certificate {folder}/chain.pem;
        ssl_certificate_key {folder}/key.pem;
        root {www};
        gzip on;
        client_max_body_size 1m;
        location /old/ {{ rewrite ^/old/(.*) /$1 permanent; }}
        location = /closing {{ keepalive_timeout 0; return 200 "bye"; }}
        location = /busy {{ return 503; }}
        location = /forever {{ return 302 /forever; }}
    }}
"""


@pytest.fixture(scope="module")
def nginx(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if EXECUTABLE is None:
        pytest.skip("nginx is not installed; Debian has it as the package nginx-light")
    server = Server(folder, tmp_path_factory.mktemp("nginx"))
    try:
        server.check()
        yield server
    finally:
        server.stop()


class TestNginx:
    @pytest.fixture
    def client(self, nginx: Server) -> Iterator[HTTPClient]:
        with HTTPClient(nginx.address, timeout=PATIENCE) as client:
            yield client

    def test_files(self, client: HTTPClient) -> None:
        response = client.get("/data.json").result()
        assert response.payload == {"a": [1, 2]}
        assert response.headers["Server"].startswith("nginx/")
        assert client.get("/a b&c.txt").result().text == "spaced"
        assert client.get("/large.bin").result().body == LARGE

    def test_gzip(self, client: HTTPClient) -> None:
        response = client.get("/text.txt").result()
        assert response.text == TEXT
        plain = client.get("/text.txt", headers={"Accept-Encoding": "identity"}).result()
        assert plain.text == TEXT
        assert int(plain.headers["Content-Length"]) == len(TEXT.encode())
        # That it did come in gzip: it says so to HEAD as to GET, and cannot tell the length.
        head = client.head("/text.txt").result()
        assert head.headers["Content-Encoding"] == "gzip"

    def test_the_size_that_counts_is_that_of_the_content(self, nginx: Server) -> None:
        with HTTPClient(nginx.address, timeout=PATIENCE, max_response_size=10_000) as client:
            assert isinstance(client.get("/text.txt").exception(), TooLarge)

    def test_one_connection_is_kept(self, client: HTTPClient) -> None:
        seen = [
            client.get(path).result().headers["X-Connection"].split()
            for path in ("/data.json", "/text.txt", "/nothing", "/below/") * 3
        ]
        assert len({number for number, _ in seen}) == 1
        assert [int(count) for _, count in seen] == list(range(1, 13))

    def test_one_that_the_server_closes_is_not_used_again(self, client: HTTPClient) -> None:
        seen = [client.get("/closing").result().headers["X-Connection"] for _ in range(4)]
        assert len({text.split()[0] for text in seen}) == 4
        assert {text.split()[1] for text in seen} == {"1"}

    def test_many_at_a_time(self, nginx: Server) -> None:
        with HTTPClient(nginx.address, timeout=PATIENCE, threads=16, max_connections=4) as client:
            handles = [client.get("/data.json") for _ in range(200)]
            responses = [handle.result() for handle in handles]
        assert all(response.payload == {"a": [1, 2]} for response in responses)
        assert len({response.headers["X-Connection"].split()[0] for response in responses}) <= 4

    def test_redirects(self, client: HTTPClient) -> None:
        response = client.get("/old/data.json", query={"q": "ä"}).result()
        assert response.url == f"{client.url}/data.json?q=%C3%A4"
        # It redirects to the port of its own that it listens on.
        assert client.get("/below").result().text == "<p>below"
        error = client.get("/forever").exception()
        assert error is not None
        assert type(error).__name__ == "TooManyRedirects"

    def test_errors(self, client: HTTPClient) -> None:
        assert isinstance(client.get("/nothing").result().error, NotFound)
        assert isinstance(client.post("/text.txt", "x").result().error, MethodNotAllowed)
        assert client.get("/%00").result().status_code == 400

    def test_what_is_busy_is_asked_again(self, nginx: Server, client: HTTPClient) -> None:
        before = len(nginx.seen("/busy"))
        assert client.get("/busy").result().status_code == 503
        assert len(nginx.wait_until_seen("/busy", before + 3, "503")) == before + 3

    def test_an_upload_that_is_refused_at_its_head(self, client: HTTPClient) -> None:
        """The server answers and closes while the content is still sent."""
        response = client.post("/text.txt", LARGE).result()
        assert response.status_code == 413
        assert client.get("/data.json").result().ok

    def test_a_condition(self, client: HTTPClient) -> None:
        tag = client.get("/data.json").result().headers["ETag"]
        response = client.get("/data.json", headers={"If-None-Match": tag}).result()
        assert (response.status_code, response.body) == (304, b"")

    def test_a_download_goes_on(self, nginx: Server, client: HTTPClient, tmp_path: Path) -> None:
        target = tmp_path / "large.bin"
        cancel_half_way(client, "/large.bin", target)
        assert not target.exists()
        told: list[int] = []
        client.get(
            "/large.bin", stream_to=target, progress=lambda done, _: told.append(done)
        ).result()
        assert target.read_bytes() == LARGE
        assert os.listdir(tmp_path) == ["large.bin"]
        assert told[0] >= 1_000_000
        _, given = nginx.wait_until_seen("/large.bin", 1, "206")[-1].split()
        assert int(given.removeprefix("bytes=").rstrip("-")) >= 1_000_000

    def test_tls(self, nginx: Server) -> None:
        with HTTPClient(nginx.tls_address, "https", timeout=PATIENCE, ca=nginx.ca) as client:
            seen = [client.get("/text.txt").result() for _ in range(3)]
        assert [response.text for response in seen] == [TEXT] * 3
        assert len({response.headers["X-Connection"].split()[0] for response in seen}) == 1
        assert seen[0].url.startswith("https://127.0.0.1:")

    def test_tls_by_fingerprint(self, nginx: Server) -> None:
        print_ = nginx.fingerprint
        with HTTPClient(nginx.tls_address, "https", timeout=PATIENCE, fingerprint=print_) as client:
            assert client.get("/data.json").result().payload == {"a": [1, 2]}

    def test_tls_of_somebody_else(self, nginx: Server) -> None:
        for fingerprint in (None, "00" * 32):
            client = HTTPClient(
                nginx.tls_address, "https", timeout=PATIENCE, fingerprint=fingerprint
            )
            with client, pytest.raises(TLSError):
                client.get("/data.json").result()

    def test_http_where_tls_is_spoken(self, nginx: Server) -> None:
        with HTTPClient(nginx.tls_address, timeout=PATIENCE) as client:
            assert client.get("/data.json").result().status_code == 400

    def test_tls_where_http_is_spoken(self, nginx: Server) -> None:
        client = HTTPClient(nginx.address, "https", timeout=PATIENCE, ca=nginx.ca)
        with client, pytest.raises(TLSError):
            client.get("/data.json").result()

"""How a client reaches servers: TLS and whom it trusts, proxies, UNIX sockets."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from resource_server import HTTPClient, Request, Resource, Timeout, get, post
from resource_server.client import ConnectError, ProtocolError, TimeoutError, TLSError  # noqa: A004
from resource_server.client.connection import dial
from resource_server.client.handle import Ended
from resource_server.client.transport import Proxies, Transport
from resource_server.client.urls import origin_of
from tests.client import misbehaving
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer
from tests.conftest import open_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Serve

LONG = Timeout(PATIENCE, PATIENCE)


class Hello(Resource):
    @get("/hello")
    def hello(self, request: Request) -> str:
        return f"hello by {request.scheme}"

    @post("/echo")
    def echo(self, request: Request) -> bytes:
        return request.body()


class Files:
    """An authority, and files of what it issued."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))
        self.key, self.chain, self.der = self._issue(folder, "server", "localhost", "127.0.0.1")
        self.client_key, self.client_chain, _ = self._issue(folder, "client", "me@example.org")

    def _issue(self, folder: Path, name: str, *identities: str) -> tuple[Path, Path, bytes]:
        issued = self.authority.issue_cert(*identities)
        key, chain = folder / f"{name}.key", folder / f"{name}.pem"
        issued.private_key_pem.write_to_path(str(key))
        for pem in issued.cert_chain_pems:
            pem.write_to_path(str(chain), append=True)
        der = ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())
        return key, chain, der

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(self.der).hexdigest()

    def server_context(self, *, ask: bool = False) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.chain, self.key)
        if ask:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secure(serve: Serve, files: Files) -> Any:
    return serve(Hello, privkey=str(files.key), cert=str(files.chain))


def asks(client: HTTPClient, path: str = "/hello") -> str:
    with client:
        return client.get(path).result(PATIENCE).text


def fails(client: HTTPClient) -> BaseException:
    with client:
        error = client.get("/hello").exception(PATIENCE)
        assert error is not None
        client.stop()
        assert client._transport.pool.count == (0, 0)
        return error


class TestTLS:
    def test_a_server_is_trusted_by_its_authority(self, secure: Any, files: Files) -> None:
        for ca in (files.ca, str(files.ca), files.ca.read_bytes()):
            assert asks(HTTPClient(secure.address, "https", ca=ca)) == "hello by https"
        client = HTTPClient(("localhost", secure.address[1]), "https", ca=files.ca)
        assert asks(client) == "hello by https"

    def test_a_connection_is_used_again(self, secure: Any, files: Files) -> None:
        with HTTPClient(secure.address, "https", ca=files.ca) as client:
            payload = bytes(range(256)) * 1000
            for _ in range(3):
                assert client.post("/echo", payload).result(PATIENCE).body == payload
                assert client._transport.pool.count == (0, 1)

    def test_a_server_that_nobody_vouches_for_is_not(self, secure: Any) -> None:
        error = fails(HTTPClient(secure.address, "https"))
        assert isinstance(error, TLSError)
        assert isinstance(error.cause, ssl.SSLCertVerificationError)
        assert error.url == f"{secure.url}/hello"

    def test_nor_one_of_another_name(self, serve: Serve, files: Files, tmp_path: Path) -> None:
        key, chain, _ = files._issue(tmp_path, "other", "example.org")
        server = serve(Hello, privkey=str(key), cert=str(chain))
        error = fails(HTTPClient(server.address, "https", ca=files.ca))
        assert isinstance(error, TLSError)

    def test_a_directory_of_authorities(self, secure: Any, tmp_path: Path) -> None:
        error = fails(HTTPClient(secure.address, "https", ca=tmp_path))
        assert isinstance(error, TLSError)

    def test_a_fingerprint_is_all_it_takes(self, secure: Any, files: Files) -> None:
        digits = files.fingerprint
        colons = ":".join(digits[at : at + 2] for at in range(0, 64, 2)).upper()
        for fingerprint in (digits, colons):
            client = HTTPClient(secure.address, "https", fingerprint=fingerprint)
            assert asks(client) == "hello by https"

    def test_another_fingerprint_is_refused(self, secure: Any, files: Files) -> None:
        client = HTTPClient(secure.address, "https", ca=files.ca, fingerprint="00" * 32)
        error = fails(client)
        assert isinstance(error, TLSError)
        assert "ingerprint" in str(error)

    @pytest.mark.parametrize("fingerprint", ["", "00" * 20, "zz" * 32])
    def test_what_is_no_sha_256_is_refused_at_once(self, fingerprint: str) -> None:
        with pytest.raises(ValueError, match="SHA-256"):
            HTTPClient("x", "https", fingerprint=fingerprint)

    def test_a_client_certificate(self, files: Files, tmp_path: Path) -> None:
        def script(peer: Peer) -> None:
            peer.read_request()
            subject = dict(peer.sock.getpeercert())["subjectAltName"]  # type: ignore[attr-defined]
            peer.answer(repr(subject).encode())

        both = tmp_path / "both.pem"
        both.write_bytes(files.client_chain.read_bytes() + files.client_key.read_bytes())
        with Misbehaving(script, tls=files.server_context(ask=True)) as server:
            for cert in ((files.client_chain, files.client_key), both):
                client = HTTPClient(server.address, "https", ca=files.ca, cert=cert)
                assert "me@example.org" in asks(client)
            error = fails(HTTPClient(server.address, "https", ca=files.ca, retries=0))
            # In TLS 1.3 the refusal comes after the handshake, by an alert or with the end.
            assert isinstance(error, TLSError | ConnectError)

    def test_files_that_cannot_be_read_are_told_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            HTTPClient("x", "https", ca=tmp_path / "none.pem")
        with pytest.raises(FileNotFoundError):
            HTTPClient("x", "https", cert=tmp_path / "none.pem")
        (tmp_path / "empty.pem").touch()
        with pytest.raises(ssl.SSLError):
            HTTPClient("x", "https", ca=tmp_path / "empty.pem")

    def test_a_server_that_speaks_no_tls(self) -> None:
        def script(peer: Peer) -> None:
            peer.send(b"HTTP/1.1 400 No\r\n\r\n")
            peer.hang()

        with Misbehaving(script) as server:
            error = fails(HTTPClient(server.address, "https", timeout=LONG))
            assert isinstance(error, TLSError)

    def test_a_server_that_hangs_in_the_handshake(self) -> None:
        with Misbehaving(misbehaving.hang_at_once) as server:
            client = HTTPClient(server.address, "https", timeout=Timeout(connect=0.2), retries=0)
            assert isinstance(fails(client), TimeoutError)
            # On a busy machine the time may pass before there is a connection.
            assert not server.connections or server.wait_gone()

    def test_a_handshake_is_cancelled(self) -> None:
        reached = threading.Event()

        def script(peer: Peer) -> None:
            peer.read_exactly(5)
            reached.set()
            peer.hang()

        with Misbehaving(script) as server:
            client = HTTPClient(server.address, "https", timeout=LONG)
            handle = client.get("/")
            assert reached.wait(PATIENCE)
            assert handle.cancel()
            assert server.wait_gone()
            client.stop(PATIENCE)
            assert client._transport.pool.count == (0, 0)

    def test_a_transfer_is_cancelled(self, files: Files) -> None:
        reached = threading.Event()

        def script(peer: Peer) -> None:
            peer.read_request()
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
            reached.set()
            peer.hang()

        with (
            Misbehaving(script, tls=files.server_context()) as server,
            HTTPClient(server.address, "https", ca=files.ca, timeout=LONG) as client,
        ):
            handle = client.get("/")
            assert reached.wait(PATIENCE)
            assert handle.cancel()
            assert server.wait_gone()

    def test_a_redirect_to_plain_http_is_not_followed_unless_allowed(
        self, files: Files, serve: Serve
    ) -> None:
        plain = serve(Hello)

        def script(peer: Peer) -> None:
            peer.read_request()
            peer.answer(b"", f"Location: {plain.url}/hello", status="302 X")

        with Misbehaving(script, tls=files.server_context()) as server:
            error = fails(HTTPClient(server.address, "https", ca=files.ca))
            assert isinstance(error, ProtocolError)
            assert "from https to http" in str(error)
            client = HTTPClient(server.address, "https", ca=files.ca, downgrade=True)
            assert asks(client) == "hello by http"

    def test_what_breaks_in_tls_is_a_tls_error(self, files: Files) -> None:
        def script(peer: Peer) -> None:
            peer.read_request()
            # Past TLS.
            socket.socket.send(peer.sock, b"HTTP/1.1 200 OK\r\n\r\n")
            peer.hang()

        with Misbehaving(script, tls=files.server_context()) as server:
            client = HTTPClient(server.address, "https", ca=files.ca, timeout=LONG)
            assert isinstance(fails(client), TLSError)


@pytest.mark.skipif(sys.platform == "win32", reason="no UNIX sockets")
class TestUnixSockets:
    def test_by_address_and_by_url(self, serve: Serve, tmp_path: Path) -> None:
        path = tmp_path / "server.sock"
        serve(Hello, address=f"unix:{path}")
        with HTTPClient(f"unix:{path}") as client:
            for _ in range(2):
                response = client.get("/hello").result(PATIENCE)
                assert response.text == "hello by http"
            assert response.request.headers["host"] == "localhost"
            assert client._transport.pool.count == (0, 1)
            url = client.url
        assert url.startswith("http+unix://%2F")
        assert asks(HTTPClient.from_url(url)) == "hello by http"

    def test_one_that_is_not_there(self, tmp_path: Path) -> None:
        error = fails(HTTPClient(f"unix:{tmp_path}/none", retries=0))
        assert isinstance(error, ConnectError)
        assert "none" in str(error)

    def test_redirects_stay_there(self, tmp_path: Path) -> None:
        path = tmp_path / "server.sock"
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind(str(path))
            listener.listen()

            def serve() -> None:
                sock, _ = listener.accept()
                with sock:
                    for location in ("there", "http+unix://%2Fetc%2Fx/"):
                        sock.recv(65536)
                        head = (
                            f"HTTP/1.1 302 X\r\nContent-Length: 0\r\nLocation: {location}\r\n\r\n"
                        )
                        sock.sendall(head.encode())

            thread = threading.Thread(target=serve)
            thread.start()
            error = fails(HTTPClient(f"unix:{path}"))
            thread.join(PATIENCE)
            assert isinstance(error, ProtocolError)
            assert "UNIX socket" in str(error)
            assert error.url.endswith("/there")


class Proxy(Misbehaving):
    """A proxy: it makes tunnels, and answers what it is to forward itself."""

    def __init__(self, tls: ssl.SSLContext | None = None, status: str = "200 OK") -> None:
        self.status = status
        super().__init__(self.serve, tls=tls)

    def serve(self, peer: Peer) -> None:
        while True:
            head = peer.read_request()[0]
            method, target, _ = head.split(b"\r\n")[0].decode().split(" ")
            if method != "CONNECT":
                peer.answer(b"by proxy")
                continue
            if self.status != "200 OK":
                peer.answer(b"", status=self.status)
                return
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port)), PATIENCE) as there:
                with self._lock:
                    self._sockets.add(there)
                try:
                    peer.send(b"HTTP/1.1 200 Connected\r\n\r\n")
                    back = threading.Thread(target=pump, args=(there, peer.sock))
                    back.start()
                    pump(peer.sock, there)
                    back.join(PATIENCE)
                finally:
                    with self._lock:
                        self._sockets.discard(there)
            return


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on all that comes, and then the end, both ways."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for sock in (source, target):
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Proxy() as proxy:
        yield proxy


class TestProxies:
    def test_http_is_forwarded(self, proxy: Proxy) -> None:
        url = proxy.url.replace("//", "//me:p%40ss@")
        with HTTPClient("example.invalid:8080", proxies=url) as client:
            for _ in range(2):
                assert client.get("/a", {"b": 1}).result(PATIENCE).text == "by proxy"
        head = proxy.requests[0]
        assert head.startswith(b"GET http://example.invalid:8080/a?b=1 HTTP/1.1\r\n")
        assert b"\r\nHost: example.invalid:8080\r\n" in head
        credentials = base64.b64encode(b"me:p@ss")
        assert b"\r\nProxy-Authorization: Basic " + credentials + b"\r\n" in head
        assert proxy.connections == 1

    def test_https_goes_through_a_tunnel(self, proxy: Proxy, secure: Any, files: Files) -> None:
        url = proxy.url.replace("//", "//me:pw@")
        client = HTTPClient(secure.address, "https", ca=files.ca, proxies={"https": url})
        assert asks(client) == "hello by https"
        assert proxy.requests[0].startswith(f"CONNECT 127.0.0.1:{secure.address[1]} ".encode())
        assert b"Proxy-Authorization: Basic " in proxy.requests[0]

    def test_the_server_in_the_tunnel_is_verified(self, proxy: Proxy, secure: Any) -> None:
        error = fails(HTTPClient(secure.address, "https", proxies=proxy.url))
        assert isinstance(error, TLSError)
        assert "through the proxy" in str(error)

    def test_the_way_to_the_proxy_may_be_tls(self, secure: Any, files: Files) -> None:
        with Proxy(files.server_context()) as proxy:
            client = HTTPClient("example.invalid", ca=files.ca, proxies=proxy.url)
            assert asks(client) == "by proxy"
            client = HTTPClient(secure.address, "https", ca=files.ca, proxies=proxy.url)
            assert asks(client) == "hello by https"
            assert isinstance(fails(HTTPClient("example.invalid", proxies=proxy.url)), TLSError)

    def test_a_transfer_through_two_layers_of_tls_is_cancelled(self, files: Files) -> None:
        reached = threading.Event()

        def script(peer: Peer) -> None:
            peer.read_request()
            reached.set()
            peer.hang()

        with (
            Misbehaving(script, tls=files.server_context()) as server,
            Proxy(files.server_context()) as proxy,
            HTTPClient(
                server.address, "https", ca=files.ca, proxies=proxy.url, timeout=LONG
            ) as client,
        ):
            handle = client.get("/")
            assert reached.wait(PATIENCE)
            assert handle.cancel()
            assert server.wait_gone()

    def test_a_proxy_that_refuses(self, secure: Any, files: Files) -> None:
        with Proxy(status="407 Who are you") as proxy:
            client = HTTPClient(secure.address, "https", ca=files.ca, proxies=proxy.url, retries=0)
            error = fails(client)
            assert isinstance(error, ConnectError)
            assert "407" in str(error)

    def test_a_proxy_that_is_not_there(self) -> None:
        host, port = misbehaving.free_address()
        for protocol in ("http", "https"):
            client = HTTPClient("example.org", protocol, proxies=f"http://{host}:{port}", retries=0)
            assert isinstance(fails(client), ConnectError)

    def test_a_proxy_that_drips_is_not_waited_for(self) -> None:
        def script(peer: Peer) -> None:
            peer.read_head()
            peer.drip(b"HTTP/1.1 200 " + b"x" * 10000, 0.02)

        with Misbehaving(script) as server:
            client = HTTPClient(
                "example.org", "https", proxies=server.url, retries=0, timeout=Timeout(connect=0.3)
            )
            error = fails(client)
            assert isinstance(error, TimeoutError)
            assert "no connection in 0.3 seconds" in str(error)

    def test_those_of_the_environment(
        self, proxy: Proxy, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = serve(Hello)
        monkeypatch.setenv("http_proxy", proxy.url.removeprefix("http://"))
        assert asks(HTTPClient("example.invalid")) == "by proxy"
        assert asks(HTTPClient(server.address)) == "by proxy"
        monkeypatch.setenv("no_proxy", "127.0.0.1,.example.org")
        assert asks(HTTPClient(server.address)) == "hello by http"
        assert asks(HTTPClient(server.address, proxies=proxy.url)) == "by proxy"
        monkeypatch.delenv("no_proxy")
        assert asks(HTTPClient(server.address, proxies={})) == "hello by http"
        assert asks(HTTPClient(server.address, proxies="")) == "hello by http"

    def test_hosts_that_are_reached_without(self) -> None:
        proxies = Proxies({"all": "http://proxy:3128", "no": "localhost, .example.org"})
        assert proxies.of(origin_of("example.com", "http")) is not None
        assert proxies.of(origin_of("example.com", "https")) is not None
        assert proxies.of(origin_of("www.example.org", "http")) is None
        assert proxies.of(origin_of("localhost:8000", "http")) is None
        assert proxies.of(origin_of("unix:/x", "http")) is None

    @pytest.mark.parametrize("url", ["socks5://x", "http://", "http://x:y"])
    def test_what_is_no_proxy_is_refused(self, url: str) -> None:
        with pytest.raises(ValueError, match="proxy"):
            Proxies(url)


class TestConnect:
    """Sockets for other protocols."""

    def transport(self, **options: Any) -> Transport:
        given: dict[str, Any] = {
            "max_connections": 1,
            "proxies": {},
            "ca": None,
            "cert": None,
            "fingerprint": None,
        }
        return Transport(origin_of("127.0.0.1", "http"), **given | options)

    def hello(self, sock: socket.socket) -> bytes:
        with sock:
            sock.settimeout(PATIENCE)
            sock.sendall(b"GET /hello HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            data = b""
            while more := sock.recv(65536):
                data += more
            return data

    def test_plain(self, serve: Serve) -> None:
        server = serve(Hello)
        for scheme in ("ws", "http"):
            url = server.url.replace("http", scheme) + "/any"
            assert b"hello by http" in self.hello(self.transport().connect(url, LONG))

    def test_tls(self, secure: Any, files: Files) -> None:
        transport = self.transport(ca=files.ca)
        url = secure.url.replace("https", "wss")
        assert b"hello by https" in self.hello(transport.connect(url, LONG))

    def test_through_a_proxy_in_a_tunnel(self, serve: Serve, proxy: Proxy) -> None:
        server = serve(Hello)
        transport = self.transport(proxies=proxy.url)
        assert b"hello by http" in self.hello(transport.connect(server.url, LONG))
        assert proxy.requests[0].startswith(b"CONNECT ")

    def test_what_cannot_be_reached(self) -> None:
        host, port = misbehaving.free_address()
        with pytest.raises(ConnectError, match="cannot connect"):
            self.transport().connect(f"ws://{host}:{port}", LONG)


class TestDialling:
    """A name may have several addresses."""

    def addresses(self, monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
        monkeypatch.setattr("socket.getaddrinfo", lambda *_: found)

    def test_the_next_is_tried_if_one_refuses(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = serve(Hello)
        self.addresses(monkeypatch, misbehaving.free_address(), server.address)
        assert asks(HTTPClient("name.test")) == "hello by http"

    def test_one_that_does_not_answer_leaves_time_for_the_next(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server = serve(Hello)
        with misbehaving.unanswering() as silent:
            self.addresses(monkeypatch, silent, server.address)
            client = HTTPClient("name.test", timeout=Timeout(connect=1), retries=0)
            started = time.monotonic()
            assert asks(client) == "hello by http"
            assert time.monotonic() - started < PATIENCE

    def test_a_name_without_addresses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.addresses(monkeypatch)
        assert isinstance(fails(HTTPClient("name.test", retries=0)), ConnectError)

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize("step", [1, 2])
    def test_who_is_ended_at_a_step_leaves_nothing_open(
        self, serve: Serve, scheme: str, step: int
    ) -> None:
        server = serve(Hello)
        steps = 0

        def held(free: object) -> None:
            nonlocal steps
            steps += 1
            if steps >= step:
                raise Ended

        before = open_sockets()
        transport = TestConnect().transport()
        with pytest.raises(Ended):
            transport.open(origin_of(server.address, scheme), PATIENCE, held)
        # At the last, nobody is to cut what is closed.
        assert steps >= step
        # The server may have accepted one, which it closes when it sees the end.
        deadline = time.monotonic() + PATIENCE
        while open_sockets() - before:
            assert time.monotonic() < deadline

    def test_a_socket_is_connected_without_anybody_to_tell(self, serve: Serve) -> None:
        server = serve(Hello)
        with dial(*server.address, None, [], None) as sock:
            assert sock.getpeername() == server.address

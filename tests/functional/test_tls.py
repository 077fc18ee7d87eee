"""HTTPS: handshakes that succeed, fail or stall, and certificates that change."""

from __future__ import annotations

import io
import logging
import shutil
import socket
import ssl
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest
import requests
import trustme

from resource_server import (
    HTTPServer,
    Limits,
    Request,
    Resource,
    Response,
    StreamResponse,
    get,
    post,
)
from tests.rawclient import PATIENCE, Client

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.conftest import Serve
    from tests.functional.conftest import Records

BIG = 5_000_000


class App(Resource):
    @get("/")
    def index(self, request: Request) -> str:
        return request.url

    @get("/big")
    def big(self, request: Request) -> bytes:
        return bytes(BIG)

    @get("/stream")
    def stream(self, request: Request) -> Response:
        return StreamResponse(bytes(100_000) for _ in range(BIG // 100_000))

    @get("/file")
    def file(self, request: Request) -> Response:
        response = Response(None)
        response.body = None
        response.file = io.BytesIO(bytes(BIG))
        response.content_length = BIG
        return response

    @post("/echo")
    def echo(self, request: Request) -> bytes:
        return request.body()

    @post("/live", stream=True)
    def live(self, request: Request) -> bytes:
        return request.stream.read()

    @get("/gone", blocking=True)
    def gone(self, request: Request) -> str:
        pace = threading.Event()
        while not request.disconnected:
            pace.wait(0.01)
        gone.set()
        return ""


gone = threading.Event()


class Files:
    """An authority, and the files of a certificate that it issued."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        certificate = self.authority.issue_cert("localhost", "127.0.0.1")
        self.key = folder / "key.pem"
        self.chain = folder / "cert.pem"
        self.trust = folder / "ca.pem"
        certificate.private_key_pem.write_to_path(str(self.key))
        for pem in certificate.cert_chain_pems:
            pem.write_to_path(str(self.chain), append=True)
        self.authority.cert_pem.write_to_path(str(self.trust))

    def client_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def server(serve: Serve, files: Files) -> HTTPServer:
    return serve(App(), privkey=files.key, cert=files.chain)


@pytest.fixture
def client(server: HTTPServer, files: Files) -> Iterator[Client]:
    with Client(server.address, tls=files.client_context()) as client:
        yield client


def still_serves(server: HTTPServer, files: Files) -> None:
    with Client(server.address, tls=files.client_context()) as client:
        assert client.get("/").status == 200


class TestExchanges:
    def test_requests_follow_each_other(self, server: HTTPServer, client: Client) -> None:
        assert server.url.startswith("https://127.0.0.1:")
        for _ in range(5):
            assert client.get("/").body == b"https://test/"
        assert client.get("/", "Connection: close").fields["connection"] == "close"
        assert client.rest() == b""

    def test_requests_and_curl_are_content(self, server: HTTPServer, files: Files) -> None:
        answer = requests.get(server.url, verify=str(files.trust), timeout=PATIENCE)
        assert answer.text == f"{server.url}/"
        if shutil.which("curl"):
            command = ["curl", "-sS", "--cacert", str(files.trust), server.url]
            done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
            assert done.stdout.decode() == f"{server.url}/", done.stderr

    def test_http_1_1_is_negotiated(self, server: HTTPServer, files: Files) -> None:
        context = files.client_context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        with Client(server.address, tls=context) as client:
            assert client.sock.selected_alpn_protocol() == "http/1.1"
            assert client.sock.version() in ("TLSv1.2", "TLSv1.3")

    @pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
    def test_both_versions_carry_large_bodies_both_ways(
        self, server: HTTPServer, files: Files, version: ssl.TLSVersion
    ) -> None:
        context = files.client_context()
        context.minimum_version = context.maximum_version = version
        with Client(server.address, tls=context) as client:
            for path in ("/big", "/stream", "/file"):
                assert client.get(path).body == bytes(BIG)
            body = bytes(range(256)) * 4000
            for path in ("/echo", "/live"):
                assert client.post(path, body).body == body

    def test_slow_readers_get_everything(self, server: HTTPServer, files: Files) -> None:
        context = files.client_context()
        with Client(server.address, tls=context, receive_buffer=4096) as client:
            for path in ("/big", "/stream", "/file"):
                client.ask(path)
            threading.Event().wait(0.2)
            for _ in range(3):
                assert client.read().body == bytes(BIG)

    def test_pipelined_requests_are_all_seen(self, client: Client) -> None:
        for _ in range(200):
            client.ask("/")
        for _ in range(200):
            assert client.read().status == 200

    def test_a_request_longer_than_a_record_arrives(self, client: Client) -> None:
        assert client.get("/", f"X: {'x' * 20_000}").status == 200

    def test_the_client_reads_a_400_while_it_is_still_sending(self, client: Client) -> None:
        client.send(b"nonsense\r\n\r\n")
        for _ in range(16):
            client.send(bytes(65536))
        assert client.read().status == 400

    def test_a_tls_context_may_be_given(self, serve: Serve, files: Files) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(files.chain, files.key)
        still_serves(serve(App(), tls=context), files)

    def test_a_client_that_leaves_is_noticed(self, server: HTTPServer, files: Files) -> None:
        gone.clear()
        with Client(server.address, tls=files.client_context()) as client:
            client.ask("/gone")
        assert gone.wait(PATIENCE)

    def test_stop_with_connections_open(self, server: HTTPServer, client: Client) -> None:
        assert client.get("/").status == 200
        assert server.stop()
        assert client.is_closed()

    @pytest.mark.parametrize("grace", [PATIENCE, 0.1])
    def test_a_handshake_may_end_while_it_stops(
        self, serve: Serve, files: Files, grace: float
    ) -> None:
        """From then on it is idle: it may ask once within the grace, and holds nobody after it."""
        limits = Limits(handshake=1000, head=1000)
        server = serve(App(), privkey=files.key, cert=files.chain, limits=limits)
        with Client(server.address, tls=files.client_context(), handshake=False) as client:
            stopping = threading.Thread(
                target=server.stop, args=(4 * PATIENCE,), kwargs={"idle_grace": grace}
            )
            stopping.start()
            wait_until_nobody_is_accepted(server)
            client.sock.do_handshake()
            if grace == PATIENCE:
                assert client.get("/").fields["connection"] == "close"
            assert client.is_closed()
        stopping.join(PATIENCE)
        assert not server.running


def wait_until_nobody_is_accepted(server: HTTPServer) -> None:
    while True:
        try:
            Client(server.address).sock.close()
        except ConnectionError:
            return


@pytest.mark.usefixtures("quiet")
class TestTrouble:
    def test_plain_http_is_dropped(self, server: HTTPServer, files: Files) -> None:
        with Client(server.address) as client:
            client.ask("/")
            try:
                client.rest()
            except OSError:
                pass
        still_serves(server, files)

    @pytest.mark.parametrize(
        "garbage", [b"\x00" * 500, b"\x16\x03\x01\x00\x05hello", bytes(range(256)) * 100]
    )
    def test_garbage_is_dropped(self, server: HTTPServer, files: Files, garbage: bytes) -> None:
        with Client(server.address) as client:
            try:
                client.send(garbage)
                client.half_close()
                client.rest()
            except OSError:
                pass
        still_serves(server, files)

    def test_a_client_that_does_not_trust_is_no_trouble(
        self, server: HTTPServer, files: Files
    ) -> None:
        with pytest.raises(ssl.SSLCertVerificationError):
            Client(server.address, tls=ssl.create_default_context())
        still_serves(server, files)

    def test_a_handshake_has_a_deadline_and_holds_nobody(self, serve: Serve, files: Files) -> None:
        limits = Limits(handshake=0.3)
        server = serve(App(), privkey=files.key, cert=files.chain, limits=limits)
        silent = [Client(server.address) for _ in range(10)]
        begun = [Client(server.address) for _ in range(10)]
        for client in begun:
            client.send(b"\x16\x03\x01\x02\x00\x01")
        still_serves(server, files)
        for client in silent + begun:
            assert client.is_closed()
            client.sock.close()

    @pytest.mark.parametrize("vanish", ["close", "reset"])
    def test_clients_vanish_at_any_stage(
        self, server: HTTPServer, files: Files, vanish: str
    ) -> None:
        context = files.client_context()

        def leave(client: Client) -> None:
            if vanish == "reset":
                client.reset()
            else:
                client.sock.close()

        leave(Client(server.address))
        client = Client(server.address)
        client.send(b"\x16\x03\x01")
        leave(client)
        leave(Client(server.address, tls=context))
        for path in ("/", "/big", "/stream", "/file"):
            client = Client(server.address, tls=context)
            client.ask(path)
            leave(client)
        client = Client(server.address, tls=context)
        client.send(b"POST /live HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        leave(client)
        client = Client(server.address, tls=context)
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        leave(client)
        still_serves(server, files)

    def test_garbage_after_the_handshake_is_dropped(self, server: HTTPServer, files: Files) -> None:
        with Client(server.address, tls=files.client_context()) as client:
            assert client.get("/").status == 200
            raw = socket.socket(fileno=client.sock.detach())
            raw.settimeout(PATIENCE)
            with raw:
                raw.sendall(b"not a record")
                try:
                    while raw.recv(1000):
                        pass
                except OSError:
                    pass
        still_serves(server, files)


def test_beyond_the_maximum_there_is_no_handshake(
    serve: Serve, files: Files, logged: Records
) -> None:
    server = serve(App(), privkey=files.key, cert=files.chain, max_connections=1)
    with Client(server.address, tls=files.client_context()) as first:
        assert first.get("/").status == 200
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Client(server.address, tls=files.client_context())
        assert first.get("/").status == 200
    assert len(logged.at_least(logging.WARNING)) == 1


class TestCertificates:
    def test_one_can_be_replaced_while_running(
        self, serve: Serve, files: Files, tmp_path: Path
    ) -> None:
        other = Files(tmp_path)
        server = serve(App(), privkey=files.key, cert=files.chain)
        with Client(server.address, tls=files.client_context()) as client:
            assert client.get("/").status == 200
            server.replace_certificate(other.key, other.chain)
            still_serves(server, other)
            with pytest.raises(ssl.SSLCertVerificationError):
                Client(server.address, tls=files.client_context())
            # What is open stays as it is.
            assert client.get("/").status == 200
        server.stop()
        server.start()
        still_serves(server, other)

    def test_a_bad_replacement_changes_nothing(
        self, server: HTTPServer, files: Files, tmp_path: Path
    ) -> None:
        with pytest.raises(FileNotFoundError, match="missing"):
            server.replace_certificate(tmp_path / "missing", files.chain)
        still_serves(server, files)

    def test_a_plain_server_cannot_change_while_running(self, serve: Serve, files: Files) -> None:
        server = serve(App())
        with pytest.raises(ValueError, match="without TLS"):
            server.replace_certificate(files.key, files.chain)
        with Client(server.address) as client:
            assert client.get("/").status == 200

    def test_missing_files_are_named_at_start(self, files: Files, tmp_path: Path) -> None:
        missing = tmp_path / "missing.pem"
        for key, chain in ((missing, files.chain), (files.key, missing)):
            server = HTTPServer(("127.0.0.1", 0), key, chain)
            with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
                server.start()
            assert not server.running

    def test_files_that_are_none_are_named_at_start(self, files: Files, tmp_path: Path) -> None:
        nonsense = tmp_path / "nonsense.pem"
        nonsense.write_text("nonsense")
        for key, chain in ((nonsense, files.chain), (files.key, nonsense)):
            with pytest.raises(ssl.SSLError, match=r"nonsense\.pem"):
                HTTPServer(("127.0.0.1", 0), key, chain).start()

    def test_a_key_of_another_certificate_is_refused(self, files: Files, tmp_path: Path) -> None:
        other = Files(tmp_path)
        with pytest.raises(ssl.SSLError, match="do not work"):
            HTTPServer(("127.0.0.1", 0), other.key, files.chain).start()

    def test_an_encrypted_key_is_refused_and_nobody_is_asked(
        self, files: Files, tmp_path: Path
    ) -> None:
        from cryptography.hazmat.primitives import serialization

        key = serialization.load_pem_private_key(files.key.read_bytes(), None)
        locked = tmp_path / "locked.pem"
        locked.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        with pytest.raises(ssl.SSLError, match="do not work"):
            HTTPServer(("127.0.0.1", 0), locked, files.chain).start()

    def test_a_key_goes_with_a_certificate(self, files: Files) -> None:
        with pytest.raises(ValueError, match="go together"):
            HTTPServer(("127.0.0.1", 0), files.key)
        with pytest.raises(ValueError, match="either tls or"):
            HTTPServer(("127.0.0.1", 0), files.key, files.chain, tls=ssl.create_default_context())

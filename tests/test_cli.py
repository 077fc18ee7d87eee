"""The command line, run as people run it: in a process, told by its lines and exit code."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

import resource_server
from tests.command import PATIENCE, PROJECT, Command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Start ``python -m resource_server ARGUMENTS`` in an empty directory; ended with the test."""
    with ExitStack() as commands:

        def start(*arguments: object, port: int | None = 0, cwd: Path = tmp_path) -> Command:
            words = [str(argument) for argument in arguments]
            if port is not None:
                words += ["--port", str(port)]
            environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
            command = Command(
                [sys.executable, "-W", "error", "-m", "resource_server", *words], cwd, environment
            )
            commands.callback(command.close)
            return command

        yield start


def fetch(url: str, path: str = "/", context: ssl.SSLContext | None = None) -> tuple[int, str]:
    """GET a path, and return status and text."""
    parts = urlsplit(url)
    assert parts.hostname
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=PATIENCE, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def advice(command: Command) -> str:
    """Return the one line on standard error of a command that could not serve."""
    code, out, err = command.ended()
    assert (code, out, len(err)) == (1, [], 1), (code, out, err)
    assert err[0].startswith("resource_server: ")
    return err[0].removeprefix("resource_server: ")


APP = """
from resource_server import Resource, Router, get

class Hello(Resource):
    @get("/hello")
    def hello(self, request):
        return "hello from a resource"

hello = Hello()
router = Router()
router.register_routes(hello)
routes = [("GET", "/hello", lambda request: "hello from a list")]
number = 5

class Holder:
    inner = hello

def make():
    return router

def make_class():
    return Hello

def fails():
    return 1 / 0

def needs(argument):
    return router
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A file with things to serve, in the directory where commands start."""
    path = tmp_path / "myapp.py"
    path.write_text(APP)
    return path


# What is served


def test_without_arguments_the_current_directory_is_served(
    run: Callable[..., Command], tmp_path: Path
) -> None:
    (tmp_path / "page.txt").write_text("a file")
    command = run()
    url = command.url()
    assert urlsplit(url).hostname == "127.0.0.1"
    assert fetch(url, "/page.txt") == (200, "a file")
    status, listing = fetch(url, "/")
    assert status == 200
    assert "page.txt" in listing
    assert fetch(url, "/none")[0] == 404
    code, out, _ = command.end()
    assert (code, out) == (0, ["Stopped."])


def test_a_directory_may_be_named(run: Callable[..., Command], tmp_path: Path) -> None:
    (tmp_path / "public").mkdir()
    (tmp_path / "public" / "page.txt").write_text("a file")
    assert fetch(run("--directory", "public").url(), "/page.txt") == (200, "a file")


@pytest.mark.parametrize(
    "name", ["Hello", "hello", "router", "make", "make_class", "Holder.inner", ""]
)
def test_an_app_in_a_file_is_served(run: Callable[..., Command], app: Path, name: str) -> None:
    url = run(f"{app.name}:{name}").url()
    assert fetch(url, "/hello") == (200, "hello from a resource")


def test_a_list_of_routes_is_served(run: Callable[..., Command], app: Path) -> None:
    assert fetch(run("myapp.py:routes").url(), "/hello") == (200, "hello from a list")


def test_an_app_in_a_module_of_the_current_directory_is_served(
    run: Callable[..., Command], app: Path
) -> None:
    assert fetch(run("myapp:Hello").url(), "/hello")[0] == 200


def test_the_app_finds_modules_beside_its_file(
    run: Callable[..., Command], app: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert fetch(run(app, cwd=elsewhere).url(), "/hello")[0] == 200
    (tmp_path / "other.py").write_text("import myapp\napp = myapp.hello\n")
    assert fetch(run("../other.py", cwd=elsewhere).url(), "/hello")[0] == 200


def test_an_app_may_be_named_as_a_module_of_the_standard_library(
    run: Callable[..., Command], tmp_path: Path
) -> None:
    (tmp_path / "os.py").write_text(APP)
    assert fetch(run("os.py:Hello").url(), "/hello")[0] == 200


# Options


def test_port_may_be_given_as_with_http_server(run: Callable[..., Command]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    assert run(port, port=None).url().endswith(f":{port}")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no IPv6 here")
def test_ipv6_is_served(run: Callable[..., Command]) -> None:
    url = run("--bind", "::1").url()
    assert url.startswith("http://[::1]:")
    assert fetch(url)[0] == 200


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no UNIX sockets here")
def test_unix_socket_is_served(run: Callable[..., Command], tmp_path: Path) -> None:
    command = run("--bind", "unix:server.socket")
    assert "server.socket" in command.url()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(tmp_path / "server.socket"))
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert client.recv(12) == b"HTTP/1.1 200"
    assert command.end()[0] == 0
    assert not (tmp_path / "server.socket").exists()


@pytest.fixture(scope="module")
def authority() -> Any:
    import trustme

    return trustme.CA()


@pytest.mark.parametrize("separate_key", [True, False])
def test_https_is_served(
    run: Callable[..., Command], tmp_path: Path, authority: Any, separate_key: bool
) -> None:
    issued = authority.issue_cert("127.0.0.1")
    if separate_key:
        issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
        issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
        url = run("--tls-cert", "cert.pem", "--tls-key", "key.pem").url()
    else:
        issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
        url = run("--tls-cert", "both.pem").url()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    assert url.startswith("https://127.0.0.1:")
    assert fetch(url, "/", context)[0] == 200


def test_each_request_gives_a_line_on_standard_error(run: Callable[..., Command]) -> None:
    command = run()
    fetch(command.url(), "/none")
    line = command.line(command.err)
    assert "127.0.0.1" in line
    assert '"GET /none HTTP/1.1" 404' in line


def test_access_lines_can_be_turned_off(run: Callable[..., Command]) -> None:
    command = run("--no-access-log")
    fetch(command.url(), "/none")
    assert command.end() == (0, ["Stopped."], [])


def test_access_lines_hold_no_control_characters_of_the_client(
    run: Callable[..., Command],
) -> None:
    command = run()
    fetch(command.url(), "/%1b[31m%0a")
    assert command.line(command.err).isprintable()


def test_a_failing_handler_is_told_with_its_traceback(
    run: Callable[..., Command], tmp_path: Path
) -> None:
    (tmp_path / "bad.py").write_text(
        "app = [('GET', '/', lambda request: 1 / 0)]\n", encoding="utf-8"
    )
    command = run("bad.py", "--no-access-log")
    assert fetch(command.url())[0] == 500
    code, _, err = command.end()
    assert code == 0
    assert "ZeroDivisionError: division by zero" in "\n".join(err)


def test_an_app_that_sets_up_logging_is_left_alone(
    run: Callable[..., Command], tmp_path: Path
) -> None:
    (tmp_path / "logs.py").write_text(
        "import logging\nlogging.basicConfig(format='mine: %(message)s')\n" + APP
    )
    command = run("logs.py:Hello")
    fetch(command.url(), "/hello")
    _, _, err = command.end()
    assert len(err) == 1
    assert err[0].startswith("mine: ")


def test_version_and_help(run: Callable[..., Command]) -> None:
    code, out, err = run("--version").ended()
    assert (code, out, err) == (0, [f"resource_server {resource_server.__version__}"], [])
    code, out, err = run("--help").ended()
    assert (code, err) == (0, [])
    assert "--tls-cert" in "\n".join(out)


# Stopping


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_cleanly(run: Callable[..., Command], number: int) -> None:
    command = run("--no-access-log")
    url = command.url()
    kept = http.client.HTTPConnection("127.0.0.1", urlsplit(url).port or 0, timeout=PATIENCE)
    kept.request("GET", "/")
    kept.getresponse().read()
    assert command.end(number) == (0, ["Stopped."], [])
    kept.close()


@needs_signals
def test_a_signal_while_the_app_is_imported_ends_it_cleanly(
    run: Callable[..., Command], tmp_path: Path
) -> None:
    # Not by a lock: interrupted just before it waits, an Event raises something else.
    (tmp_path / "slow.py").write_text(
        "import time\nprint('importing', flush=True)\nwhile True:\n    time.sleep(0.01)\n"
    )
    command = run("slow.py")
    assert command.line() == "importing"
    assert command.end() == (0, [], [])


@needs_signals
def test_a_second_signal_does_not_wait_for_handlers(
    run: Callable[..., Command], tmp_path: Path
) -> None:
    (tmp_path / "stuck.py").write_text(
        "import threading\n"
        "def wait(request):\n"
        "    print('handling', flush=True)\n"
        "    threading.Event().wait()\n"
        "app = [('GET', '/', wait)]\n"
    )
    command = run("stuck.py", "--no-access-log")
    port = urlsplit(command.url()).port
    assert port
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        assert command.line() == "handling"
        command.process.send_signal(signal.SIGINT)
        # That nobody is accepted any more shows that it is stopping.
        while accepts_connections(port):
            pass
        assert command.end()[:2] == (0, ["Stopped."])


def accepts_connections(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), PATIENCE).close()
    except OSError:
        return False
    return True


@needs_signals
def test_output_that_nobody_reads_is_no_reason_to_end(tmp_path: Path) -> None:
    code = """
import os, sys
from resource_server import HTTPServer
from resource_server.cli import main

wait = HTTPServer.wait

def wait_and_tell(self, timeout=None):
    os.write(2, f"a server on {self.url} (Ctrl-C stops it)\\n".encode())
    return wait(self, timeout)

HTTPServer.wait = wait_and_tell
read, write = os.pipe()
os.dup2(write, 1)
os.close(write)
os.close(read)
sys.exit(main(["0", "--no-access-log"]))
"""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = Command([sys.executable, "-c", code], tmp_path, environment)
    try:
        command.out, command.err = command.err, command.out
        assert fetch(command.url())[0] == 200
        assert command.end() == (0, [], [])
    finally:
        command.close()


def test_it_serves_without_standard_streams(tmp_path: Path) -> None:
    code = """
import os, sys
from resource_server import HTTPServer
from resource_server.cli import main

start = HTTPServer.start

def start_and_tell(self):
    start(self)
    os.write(1, f"a server on {self.url} (Ctrl-C stops it)".encode())
    os.close(1)

HTTPServer.start = start_and_tell
sys.stdout = sys.stderr = None
sys.exit(main(["0"]))
"""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = Command([sys.executable, "-c", code], tmp_path, environment)
    try:
        assert fetch(command.url())[0] == 200
        assert command.end() == (0, [], [])
    finally:
        command.close()


# What cannot be served: one line of advice, exit code 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["none.py"], "there is no file none.py"),
        (["myapp.py:Helo"], "myapp.py has no Helo; did you mean Hello?"),
        (["myapp.py:zzzzz"], "myapp.py has no zzzzz"),
        (["myapp.py:Holder.iner"], "myapp.py has no Holder.iner; did you mean inner?"),
        (["myapp.py:number"], "an object of type int, which cannot be served"),
        (["myapp.py:fails"], "myapp.py:25: ZeroDivisionError: division by zero"),
        (["myapp.py:needs"], "TypeError: needs() missing 1 required positional argument"),
        (["./myapp"], "there is no file ./myapp; did you mean ./myapp.py?"),
        (["folder"], "folder is a directory; serve its files with: -d folder"),
        (["folder/"], "folder/ is a directory; serve its files with: -d folder/"),
        (["nowhere:app"], "there is no module nowhere here or installed"),
        (["nowhere.deep:app"], "there is no module nowhere.deep here or installed"),
        (["not-a-module"], "neither a Python file nor the name of a module"),
        (["empty.py"], "empty.py has no `app` and no Resource class"),
        (["several.py"], "several Resource classes (A, B); name one, as in several.py:A"),
        (["broken.py"], "broken.py:1: SyntaxError: '(' was never closed"),
        (["leaves.py"], "leaves.py:1: SystemExit: two lines"),
        (["./notes.txt"], "./notes.txt is no Python file (its name must end with .py)"),
        (["needy.part:app"], "__init__.py:1: ModuleNotFoundError: No module named 'nowhere'"),
        (["folder/needy.py"], "needy.py:1: ModuleNotFoundError: No module named 'nowhere'"),
        (["badroutes.py"], "/:"),
        (["--directory", "none"], "there is no directory none"),
        (["--directory", "empty.py"], "there is no directory empty.py"),
        (["--bind", "192.0.2.1"], "192.0.2.1 is no address of this machine"),
        (["--bind", "nowhere.invalid"], "cannot listen on nowhere.invalid"),
        (["--bind", "unix:none/server"], "none"),
        (["--tls-cert", "none.pem"], "there is no file none.pem"),
        (["--tls-cert", "empty.py", "--tls-key", "none.pem"], "there is no file none.pem"),
        (["--tls-cert", "empty.py"], "empty.py"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(
    run: Callable[..., Command], app: Path, arguments: list[str], expected: str
) -> None:
    folder = app.parent / "folder"
    folder.mkdir()
    (folder / "needy.py").write_text("import nowhere\n")
    (app.parent / "needy").mkdir()
    files = {
        "needy/__init__.py": "import nowhere\n",
        "notes.txt": "no code\n",
        "empty.py": "",
        "several.py": "from resource_server import Resource\n"
        "class A(Resource): ...\nclass B(Resource): ...\n",
        "broken.py": "x = (\n",
        "leaves.py": "import sys; sys.exit('two\\nlines')\n",
        "badroutes.py": "app = [('GET', '/:(', print)]\n",
    }
    for name, text in files.items():
        (app.parent / name).write_text(text)
    assert expected in advice(run(*arguments))


def test_a_port_in_use_is_told(run: Callable[..., Command]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = advice(run(port=port))
    assert f"port {port} of 127.0.0.1 is in use; choose another with --port" in text


def test_a_forbidden_port_is_told(tmp_path: Path) -> None:
    # Not by trying one: some users, and some systems, may use any port.
    code = """
import errno, socket, sys
from resource_server.cli import main

def bind(self, address):
    raise PermissionError(errno.EACCES, "Permission denied")

socket.socket.bind = bind
sys.exit(main(["80"]))
"""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = Command([sys.executable, "-c", code], tmp_path, environment)
    try:
        text = advice(command)
        assert "no permission to use port 80 of 127.0.0.1; choose one from 1024 up" in text
    finally:
        command.close()


def test_a_key_of_another_certificate_is_told(
    run: Callable[..., Command], tmp_path: Path, authority: Any
) -> None:
    one, other = (authority.issue_cert("127.0.0.1") for _ in range(2))
    one.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    other.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    text = advice(run("--tls-cert", "cert.pem", "--tls-key", "key.pem"))
    assert "cert.pem and key.pem are no PEM certificate with its unencrypted private key" in text


def test_a_key_with_a_password_is_told_and_nobody_is_asked_for_it(
    run: Callable[..., Command], tmp_path: Path, authority: Any
) -> None:
    from cryptography.hazmat.primitives import serialization

    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    (tmp_path / "locked.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    text = advice(run("--tls-cert", "cert.pem", "--tls-key", "locked.pem"))
    assert "cert.pem and locked.pem are no PEM certificate with its unencrypted" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port", "70000"],
        ["--port", "-1"],
        ["--port", "http"],
        ["70000"],
        ["8000", "8001"],
        ["8000", "--port", "8001"],
        ["one.py", "two.py"],
        ["one.py", "--directory", "."],
        ["--tls-key", "key.pem"],
        ["--threads", "0"],
        ["--threads", "many"],
        ["--unknown"],
        ["--acc"],
    ],
)
def test_arguments_that_make_no_sense_are_told_as_usage(
    run: Callable[..., Command], arguments: list[str]
) -> None:
    code, out, err = run(*arguments, port=None).ended()
    assert (code, out) == (2, [])
    assert err[0].startswith("usage: python3 -m resource_server ")
    assert err[-1].startswith("python3 -m resource_server: error: ")


# Reloading


@needs_signals
class TestReload:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_to_the_parent_ends_both(
        self, run: Callable[..., Command], app: Path, number: int
    ) -> None:
        command = run("--reload", "--no-access-log", "myapp.py:Hello")
        url = command.url()
        assert command.end(number) == (0, ["Stopped."], [])
        with pytest.raises(ConnectionRefusedError):
            fetch(url)

    def test_a_change_of_the_app_or_of_what_it_imports_restarts(
        self, run: Callable[..., Command], tmp_path: Path
    ) -> None:
        (tmp_path / "part.py").write_text("text = 'one'\n")
        (tmp_path / "whole.py").write_text(
            "import part\napp = [('GET', '/', lambda request: part.text)]\n"
        )
        command = run("--reload", "whole.py")
        assert fetch(command.url())[1] == "one"

        (tmp_path / "part.py").write_text("text = 'number two'\n")
        assert command.line() == "Stopped."
        assert command.line().endswith("part.py changed: restarting")
        assert fetch(command.url())[1] == "number two"

        (tmp_path / "whole.py").write_text("app = [('GET', '/', lambda request: 'three')]\n")
        assert command.line() == "Stopped."
        assert command.line().endswith("whole.py changed: restarting")
        assert fetch(command.url())[1] == "three"
        assert command.end()[:2] == (0, ["Stopped."])

    def test_an_app_that_cannot_be_imported_is_told_once_and_tried_again_when_it_changes(
        self, run: Callable[..., Command], app: Path
    ) -> None:
        good = app.read_text()
        app.write_text("1 / 0\n")
        command = run("--reload", "--no-access-log", "myapp.py:Hello")
        line = command.line(command.err)
        assert "myapp.py:1: ZeroDivisionError: division by zero (waiting for a change)" in line
        app.write_text(good)
        assert command.line().endswith("myapp.py changed: restarting")
        assert fetch(command.url(), "/hello")[0] == 200
        assert command.end() == (0, ["Stopped."], [])

    def test_a_missing_app_is_served_when_it_appears(
        self, run: Callable[..., Command], tmp_path: Path
    ) -> None:
        command = run("--reload", "myapp:Hello")
        assert "there is no module myapp" in command.line(command.err)
        (tmp_path / "myapp.py").write_text(APP)
        assert command.line().endswith("myapp.py changed: restarting")
        assert fetch(command.url(), "/hello")[0] == 200

    def test_what_no_change_can_mend_ends_both(self, run: Callable[..., Command]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as other:
            assert "is in use" in advice(run("--reload", port=other.getsockname()[1]))

    def test_a_child_whose_parent_is_killed_ends(
        self, run: Callable[..., Command], app: Path
    ) -> None:
        command = run("--reload", "myapp.py:Hello")
        command.url()
        command.process.kill()
        # Its standard output is closed when the child, too, has ended.
        assert command.rest(command.out) == ["Stopped."]

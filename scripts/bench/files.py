"""Throughput of files and the CPU time they cost, beside other servers, plain and by TLS.

    python scripts/bench/files.py [--seconds 2] [--rounds 3] [--large 1024] [--environment DIR]

A file of 1 MiB is fetched again and again by 8 connections for some seconds, and one of `--large`
MiB (a sparse one) once by each of 2. Server and load have a core each; servers take turns, and
medians of the rounds are shown. The CPU time is the server's, user and system together.

waitress, cheroot, starlette and uvicorn are installed into a virtual environment, which is made in
the directory for temporary files unless another is named. If nginx or openssl, which makes the
certificate, is missing, that is said, and what needs it is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench.environment import Environment
from scripts.bench.process import Program, cores, free_port

PACKAGES = ("waitress", "cheroot", "starlette", "uvicorn")
MIB = 1 << 20

OURS = """
from resource_server import FileResource, HTTPServer, Router
router = Router()
router.mount("/", FileResource(FOLDER))
HTTPServer(("127.0.0.1", PORT), *((KEY, CERT) if TLS else ()), router=router).run()
"""
WSGI = """
import os
def app(environ, start_response):
    file = open(FOLDER + environ["PATH_INFO"], "rb")
    fields = [("Content-Type", "application/octet-stream")]
    fields.append(("Content-Length", str(os.fstat(file.fileno()).st_size)))
    start_response("200 OK", fields)
    return environ.get("wsgi.file_wrapper", FileWrapper)(file, 65536)
from wsgiref.util import FileWrapper
"""
WAITRESS = WSGI + "import waitress\nwaitress.serve(app, host='127.0.0.1', port=PORT, threads=8)"
CHEROOT = (
    WSGI
    + """
from cheroot.wsgi import Server
from cheroot.ssl.builtin import BuiltinSSLAdapter
server = Server(("127.0.0.1", PORT), app, numthreads=10)
if TLS:
    server.ssl_adapter = BuiltinSSLAdapter(CERT, KEY)
server.start()
"""
)
UVICORN = """
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
app = Starlette(routes=[Mount("/", StaticFiles(directory=FOLDER))])
tls = dict(ssl_keyfile=KEY, ssl_certfile=CERT) if TLS else {}
uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="error", access_log=False, **tls)
"""
NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log;
{user}
events {{ worker_connections 256; }}
http {{
    access_log off; sendfile on; default_type application/octet-stream;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 127.0.0.1:{port} {ssl}; {certificate}
        root {folder}/www;
    }}
}}
"""
PYTHON = {
    "resource_server": OURS,
    "waitress": WAITRESS,
    "cheroot": CHEROOT,
    "starlette+uvicorn": UVICORN,
}


def fetch(port: int, path: str, *, tls: bool, until: float) -> int:
    """Fetch a file on one connection, at least once and until then; return the bytes received."""
    sock: socket.socket = socket.create_connection(("127.0.0.1", port), 60)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock = context.wrap_socket(sock)
    buffer, received = bytearray(256 * 1024), 0
    with sock:
        while True:
            sock.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                piece = sock.recv(65536)
                if not piece:
                    raise RuntimeError(f"closed after {head!r}")
                head += piece
            fields, _, begun = head.partition(b"\r\n\r\n")
            if b" 200 " not in fields[:13]:
                raise RuntimeError(f"no file: {fields!r}")
            left = int(fields.lower().split(b"content-length:")[1].split()[0])
            received += left
            left -= len(begun)
            while left:
                count = sock.recv_into(buffer)
                if not count:
                    raise RuntimeError(f"closed {left} bytes early")
                left -= count
            if time.monotonic() >= until:
                return received


def load(port: int, path: str, connections: int, seconds: float, *, tls: bool) -> None:
    """What the load's process does: fetch in threads; tell bytes and seconds, or the failure."""
    sizes: list[int] = []
    failures: list[str] = []
    start = time.monotonic()

    def run() -> None:
        try:
            sizes.append(fetch(port, path, tls=tls, until=start + seconds))
        except (OSError, RuntimeError, IndexError) as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=run) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    told = {"bytes": sum(sizes), "seconds": time.monotonic() - start, "failures": failures}
    print(json.dumps(told), flush=True)


def certificate(folder: Path) -> tuple[str, str] | None:
    """The files of a key and of its certificate, or None without openssl."""
    if shutil.which("openssl") is None:
        return None
    key, cert = str(folder / "key.pem"), str(folder / "cert.pem")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += f" -subj /CN=127.0.0.1 -keyout {key} -out {cert}"
    subprocess.run(command.split(), check=True, capture_output=True)
    return key, cert


class Bench:
    """Files, a certificate and the ways to start each server."""

    def __init__(self, folder: Path, python: str, options: argparse.Namespace) -> None:
        self.folder, self.python, self.options = folder, python, options
        www = folder / "www"
        www.mkdir()
        (www / "mib.bin").write_bytes(os.urandom(MIB))
        with (www / "large.bin").open("wb") as file:
            file.truncate(options.large * MIB)
        # Whoever comes first would pay for the system's cache: 1 ms per MiB.
        with (www / "large.bin").open("rb", buffering=0) as file:
            while file.read(MIB):
                pass
        made = certificate(folder)
        self.modes = [False, True] if made else [False]
        if made is None:
            print("openssl is missing: without TLS")
        self.key, self.cert = made or ("", "")
        self.nginx = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
        if self.nginx is None:
            print("nginx is missing; Debian has it as the package nginx-light")

    def servers(self, *, tls: bool) -> list[str]:
        names = [name for name in PYTHON if not (tls and name == "waitress")]  # which has no TLS
        return names if self.nginx is None else [*names, "nginx"]

    def command(self, name: str, port: int, *, tls: bool) -> list[str]:
        if name == "nginx":
            assert self.nginx is not None
            configuration = self.folder / "nginx.conf"
            text = NGINX.format(
                folder=self.folder,
                port=port,
                ssl="ssl" if tls else "",
                certificate=f"ssl_certificate {self.cert}; ssl_certificate_key {self.key};"
                if tls
                else "",
                user="" if os.geteuid() else "user root root;",
            )
            configuration.write_text(text)
            return [self.nginx, "-p", str(self.folder), "-c", str(configuration)]
        names = {"PORT": port, "FOLDER": str(self.folder / "www"), "TLS": tls}
        names |= {"CERT": self.cert, "KEY": self.key}
        head = "".join(f"{each} = {value!r}\n" for each, value in names.items())
        return [self.python, "-c", head + PYTHON[name]]

    def measure(self, name: str, *, tls: bool) -> list[tuple[float, float]]:
        """MiB per second, and CPU ms per MiB: of the file of 1 MiB, and of the large one."""
        port = free_port()
        server_core, load_core = cores()
        results = []
        with Program(self.command(name, port, tls=tls), server_core) as server:
            server.wait_until_it_listens(port)
            for path, connections, seconds in (
                ("/mib.bin", 8, 0.3),  # so that everything has been imported, started and read
                ("/mib.bin", 8, self.options.seconds),
                ("/large.bin", 2, 0.0),
            ):
                before = server.cpu_seconds()
                arguments = [str(port), path, str(connections), str(seconds), str(int(tls))]
                command = [sys.executable, __file__, "load", *arguments]
                with Program(command, load_core) as client:
                    told = client.hear(600)
                if told["failures"]:
                    raise RuntimeError(told["failures"][0])
                mib = told["bytes"] / MIB
                used = server.cpu_seconds() - before
                results.append((mib / told["seconds"], used / mib * 1e3))
        return results[1:]


def show(results: dict[tuple[bool, str], list[list[tuple[float, float]]]], large: int) -> None:
    head = f"1 MiB: MiB/s  CPU ms/MiB   {large} MiB: MiB/s  CPU ms/MiB"
    for tls in (False, True):
        print(f"\n{'TLS' if tls else 'plain':22}{head}")
        for (mode, name), rounds in results.items():
            if mode is tls and rounds:
                small, big = (
                    [statistics.median(column) for column in zip(*each, strict=True)]
                    for each in zip(*rounds, strict=True)
                )
                print(f"{name:18} {small[0]:16.0f} {small[1]:11.2f} {big[0]:17.0f} {big[1]:11.2f}")


def main() -> None:
    if sys.argv[1:2] == ["load"]:
        port, path, connections, seconds, tls = sys.argv[2:]
        load(int(port), path, int(connections), float(seconds), tls=bool(int(tls)))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0, help="of each run with 1 MiB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=1024, help="MiB of the large file")
    options = parser.parse_args()
    environment = Environment()
    environment.install(set(PACKAGES))
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(Path(directory), environment.python, options)
        turns = [(tls, name) for tls in bench.modes for name in bench.servers(tls=tls)]
        results: dict[tuple[bool, str], list[list[tuple[float, float]]]]
        results = {turn: [] for turn in turns}
        for number in range(options.rounds):
            for mode, name in turns:
                try:
                    measured = bench.measure(name, tls=mode)
                except RuntimeError as error:
                    print(f"{name}: {error}")
                    continue
                results[mode, name].append(measured)
                told = "   ".join(f"{rate:6.0f} MiB/s {cpu:5.2f} ms/MiB" for rate, cpu in measured)
                kind = "TLS  " if mode else "plain"
                print(f"round {number + 1} {kind} {name:18} {told}", flush=True)
    show(results, options.large)


if __name__ == "__main__":
    main()

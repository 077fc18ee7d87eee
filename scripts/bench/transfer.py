"""Peak memory of the server while clients upload and download large files, all at once.

    python scripts/bench/transfer.py [--size 1024] [--clients 4] [--spooled] [--tls]

Each of `--clients` uploads `--size` MiB, and as many download a (sparse) file of that size. The
uploads are read by a handler while they arrive, or, with `--spooled`, collected before it runs (in
the directory for temporary files, which needs room for all of them). Ends with status 1 if the
resident memory was ever 64 MiB or more above that of the idle server, or a byte was lost.
"""

from __future__ import annotations

import argparse
import json
import socket
import ssl
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from scripts.bench.files import MIB, certificate, fetch
from scripts.bench.process import Program, cores, free_port

#: MiB above the idle server that it may take.
ALLOWED = 64

SERVER = """
from resource_server import FileResource, HTTPServer, Resource, Router, post
class Upload(Resource):
    @post("/upload", max_content_length=1 << 40, stream=STREAM)
    def upload(self, request):
        size = 0
        while piece := request.stream.read(65536):
            size += len(piece)
        return {"size": size}
router = Router()
router.register_routes(Upload)
router.mount("/files", FileResource(FOLDER))
HTTPServer(("127.0.0.1", PORT), *((KEY, CERT) if TLS else ()), router=router).run()
"""


def upload(port: int, size: int, *, tls: bool) -> int:
    """Upload that many bytes; return how many the server says it was."""
    sock: socket.socket = socket.create_connection(("127.0.0.1", port), 600)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        sock = context.wrap_socket(sock)
    piece = memoryview(bytes(256 * 1024))
    with sock:
        head = f"POST /upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {size}\r\n"
        sock.sendall(f"{head}Connection: close\r\n\r\n".encode())
        left = size
        while left:
            sock.sendall(piece[:left])
            left -= min(left, len(piece))
        answer = b""
        while data := sock.recv(65536):
            answer += data
    if b" 200 " not in answer[:13]:
        raise RuntimeError(f"not taken: {answer[:200]!r}")
    told: int = json.loads(answer.rpartition(b"\r\n")[2])["size"]
    return told


def load(port: int, clients: int, size: int, *, tls: bool) -> None:
    """What the load's process does: all at once, in threads; tell seconds, or what went wrong."""
    failures: list[str] = []
    start = time.monotonic()

    def run(number: int) -> None:
        try:
            if number % 2:
                moved = upload(port, size, tls=tls)
            else:
                moved = fetch(port, "/files/large.bin", tls=tls, until=0)
            if moved != size:
                failures.append(f"{moved} bytes of {size}")
        except (OSError, RuntimeError, ValueError) as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2 * clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps({"seconds": time.monotonic() - start, "failures": failures}), flush=True)


def run_load(port: int, clients: int, size: int, core: int, *, tls: bool) -> float:
    """The seconds that it took; raises RuntimeError if anything went wrong."""
    arguments = [str(port), str(clients), str(size), str(int(tls))]
    with Program([sys.executable, __file__, "load", *arguments], core) as client:
        told = client.hear(3600)
    if told["failures"]:
        raise RuntimeError("; ".join(told["failures"]))
    seconds: float = told["seconds"]
    return seconds


def main() -> None:
    if sys.argv[1:2] == ["load"]:
        port, clients, size, tls = map(int, sys.argv[2:])
        load(port, clients, size, tls=bool(tls))
        return
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", type=int, default=1024, help="MiB of each transfer")
    parser.add_argument("--clients", type=int, default=4, help="that upload, and that download")
    parser.add_argument("--spooled", action="store_true", help="collect uploads before the handler")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    size = options.size * MIB
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        www = folder / "www"
        www.mkdir()
        large = www / "large.bin"
        made = certificate(folder) if options.tls else ("", "")
        if made is None:
            sys.exit("openssl is missing, which makes the certificate")
        key, cert = made
        port, (server_core, load_core) = free_port(), cores()
        names = {"PORT": port, "FOLDER": str(www), "TLS": options.tls, "KEY": key}
        names |= {"CERT": cert, "STREAM": not options.spooled}
        program = "".join(f"{each} = {value!r}\n" for each, value in names.items()) + SERVER
        with Program([sys.executable, "-c", program], server_core) as server:
            server.wait_until_it_listens(port)
            for length in (1000, size):  # first little, so that everything has been imported
                with large.open("wb") as file:
                    file.truncate(length)
                idle = server.status("VmRSS")
                Path(f"/proc/{server.pid}/clear_refs").write_text("5")  # VmHWM begins anew
                before = server.cpu_seconds()
                seconds = run_load(port, options.clients, length, load_core, tls=options.tls)
            peak, used = server.status("VmHWM"), server.cpu_seconds() - before
            threads = server.status("Threads")
    mib = 2 * options.clients * options.size
    rate, cost = mib / seconds, used / mib * 1e3
    print(f"{mib} MiB in {seconds:.1f} s: {rate:.0f} MiB/s, CPU {cost:.2f} ms/MiB")
    above = (peak - idle) / 1024
    print(
        f"idle {idle / 1024:.1f} MiB, peak {above:.1f} MiB above it, {threads} threads at the end"
    )
    if above >= ALLOWED:
        sys.exit(f"more than the {ALLOWED} MiB that are allowed")


if __name__ == "__main__":
    main()

"""nginx in the foreground, for tests that talk to it or compare with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from pathlib import Path

# Debian has it where only root's PATH leads.
EXECUTABLE = shutil.which("nginx") or shutil.which("nginx", path="/usr/local/sbin:/usr/sbin:/sbin")

CONFIGURATION = """
daemon off;
worker_processes 1;
{user}
pid {folder}/nginx.pid;
events {{ worker_connections 256; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {http}
}}
"""


class Nginx:
    """A master process with one worker; `http` is what its block of that name holds.

    The sockets are made by whoever starts it, and named in `http`: so no port is guessed, and
    clients may come before it is ready.
    """

    def __init__(self, folder: Path, http: str, sockets: Sequence[socket.socket]) -> None:
        assert EXECUTABLE is not None
        # Otherwise a worker of root's becomes somebody who may not read our files.
        user = "" if os.geteuid() else "user root root;"
        configuration = folder / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(folder=folder, user=user, http=http))
        self._errors = folder / "error.log"
        numbers = [each.fileno() for each in sockets]
        self._process = subprocess.Popen(
            [EXECUTABLE, "-p", str(folder), "-c", str(configuration), "-e", str(self._errors)],
            # How a new nginx takes the place of an old one. It wants a master process then:
            # nginx 1.22 without one dies of a null pointer.
            env={**os.environ, "NGINX": "".join(f"{number};" for number in numbers)},
            pass_fds=numbers,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # A group of its own, so that its worker can be ended with it.
            start_new_session=True,
        )

    @property
    def errors(self) -> str:
        """What it has complained of."""
        return self._errors.read_text()

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

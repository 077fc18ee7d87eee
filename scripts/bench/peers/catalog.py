"""Everybody who takes part: how each is started, what it needs, and what it cannot do.

Each runs in the best set-up that its documentation gives for production, as far as one core goes:
one process, its compiled parts installed, access logs off. Those with a pool of threads get as many
as suits the workload. Asynchronous ones wait asynchronously where others sleep, as their users
would.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

APPS = Path(__file__).with_name("apps")
OURS = "ours"

#: What a workload asks of a server, beside answering `GET /`.
ABILITIES = frozenset(
    ["route", "post", "page", "close", "tls", "file", "slow", "ws", "http", "start"]
)


@dataclass(frozen=True, slots=True)
class Site:
    """Where a peer shall serve, and with what."""

    python: str
    port: int
    #: PEM files of key and certificate, for TLS.
    tls: tuple[str, str] | None
    files: str
    #: An empty directory for what the peer has to write.
    scratch: str
    threads: int


@dataclass(frozen=True, slots=True)
class Peer:
    """A server, or a framework on a server.

    :ivar what: its set-up, in words.
    :ivar command: its command line; {python}, {port}, {apps}, {threads} and so on are filled in.
    :ivar tls: what is added to the command for TLS, if it does not find that by itself.
    :ivar needs: the distributions that have to be installed for it.
    :ivar imports: what a program imports for it; "" for one that is no Python.
    :ivar without: what it cannot do, with the reason.
    """

    name: str
    what: str
    command: tuple[str, ...]
    needs: tuple[str, ...] = ()
    imports: str = ""
    tls: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)

    def start(self, site: Site) -> list[str]:
        """The command line for a site."""
        values = {
            "python": site.python,
            "apps": str(APPS),
            "port": str(site.port),
            "files": site.files,
            "scratch": site.scratch,
            "threads": str(site.threads),
            "key": site.tls[0] if site.tls else "",
            "cert": site.tls[1] if site.tls else "",
            "nginx": nginx() or "nginx",
        }
        return [word.format(**values) for word in (*self.command, *(self.tls if site.tls else ()))]

    def surroundings(self, site: Site) -> dict[str, str]:
        """What its environment says beside the usual."""
        variables = {
            "BENCH_PORT": str(site.port),
            "BENCH_FILES": site.files,
            "BENCH_THREADS": str(site.threads),
            **self.environment,
        }
        if site.tls is not None:
            variables["BENCH_KEY"], variables["BENCH_CERT"] = site.tls
        return variables


def nginx() -> str | None:
    return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _without(reason: str, *abilities: str) -> dict[str, str]:
    assert ABILITIES.issuperset(abilities), abilities
    return dict.fromkeys(abilities, reason)


_WSGI_WS = _without("WSGI has no WebSockets", "ws")
_NO_TLS = _without("it has no TLS", "tls")
_WS_ALONE = _without("it serves WebSockets alone", *(ABILITIES - {"ws"}))
_FIXED = _without(
    "it answers fixed bytes", "route", "post", "page", "close", "tls", "file", "slow", "ws"
)
_DATELESS = {"BENCH_DATE": "1"}


def _app(name: str, *arguments: str) -> tuple[str, ...]:
    return ("{python}", f"{{apps}}/{name}.py", *arguments)


def _hosted(host: str, app: str) -> tuple[str, ...]:
    return _app("wsgi_host", host, app)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _module(name: str) -> str:
    return f"scripts.bench.peers.apps.{name}"


def _uvicorn(app: str, http: str, loop: str) -> tuple[str, ...]:
    text = (
        f"{{python}} -m uvicorn {_module(app)}:app --host 127.0.0.1 --port {{port}} --http {http}"
        f" --loop {loop} --ws websockets-sansio --ws-per-message-deflate false --lifespan off"
        " --no-access-log --log-level warning --timeout-keep-alive 300 --backlog 4096"
    )
    return _words(text)


def _granian(interface: str, app: str, more: str = "") -> tuple[str, ...]:
    text = (
        f"{{python}} -m granian --interface {interface} --host 127.0.0.1 --port {{port}} --http 1"
        " --workers 1 --runtime-threads 1 --backlog 4096 --backpressure 16000 --no-log"
        " --http1-header-read-timeout 60000"
        f" --static-path-route /files --static-path-mount {{files}} {more} {_module(app)}:app"
    )
    return _words(text)


def _frameworks() -> list[Peer]:
    """Frameworks on the quickest host that is all threads and Python, and on bjoern."""
    peers = []
    for name in ("bottle", "flask", "falcon"):
        app = f"{name}_app"
        peers += [
            Peer(
                f"{name}/waitress",
                f"{name} on waitress",
                _hosted("waitress", app),
                (name, "waitress"),
                f"import {name}, waitress",
                without=_WSGI_WS | _NO_TLS,
            ),
            Peer(
                f"{name}/bjoern",
                f"{name} on bjoern",
                _hosted("bjoern", app),
                (name, "bjoern"),
                f"import {name}, bjoern",
                environment=_DATELESS,
                without=_WSGI_WS | _NO_TLS,
            ),
        ]
    return peers


_TLS_UVICORN = ("--ssl-keyfile", "{key}", "--ssl-certfile", "{cert}")
_TLS_GRANIAN = ("--ssl-keyfile", "{key}", "--ssl-certificate", "{cert}")
_NO_FILES = _without("a bare ASGI server has no files", "file")

PEERS = (
    Peer(OURS, "resource_server with its defaults", _app("ours"), imports="import resource_server"),
    Peer(
        "ours (session)",
        "resource_server, a thread for each WebSocket",
        _app("ours"),
        environment={"BENCH_SESSIONS": "1"},
        without=_without("the same as ours", *(ABILITIES - {"ws"})),
    ),
    Peer(
        "http.server",
        "ThreadingHTTPServer, HTTP/1.1, buffered writes",
        _app("http_server"),
        imports="import http.server",
        without=_without("it has no WebSockets", "ws"),
    ),
    Peer(
        "waitress",
        "bare WSGI on waitress, poll()",
        _hosted("waitress", "wsgi"),
        ("waitress",),
        "import waitress",
        without=_WSGI_WS | _NO_TLS,
    ),
    Peer(
        "cheroot",
        "bare WSGI on cheroot",
        _hosted("cheroot", "wsgi"),
        ("cheroot",),
        "import cheroot.wsgi",
        without=_WSGI_WS,
    ),
    Peer(
        "gunicorn",
        "bare WSGI on gunicorn, a gthread worker",
        _words(
            "{python} -m gunicorn -b 127.0.0.1:{port} -w 1 -k gthread --threads {threads}"
            " --keep-alive 300 --worker-connections 16000 --backlog 4096 --log-level warning"
            f" --worker-tmp-dir /dev/shm {_module('wsgi')}:app"
        ),
        ("gunicorn",),
        "import gunicorn.app.wsgiapp, gunicorn.workers.gthread",
        tls=("--keyfile", "{key}", "--certfile", "{cert}"),
        without=_WSGI_WS,
    ),
    Peer(
        "werkzeug",
        "bare WSGI on werkzeug's threaded server, HTTP/1.1",
        _hosted("werkzeug", "wsgi"),
        ("werkzeug",),
        "import werkzeug.serving",
        without=_WSGI_WS,
    ),
    *_frameworks(),
    Peer(
        "bjoern",
        "bare WSGI on bjoern (C)",
        _hosted("bjoern", "wsgi"),
        ("bjoern",),
        "import bjoern",
        environment=_DATELESS,
        without=_WSGI_WS | _NO_TLS,
    ),
    Peer(
        "fastwsgi",
        "bare WSGI on fastwsgi (C)",
        _hosted("fastwsgi", "wsgi"),
        ("setuptools", "fastwsgi"),
        "import fastwsgi",
        without=_WSGI_WS | _NO_TLS,
    ),
    Peer("tornado", "tornado", _app("tornado_app"), ("tornado",), "import tornado.web"),
    Peer(
        "aiohttp",
        "aiohttp on uvloop",
        _app("aiohttp_app"),
        ("aiohttp", "uvloop"),
        "import aiohttp.web, uvloop",
    ),
    Peer(
        "uvicorn h11",
        "bare ASGI on uvicorn, h11 and asyncio",
        _uvicorn("asgi", "h11", "asyncio"),
        ("uvicorn", "h11", "websockets"),
        "import uvicorn, h11",
        tls=_TLS_UVICORN,
        without=_NO_FILES,
    ),
    Peer(
        "uvicorn",
        "bare ASGI on uvicorn, httptools and uvloop",
        _uvicorn("asgi", "httptools", "uvloop"),
        ("uvicorn", "httptools", "uvloop", "websockets"),
        "import uvicorn, httptools, uvloop",
        tls=_TLS_UVICORN,
        without=_NO_FILES,
    ),
    Peer(
        "starlette/uvicorn h11",
        "starlette on uvicorn, h11 and asyncio",
        _uvicorn("starlette_app", "h11", "asyncio"),
        ("starlette", "uvicorn", "h11", "websockets"),
        "import starlette.applications, uvicorn, h11",
        tls=_TLS_UVICORN,
    ),
    Peer(
        "starlette/uvicorn",
        "starlette on uvicorn, httptools and uvloop",
        _uvicorn("starlette_app", "httptools", "uvloop"),
        ("starlette", "uvicorn", "httptools", "uvloop", "websockets"),
        "import starlette.applications, uvicorn, httptools, uvloop",
        tls=_TLS_UVICORN,
    ),
    Peer(
        "hypercorn",
        "bare ASGI on hypercorn, uvloop",
        _words(
            f"{{python}} -m hypercorn {_module('asgi')}:app -b 127.0.0.1:{{port}} -w 1"
            " -k uvloop --keep-alive 300 --backlog 4096 --log-level WARNING"
        ),
        ("hypercorn", "uvloop"),
        "import hypercorn.asyncio, uvloop",
        tls=("--keyfile", "{key}", "--certfile", "{cert}"),
        without=_NO_FILES,
    ),
    Peer(
        "granian WSGI",
        "bare WSGI on granian (Rust)",
        _granian("wsgi", "wsgi", "--blocking-threads {threads}"),
        ("granian",),
        "import granian",
        tls=_TLS_GRANIAN,
        without=_WSGI_WS,
    ),
    Peer(
        "granian ASGI",
        "bare ASGI on granian (Rust), uvloop",
        _granian("asgi", "asgi", "--loop uvloop"),
        ("granian", "uvloop"),
        "import granian, uvloop",
        tls=_TLS_GRANIAN,
    ),
    Peer(
        "granian RSGI",
        "bare RSGI on granian (Rust), uvloop",
        _granian("rsgi", "rsgi", "--loop uvloop"),
        ("granian", "uvloop"),
        "import granian, uvloop",
        tls=_TLS_GRANIAN,
    ),
    Peer(
        "robyn",
        "robyn (Rust), one process with one worker",
        _app("robyn_app", "--processes", "1", "--workers", "1", "--log-level", "ERROR"),
        ("robyn",),
        "import robyn",
        without=_NO_TLS,
    ),
    Peer(
        "socketify",
        "socketify (C++)",
        _app("socketify_app"),
        ("socketify",),
        "import socketify",
    ),
    Peer(
        "websockets sync",
        "websockets, its threaded server",
        _app("websocket_echo", "sync"),
        ("websockets",),
        "import websockets.sync.server",
        without=_WS_ALONE,
    ),
    Peer(
        "websockets asyncio",
        "websockets, its asyncio server",
        _app("websocket_echo", "asyncio"),
        ("websockets",),
        "import websockets.asyncio.server",
        without=_WS_ALONE,
    ),
    Peer(
        "simple-websocket",
        "simple-websocket on werkzeug's threaded server",
        _app("websocket_echo", "simple"),
        ("simple-websocket", "werkzeug"),
        "import simple_websocket, werkzeug.serving",
        without=_WS_ALONE,
    ),
    Peer(
        "epoll loop",
        "fixed bytes by one epoll loop in Python: the ceiling for Python",
        _app("epoll"),
        without=_FIXED,
    ),
    Peer(
        "nginx",
        "nginx, one worker, all in its configuration: the ceiling",
        _app("nginx", "{nginx}", "{scratch}"),
        without=_without("nginx runs no program", "post", "slow", "ws")
        | _without("a script in Python starts it", "start"),
    ),
)

BY_NAME = {peer.name: peer for peer in PEERS}


def named(names: str) -> list[Peer]:
    """The peers of a comma-separated list; a name before a slash or blank stands for all of its.

    :raises ValueError: for a name that nobody has.
    """
    chosen: dict[str, Peer] = {}
    for name in names.split(","):
        found = [BY_NAME[name]] if name in BY_NAME else []
        found = found or [peer for peer in PEERS if peer.name.startswith((f"{name}/", f"{name} "))]
        if not found:
            raise ValueError(f"no peer {name!r}; there are {', '.join(BY_NAME)}")
        chosen.update((peer.name, peer) for peer in found)
    return list(chosen.values())

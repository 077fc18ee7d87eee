"""How a client reaches servers: TLS, proxies, UNIX sockets, and the pool of connections."""

from __future__ import annotations

import builtins
import re
import ssl
from http.client import HTTPException
from time import monotonic
from urllib.parse import unquote

import certifi
from urllib3.connection import ProxyConfig
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.exceptions import NewConnectionError, ProxyError
from urllib3.exceptions import SSLError as Urllib3SSLError
from urllib3.util.url import Url

from .connection import Connection, PlainConnection, TLSConnection, opened
from .errors import ClientError, ConnectError, TimeoutError, TLSError  # noqa: A004
from .pool import Pool
from .urls import parse_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    import socket
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from .connection import Held
    from .handle import RequestHandle
    from .timeouts import Timeout
    from .urls import Origin
    from .watchdog import Watchdog

    #: Of a client's certificate: a PEM file with both, or (certificate, key[, password]).
    Certificate: TypeAlias = (
        str | os.PathLike[str] | tuple[str | os.PathLike[str], ...] | ssl.SSLContext
    )
    Path: TypeAlias = str | os.PathLike[str]

_is_fingerprint = re.compile(r"[0-9a-f]{64}").fullmatch


def tls_context(
    ca: Path | bytes | None, cert: Certificate | None, fingerprint: str | None
) -> ssl.SSLContext:
    """Return what verifies servers: by certifi's authorities, those of `ca`, or a fingerprint.

    `ca` is a PEM file, a directory as OpenSSL wants it, or the PEM as bytes. Raises OSError for a
    file that cannot be read, ssl.SSLError for one that is no PEM.
    """
    from pathlib import Path

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if fingerprint is not None:
        # The fingerprint is compared after the handshake; whoever signed it says nothing.
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif isinstance(ca, bytes):
        context.load_verify_locations(cadata=ca.decode("ascii"))
    elif ca is None:
        context.load_verify_locations(certifi.where())
    elif Path(ca).is_dir():
        context.load_verify_locations(capath=ca)
    else:
        context.load_verify_locations(ca)
    if isinstance(cert, tuple):
        context.load_cert_chain(*cert)  # type: ignore[arg-type]
    elif cert is not None:
        context.load_cert_chain(cert)  # type: ignore[arg-type]
    return context


class Proxies:
    """Which proxy a request goes through.

    `given` is None for those of the environment (and of the system's settings), the URL of one for
    everything, or a mapping of "http", "https" and "all" to URLs, and "no" to hosts that are
    reached without. An empty mapping or text is none. Raises ValueError for a URL that is not a
    proxy's.
    """

    def __init__(self, given: Mapping[str, str] | str | None) -> None:
        from urllib.request import getproxies

        if given is None:
            found = getproxies()
        elif isinstance(given, str):
            found = {"all": given} if given else {}
        else:
            found = dict(given)
        self._environment = given is None
        self._no = {"no": found.get("no", "")}
        self._urls: dict[str, Url] = {}
        self._headers: dict[str, dict[str, str]] = {}
        for scheme in ("http", "https"):
            url = found.get(scheme) or found.get("all")
            if url:
                self._add(scheme, url if "://" in url else f"http://{url}")

    def _add(self, scheme: str, url: str) -> None:
        try:
            origin, _, user = parse_url(url)
        except ValueError as error:
            raise ValueError(f"a proxy's URL begins with http:// or https://: {error}") from None
        self._urls[scheme] = Url(origin.scheme, None, origin.host, origin.port)
        self._headers[scheme] = {}
        if user:
            from base64 import b64encode

            credentials = b64encode(unquote(user).encode()).decode()
            self._headers[scheme]["Proxy-Authorization"] = f"Basic {credentials}"

    def of(self, origin: Origin) -> tuple[Url, dict[str, str]] | None:
        """Return the proxy for an origin and the fields it wants, or None."""
        proxy = self._urls.get(origin.scheme)
        if proxy is None or origin.path or self._bypassed(origin):
            return None
        return proxy, self._headers[origin.scheme]

    def _bypassed(self, origin: Origin) -> bool:
        from urllib import request

        place = f"{origin.host}:{origin.port}"
        if self._environment:
            return bool(request.proxy_bypass(place))
        return bool(request.proxy_bypass_environment(place, self._no))  # type: ignore[attr-defined]


class Transport:
    """Opens connections, and keeps those that can be used again; any thread may use it."""

    def __init__(
        self,
        *,
        max_connections: int,
        proxies: Mapping[str, str] | str | None,
        ca: Path | bytes | None,
        cert: Certificate | None,
        fingerprint: str | None,
    ) -> None:
        if fingerprint is not None:
            fingerprint = fingerprint.replace(":", "").strip().lower()
            if not _is_fingerprint(fingerprint):
                raise ValueError(
                    "a fingerprint is the SHA-256 of the server's certificate: 64 hexadecimal"
                    " digits, with or without colons"
                )
        self._fingerprint = fingerprint
        self._context: ssl.SSLContext | None = None
        self._trust = (ca, cert)
        if ca is not None or cert is not None:
            # What cannot be read is told to the caller, not to the first request.
            self._context = tls_context(ca, cert, fingerprint)
        self._proxies = Proxies(proxies)
        self.pool = Pool(max_connections)

    @property
    def context(self) -> ssl.SSLContext:
        """What verifies servers; made when first asked for, as it takes a while."""
        if self._context is None:
            self._context = tls_context(*self._trust, self._fingerprint)
        return self._context

    def proxy_fields(self, origin: Origin) -> dict[str, str]:
        """Return the fields that a proxy wants with each request that it forwards."""
        found = self._proxies.of(origin)
        return {} if found is None else found[1]

    def open(
        self, origin: Origin, timeout: float | None, held: Held, *, through: bool = False
    ) -> Connection:
        """Return a new connection; `timeout` is for each of its steps.

        `held` is given what cuts it at each step. `through` asks a proxy for a tunnel even where it
        would forward requests. Raises ConnectError, TimeoutError and TLSError, of no request.
        """
        found = self._proxies.of(origin)
        link = self._link(origin, timeout, None if found is None else found[0])
        tunnel = None
        if found is not None and (through or origin.scheme == "https"):
            proxy, fields = found

            def tunnel() -> None:
                scheme = proxy.scheme or "http"
                link.set_tunnel(origin.host, origin.port, fields, scheme)

        try:
            opened(link, held, tunnel)
        except (OSError, HTTPException, Urllib3Error, ValueError) as error:
            failure = connect_error(error, origin, proxied=found is not None)
            raise failure from failure.cause
        return Connection(link, origin, forwarding=found is not None and tunnel is None)

    def open_within(
        self, timeout: float | None, origin: Origin, handle: RequestHandle, watchdog: Watchdog
    ) -> Connection:
        """Return a new connection for a handle, in `timeout` seconds (None for ever) in all.

        Raises as `open`, and Ended if the handle is ended meanwhile.
        """
        if origin.scheme == "https" and self._context is None:
            # Reading the authorities takes a while, which is not the server's.
            _ = self.context
        late = False
        current: Callable[[], object] | None = None

        def overdue() -> None:
            nonlocal late
            late = True
            if current is not None:
                current()

        def held(free: Callable[[], object] | None) -> None:
            nonlocal current
            handle.held(free)
            current = free
            if late and free is not None:
                raise builtins.TimeoutError

        alarm = None if timeout is None else watchdog.at(monotonic() + timeout, overdue)
        try:
            return self.open(origin, timeout, held)
        except ClientError as error:
            if late:
                message = f"no connection in {timeout:g} seconds"
                raise TimeoutError(message, cause=error.cause) from error.cause
            raise
        finally:
            if alarm is not None:
                alarm.off()

    def _link(
        self, origin: Origin, timeout: float | None, proxy: Url | None
    ) -> PlainConnection | TLSConnection:
        """Return what will be a connection to an origin, or to the proxy for it."""
        link: PlainConnection | TLSConnection
        host, port = (origin.host, origin.port) if proxy is None else (proxy.host, proxy.port)
        assert host is not None
        if origin.scheme == "http" and (proxy is None or proxy.scheme == "http"):
            link = PlainConnection(host, port, timeout=timeout, proxy=proxy)
        else:
            config = None
            if proxy is not None:
                config = ProxyConfig(self._proxy_context(proxy), False, None, None)
            link = TLSConnection(
                host,
                port,
                timeout=timeout,
                proxy=proxy,
                proxy_config=config,
                ssl_context=self.context,
                assert_fingerprint=self._fingerprint,
            )
        link.path = origin.path
        return link

    def _proxy_context(self, proxy: Url) -> ssl.SSLContext | None:
        """Return what verifies an HTTPS proxy: authorities, never the server's fingerprint."""
        return tls_context(self._trust[0], None, None) if proxy.scheme == "https" else None

    def connect(self, url: str, timeout: Timeout, held: Held = lambda free: None) -> socket.socket:
        """Return a socket connected to a URL's server, outside the pool, for another protocol.

        TLS is done, and so is the proxy's tunnel; `timeout.connect` is for each step, and the
        socket is left with it. `held` is given what another thread can cut it with at each step,
        and None at the end. Raises ConnectError, TimeoutError and TLSError.
        """
        scheme, separator, rest = url.partition("://")
        scheme = {"ws": "http", "wss": "https"}.get(scheme.lower(), scheme)
        origin, _, _ = parse_url(f"{scheme}{separator}{rest}")
        connection = self.open(origin, timeout.connect, held, through=True)
        sock: socket.socket = connection.sock
        return sock


def connect_error(
    error: BaseException, origin: Origin, *, proxied: bool
) -> ConnectError | TimeoutError | TLSError:
    """Return what a connection's failure is to the client."""
    place = origin.path or origin.authority
    if proxied:
        place = f"{place} through the proxy"
    cause: BaseException = error
    while isinstance(cause, ProxyError | NewConnectionError) and cause.__cause__ is not None:
        cause = cause.__cause__
    if isinstance(cause, builtins.TimeoutError):
        return TimeoutError(f"connecting to {place} took too long", cause=cause)
    if isinstance(cause, ssl.SSLError | Urllib3SSLError | ssl.CertificateError):
        return TLSError(f"no trusted connection to {place}", cause=cause)
    return ConnectError(f"cannot connect to {place}", cause=cause)

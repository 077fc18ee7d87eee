"""How a client reaches servers: TLS, proxies, UNIX sockets, and the pool of connections."""

from __future__ import annotations

import builtins
import re
import ssl
from http.client import HTTPException
from urllib.parse import unquote

import certifi
from urllib3.connection import ProxyConfig
from urllib3.exceptions import HTTPError as Urllib3Error
from urllib3.exceptions import NewConnectionError, ProxyError
from urllib3.exceptions import SSLError as Urllib3SSLError
from urllib3.util.url import Url

from .connection import Connection, PlainConnection, TLSConnection, opened
from .errors import ConnectError, TimeoutError, TLSError  # noqa: A004
from .pool import Pool
from .urls import parse_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    import socket
    from collections.abc import Mapping
    from ipaddress import IPv4Network, IPv6Network
    from typing import TypeAlias

    from .connection import Held
    from .timeouts import Timeout
    from .urls import Origin

    #: Of a client's certificate: a PEM file with both, or (certificate, key[, password]).
    Certificate: TypeAlias = str | os.PathLike[str] | tuple[str | os.PathLike[str], ...]
    Network: TypeAlias = IPv4Network | IPv6Network
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
        context.load_cert_chain(cert)
    return context


class Proxies:
    """Which proxy a request goes through.

    `given` is None for those of the environment (and of the system's settings), the URL of one for
    everything, or a mapping of "http", "https" and "all" to URLs, and "no" to hosts, domains and
    networks (10.0.0.0/8) that are reached without. An empty mapping or text is none. Raises
    ValueError for a URL that is not a proxy's; for one of the environment, which may be meant for
    others, it is raised when the proxy is needed.
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
        self._networks = _networks(self._no["no"])
        self._urls: dict[str, Url] = {}
        self._headers: dict[str, dict[str, str]] = {}
        self._unusable: dict[str, ValueError] = {}
        for scheme in ("http", "https"):
            url = found.get(scheme) or found.get("all")
            if not url:
                continue
            try:
                self._add(scheme, url if "://" in url else f"http://{url}")
            except ValueError as error:
                if not self._environment:
                    raise
                self._unusable[scheme] = error

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
        scheme = origin.scheme
        if not (scheme in self._urls or scheme in self._unusable):
            return None
        if origin.path or self._bypassed(origin):
            return None
        if scheme in self._unusable:
            raise self._unusable[scheme].with_traceback(None)
        return self._urls[scheme], self._headers[scheme]

    def _bypassed(self, origin: Origin) -> bool:
        from urllib import request

        if self._networks and _is_in(origin.host, self._networks):
            return True
        place = f"{origin.host}:{origin.port}"
        if self._environment:
            return bool(request.proxy_bypass(place))
        return bool(request.proxy_bypass_environment(place, self._no))  # type: ignore[attr-defined]


def _networks(no: str) -> list[Network]:
    """Return the networks in a list of what is reached without a proxy."""
    from ipaddress import ip_network

    found: list[Network] = []
    for each in no.split(","):
        if "/" in each:
            try:
                found.append(ip_network(each.strip(), strict=False))
            except ValueError:
                continue  # not ours to judge: others read the same variable
    return found


def _is_in(host: str, networks: list[Network]) -> bool:
    from ipaddress import ip_address

    try:
        address = ip_address(host)
    except ValueError:
        return False
    return any(address in network for network in networks)


class Transport:
    """Opens connections, and keeps those that can be used again; any thread may use it.

    `home` is the client's own server, the only one that is shown its certificate.
    """

    def __init__(
        self,
        home: Origin,
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
        self._home = home
        self._fingerprint = fingerprint
        self._context: ssl.SSLContext | None = None
        self._context_of_others: ssl.SSLContext | None = None
        self._trust = (ca, cert)
        if ca is not None or cert is not None:
            # What cannot be read is told to the caller, not to the first request.
            self._context = tls_context(ca, cert, fingerprint)
        self._proxies = Proxies(proxies)
        self.pool = Pool(max_connections)

    def context(self, origin: Origin) -> ssl.SSLContext:
        """Return what verifies a server; made when first asked for, as it takes a while."""
        ca, cert = self._trust
        if cert is not None and origin != self._home:
            if self._context_of_others is None:
                self._context_of_others = tls_context(ca, None, self._fingerprint)
            return self._context_of_others
        if self._context is None:
            self._context = tls_context(ca, cert, self._fingerprint)
        return self._context

    def proxy_fields(self, origin: Origin) -> dict[str, str]:
        """Return the fields that a proxy wants with each request that it forwards."""
        found = self._proxy(origin)
        return {} if found is None else found[1]

    def _proxy(self, origin: Origin) -> tuple[Url, dict[str, str]] | None:
        try:
            return self._proxies.of(origin)
        except ValueError as error:
            raise ConnectError(
                "the proxy of the environment cannot be used", cause=error
            ) from error

    def open(
        self, origin: Origin, timeout: float | None, held: Held, *, through: bool = False
    ) -> Connection:
        """Return a new connection; `timeout` is for each of its steps.

        `held` is given what cuts it at each step. `through` asks a proxy for a tunnel even where it
        would forward requests. Raises ConnectError, TimeoutError and TLSError, of no request.
        """
        found = self._proxy(origin)
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

    def prepare(self, origin: Origin) -> None:
        """Read the authorities, if an origin needs them: that takes a while, not the server's."""
        if origin.scheme == "https":
            self.context(origin)

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
                ssl_context=self.context(origin),
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

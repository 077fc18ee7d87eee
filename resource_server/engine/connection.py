"""One client's connection, as the loop drives it from state to state (see ``state.py``).

Only the thread that leads the loop changes the state. While that is WORKING, only the thread that
runs the handler touches the socket and the protocol, but for ``abandon``, which cuts it off.
``on_event`` returns whether the caller still leads: it runs quick handlers itself, and
may find afterwards that a standby has taken over (see ``loop.py``).
"""

from __future__ import annotations

import logging
import math
import selectors
import socket
from time import perf_counter

from ..errors import (
    ContentTooLarge,
    HTTPError,
    InternalServerError,
    RequestTimeout,
    ServiceUnavailable,
)
from ..protocol.http1 import DONE
from ..response import error_response
from .body import CollectedBody
from .coding import open_body, refused_coding
from .endpoint import Refusal, learn
from .exchange import close_response, failed_response
from .feed import Feeding
from .state import State
from .tls import TLSSocket
from .wire import RECEIVE_SIZE

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..request import Request
    from ..response import Response
    from .endpoint import Endpoint
    from .feed import Feed
    from .loop import Loop

log = logging.getLogger("resource_server")

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

#: Statuses that are given without asking a handler because the request is in doubt (a malformed
#: path, an unknown method): nothing behind such a request is read.
_UNTRUSTED = frozenset([400, 501])


# Looking a member up on its class costs more than a global, and these are read for every event.
READING, WORKING = State.READING, State.WORKING


class Connection(Feeding):
    """A client's connection in a loop.

    :param client_address: host and port.
    :param server_address: host and port that it reached.
    """

    __slots__ = (
        "_interest",
        "_partial",
        "_received",
        "server_address",
        "state",
    )

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket | TLSSocket,
        client_address: tuple[str, int],
        server_address: tuple[str, int],
    ) -> None:
        super().__init__(loop, sock, client_address)
        self.server_address = server_address
        self.state = READING
        self.deadline = loop.now + loop.limits.head
        self._interest = 0
        # whether the beginning of a head has been received
        self._partial = False
        # whether something has been received that was not looked at yet
        self._received = False

    # -- the leader: events ----------------------------------------------------------------

    def open(self) -> None:
        """Begin: wait for the handshake, or for a request."""
        if isinstance(self.sock, TLSSocket):
            self.state = State.HANDSHAKE
            self.deadline = self.loop.now + self.limits.handshake
        self._watch(_READ)

    def turn_away(self, refusal: bytes) -> None:
        """Begin with the end: tell the client ``refusal``, and close."""
        self.http.refuse()
        try:
            self.sock.send(refusal)
        except OSError:
            self.close()
            return
        self._begin_closing()

    def on_event(self, mask: int) -> bool:
        """Go on, as the socket is ready (``mask``) or it is this connection's turn (0).

        :returns: whether the calling thread still leads.
        """
        state = self.state
        if state is READING:
            if not self._received:
                self.receive()
                if not self._received:
                    return True
            self._received = False
            return self._serve()
        if state is WORKING:
            if mask:
                # Its owner will look by itself; until then it would report the same again and
                # again.
                self._watch(0)
                return True
            return self._settle()
        if state is State.RESUMING:
            if mask:
                return True
            if self.body is not None:
                self.state = State.COLLECTING
                return self._take_body()
            self.state = READING
            return self._serve()
        if state is State.COLLECTING:
            return self._receive_body()
        if state is State.WRITING:
            return self._write()
        if state is State.FEEDING:
            return self._feed_on(mask)
        if state is State.CLOSING:
            self._discard()
        elif state is State.HANDSHAKE:
            return self._shake_hands()
        elif not mask:
            # Closed while a handler was at work, who gives it back now.
            self.release()
        return True

    def receive(self) -> None:
        """Read what has come, if a request is awaited; it is served when `on_event` is called."""
        if self.state is not READING:
            return
        try:
            data = self.sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            self._blocked()
            return
        except OSError:
            data = b""
        if data:
            self.http.receive(data)
            self._received = True
        else:
            # Nothing was under way, or a head that will never be complete.
            self.close()

    def on_wake(self, feed: Feed) -> bool:
        """Go on with a response, if that is still what ``feed`` feeds.

        :returns: whether the calling thread still leads.
        """
        if self._feed is feed and self.state is State.FEEDING:
            return self._feed_on(0)
        return True

    def _shake_hands(self) -> bool:
        assert isinstance(self.sock, TLSSocket)
        try:
            self.sock.handshake()
        except BlockingIOError:
            self._watch(self.sock.wants)
        except (OSError, ValueError) as error:
            # Plain HTTP, a scan, a client that does not trust the certificate: daily life.
            log.debug("TLS handshake with %s failed: %s", self.client_address[0], error)
            self.close()
        else:
            self.state = READING
            self.deadline = self.loop.now + self.limits.head
            self._watch(_READ)
            if self.loop.stopping:
                # Idle from now on, as far as a stop is concerned.
                self.stop()
            # OpenSSL may hold a request already, which makes no socket readable.
            return self.on_event(_READ)
        return True

    def _blocked(self) -> bool:
        # There was nothing after all; or TLS has to write before it can read.
        if isinstance(self.sock, TLSSocket):
            self._watch(self.sock.wants)
        return True

    def _serve(self) -> bool:
        """Answer the next request if its head is complete."""
        http = self.http
        try:
            request = http.next_request(self.client_address)
        except HTTPError as error:
            return self._refuse(error)
        if request is None:
            if not self._partial and http.buffered:
                self._partial = True
                self.deadline = self.loop.now + self.limits.head
            if self.loop.stopping:
                # The wish may have come when this was about to be looked at.
                self.stop()
            return True
        self._partial = False
        loop = self.loop
        if loop.tls is not None:
            request.scheme = "https"
        request.server_address = self.server_address
        endpoint = loop.resolve(request)
        refusal = endpoint.error
        if refusal is not None and refusal.status_code in _UNTRUSTED:
            http.refuse()
            return self._run(request, endpoint)
        if http.reading is DONE:
            return self._run(request, endpoint)
        return self._begin_body(request, endpoint)

    def _refuse(self, error: HTTPError, request: Request | None = None) -> bool:
        """Answer what broke a rule of the protocol, and close."""
        self._drop_body()
        self.http.refuse()
        accept = request.headers.get("accept") if request is not None else "text/plain"
        self.state = WORKING
        self._deliver(request, None, error_response(error, accept), perf_counter())
        return self._settle()

    # -- the leader: bodies ----------------------------------------------------------------

    def _begin_body(self, request: Request, endpoint: Endpoint) -> bool:
        http = self.http
        framing = http.framing
        length = framing.length
        if endpoint.error is not None:
            # A small body is read and dropped, which keeps the connection; otherwise the answer
            # does not wait, and the connection ends with it.
            if http.expects_continue or length is None or length > self.limits.body_memory:
                return self._run(request, endpoint)
        elif length is not None and length > endpoint.max_content_length:
            error = ContentTooLarge(f"The body is longer than {endpoint.max_content_length} bytes.")
            return self._run(request, Refusal(endpoint, error))
        else:
            if framing.encoded:
                refused = refused_coding(request, endpoint)
                if refused is not None:
                    return self._run(request, Refusal(endpoint, refused))
            elif (
                length is not None
                and length <= self.limits.body_memory
                and not (endpoint.stream or endpoint.progress)
                and (content := http.whole_body()) is not None
            ):
                # All of it has come with the head: nothing has to be kept until the rest does,
                # which takes 3 µs.
                request.hold(content)
                return self._run(request, endpoint)
            if endpoint.progress is not None:
                request.exchange = self
                # Before anybody else knows of the request, and may ask.
                request.incoming = None
                endpoint.progress.begin(request)
            return self._accept_body(request, endpoint)
        return self._collect(request, endpoint)

    def _accept_body(self, request: Request, endpoint: Endpoint) -> bool:
        if self.http.expects_continue and endpoint.expect is not None:
            request.exchange = self
            return self._hand_over(request, endpoint, self.ask)
        if endpoint.stream:
            return self._run(request, endpoint)
        return self._collect(request, endpoint)

    def _collect(self, request: Request, endpoint: Endpoint) -> bool:
        limit = endpoint.max_content_length
        if endpoint.error is not None:
            limit = self.limits.body_memory
        self.state = State.COLLECTING
        self._request, self._endpoint = request, endpoint
        request.incoming = self.body = CollectedBody(self.loop.storage, limit, self.loop.now)
        if self.http.expects_continue:
            # Into the empty buffer of a client that waits: the socket takes it, or is dead.
            try:
                self.sock.send(self.http.continue_())
            except OSError:
                self.close()
                return True
        return self._take_body()

    def _receive_body(self) -> bool:
        try:
            data = self.sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return self._blocked()
        except OSError:
            data = b""
        if not data:
            # RFC 9112 §8: an incomplete request; nobody is there to be told.
            self.close()
            return True
        self.http.receive(data)
        return self._take_body()

    def _take_body(self) -> bool:
        """Keep what has arrived of the body; run the handler when it is complete."""
        http, body, request, endpoint = self.http, self.body, self._request, self._endpoint
        assert body is not None
        assert request is not None
        assert endpoint is not None
        try:
            body.write(http.read_body())
        except (ContentTooLarge, ServiceUnavailable) as error:
            self._drop_body()
            http.refuse()
            return self._run(request, Refusal(endpoint, error))
        except HTTPError as error:
            return self._refuse(error, request)
        except OSError as error:
            log.error("A request's body could not be stored: %s", error)
            return self._refuse(InternalServerError(), request)
        if not http.body_complete:
            # Silence is bounded, and so is dripping.
            limits = self.limits
            slowest = body.started + limits.body_idle + body.size / limits.body_rate
            self.deadline = min(self.loop.now + limits.body_idle, slowest)
            self._watch(_READ)
            if http.paused:
                self._resume()
            return True
        if http.trailers is not None:
            request.trailers = http.trailers
        request.stream = open_body(request, endpoint, body.open())
        self._request = self._endpoint = None
        return self._run(request, endpoint)

    # -- the leader: handlers --------------------------------------------------------------

    def _run(self, request: Request, endpoint: Endpoint) -> bool:
        """Run the handler here if it is quick, else have a worker run it."""
        loop = self.loop
        request.exchange = self
        blocking = endpoint.blocking
        if (endpoint.slow if blocking is None else blocking) or endpoint.stream or not loop.inline:
            return self._hand_over(request, endpoint, self.work)
        self.state = WORKING
        # Foreign code: if it takes long, the standby takes the lead up.
        started = loop.lay_down(endpoint)
        # As `_call` does, without the call.
        try:
            response = endpoint(request)
        except BaseException:  # noqa: BLE001 - SystemExit and MemoryError included
            response = failed_response()
        leads = loop.take_up()
        learn(endpoint, perf_counter() - started)
        if not leads:
            self.finish(request, endpoint, response, started)
            return False
        if response.body is None and (response.iterator is not None or response.source is not None):
            # Foreign code again, and maybe for hours.
            return self._hand_over(
                request,
                endpoint,
                lambda: self.finish(request, endpoint, response, started),
                response,
            )
        if self._deliver(request, endpoint, response, started, gathered=True):
            return True
        if self._file is not None and self._output is None and not self.broken:
            return self._pump()
        return self._settle()

    def _hand_over(
        self,
        request: Request,
        endpoint: Endpoint,
        job: Callable[[], None],
        response: Response | None = None,
    ) -> bool:
        """Have a worker do ``job``, which is to send ``response`` if there is one already."""
        self.state = WORKING
        self._request, self._endpoint = request, endpoint
        try:
            self.loop.crew.submit(job)
        except RuntimeError as error:
            log.error("No thread could be started for a request: %s", error)
            if response is not None:
                close_response(response)
            return self._refuse(InternalServerError(), request)
        return True

    def send_response(self, data: bytes) -> None:
        """Send a response that was gathered with others, and go on."""
        # Not by `_try_send`, nor first to `_settle`, as nearly all are taken whole: 0.5 µs.
        try:
            taken = self.sock.send(data)
        except BlockingIOError:
            taken = 0
        except OSError as error:
            taken = 0
            self._lose(error)
        if taken == len(data):
            self._go_on()
        else:
            self._output = memoryview(data)[taken:]
            self._settle()

    def _settle(self) -> bool:
        """Decide what comes next, with the response on its way and the connection the loop's."""
        if self.broken:
            self.drop()
            return True
        if self._feed is not None:
            self.state = State.FEEDING
            self.deadline = self.loop.now + self.limits.write
            return self._begin_feeding()
        if self._output is not None or self._file is not None:
            self.state = State.WRITING
            self.deadline = self.loop.now + self.limits.write
            self._watch(_WRITE)
            return True
        if self._websocket is not None:
            return self._change_protocol()
        if self._request is not None:
            # The worker was only asked whether the body is wanted.
            assert self._endpoint is not None
            return self._collect(self._request, self._endpoint)
        return self._go_on()

    def _go_on(self) -> bool:
        """Wait for the next request, or close, as a response is complete."""
        http, loop = self.http, self.loop
        if not http.keep_alive:
            self._begin_closing()
            return True
        self.deadline = loop.now + self.limits.keep_alive
        if self._interest != _READ:
            self._watch(_READ)
        if http.buffered:
            # Pipelined; the others get their turn first.
            self._resume()
            return True
        self.state = READING
        if loop.stopping:
            # The wish came behind the head of the response: this is idle like others then.
            self.stop()
        return True

    def _resume(self) -> None:
        self.state = State.RESUMING
        self.loop.resume(self)

    def _change_protocol(self) -> bool:
        """Let a WebSocket have the socket, as the response that opens it has been sent."""
        websocket, self._websocket = self._websocket, None
        assert websocket is not None
        self._watch(0)
        self.state = State.CLOSED
        self.deadline = math.inf
        self.loop.forget(self)
        try:
            return websocket.enter()
        except BaseException:
            websocket.drop()
            raise

    # -- the leader: output ----------------------------------------------------------------

    def _write(self) -> bool:
        if self._output is None:
            return self._pump()
        left = len(self._output)
        try:
            self._output = self._try_send(self._output)
        except OSError as error:
            self._lose(error)
        if self._output is not None and len(self._output) == left and not self.broken:
            # Nothing was taken, so the deadline stays. TLS may have to read before it writes.
            if isinstance(self.sock, TLSSocket):
                self._watch(self.sock.wants)
            return True
        return self._settle()

    def _pump(self) -> bool:
        """Send the next pieces of a file, which may be slow to read, or the application's object.

        They are bounded, and who waits on a disk does not lead: one download starves nobody.
        """
        self.state = WORKING
        self.loop.lay_down(None)
        self.pump()
        if self.loop.take_up():
            return self._settle()
        self._give_back()
        return False

    # -- the leader: ends ------------------------------------------------------------------

    def expire(self) -> None:
        """The deadline has passed: tell a client that is slow, leave one that is idle or stuck."""
        state = self.state
        if state is WORKING:
            # A handler may take its time; whoever gives the connection back sets a deadline.
            self.deadline = math.inf
        elif (state is READING and self._partial) or state is State.COLLECTING:
            self._refuse(RequestTimeout("The request came too slowly."), self._request)
        elif state is State.FEEDING:
            self._keep_alive()
        elif state is READING and self._poll(_READ, 0.0):
            # Something has just come, and is about to be read: a request, or the client's end.
            self.deadline = self.loop.now + self.limits.head
        else:
            self.close()

    def stop(self) -> None:
        """Close unless something is under way that a client waits for, or is to be expected."""
        if self._received:
            # A request has come, which is served in a moment.
            return
        if self.state in (READING, State.HANDSHAKE):
            patience = self.loop.idle_until
            if patience <= self.loop.now:
                self.close()
            elif self.state is READING and not self._partial:
                self.deadline = min(self.deadline, patience)
        elif self.state is State.FEEDING:
            self._end_source()

    def _begin_closing(self) -> None:
        """Close so that the client surely reads the response (RFC 9112 §9.6)."""
        if self.http.client_closes and not isinstance(self.sock, TLSSocket):
            # It has said that it sends nothing more, so no unread byte can reset the connection.
            self.close()
            return
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self.state = State.CLOSING
        self.deadline = self.loop.now + self.limits.closing
        self._watch(_READ)

    def _discard(self) -> None:
        # Closing with unread bytes would reset the connection, and the response with it.
        sock = self.sock
        receive = sock.discard if isinstance(sock, TLSSocket) else sock.recv
        try:
            if receive(RECEIVE_SIZE):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        """End it now, whatever is under way; a handler that is at work is cut off."""
        if self.state is State.CLOSED:
            return
        self._watch(0)
        working = self.state is WORKING
        self.state = State.CLOSED
        self.deadline = math.inf
        self.loop.forget(self)
        if working:
            # What it holds is let go of when the handler's thread gives it back.
            self.abandon()
        else:
            self.release()

    def cut_off(self) -> None:
        """End it now."""
        self.close()

    def drop(self) -> None:
        """End a connection that is the leader's, although its state may still be WORKING."""
        self.state = State.CLOSING
        self.close()

    def _watch(self, events: int) -> None:
        """Have the selector report these events of the socket, and no others."""
        if events != self._interest:
            self.loop.watch(self, self._interest, events)
            self._interest = events

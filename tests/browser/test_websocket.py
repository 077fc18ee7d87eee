"""WebSockets as the JavaScript of a page has them (the WHATWG's WebSockets Standard)."""

from __future__ import annotations

import ssl
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from resource_server import (
    Forbidden,
    HTMLResponse,
    Request,
    Resource,
    Response,
    WebSocketClosed,
    WebSocketGroup,
    WebSocketOpCode,
    WebSocketRequest,
    WebSocketSession,
    get,
    websocket,
    websocket_session,
)

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

    from tests.conftest import Serve

pytestmark = pytest.mark.browser

#: Seconds until what is waited for has to be there.
PATIENCE = 30.0
MIB = 1_048_576

# What scripts use: a WebSocket whose events are taken one by one, `await talk.next()`.
PAGE = """<!doctype html>
<meta charset="utf-8">
<title>WebSocket</title>
<link rel="icon" href="data:,">
<script>
class Talk {
  constructor(path, protocols = [], origin = location.origin) {
    this.events = [];
    this.socket = new WebSocket(origin.replace("http", "ws") + path, protocols);
    this.socket.binaryType = "arraybuffer";
    for (const type of ["open", "message", "error", "close"]) {
      this.socket.addEventListener(type, (event) => {
        this.events.push(event);
        this.wake?.();
      });
    }
  }
  async next() {
    while (!this.events.length) {
      await new Promise((wake) => { this.wake = wake; });
    }
    return this.events.shift();
  }
  async message(sent) {
    if (sent !== undefined) this.socket.send(sent);
    const event = await this.next();
    if (event.type !== "message") throw new Error(`${event.type} ${event.code} ${event.reason}`);
    return event.data;
  }
  async closed() {
    const { type, code, reason, wasClean } = await this.next();
    return [type, code, reason, wasClean];
  }
}
async function opened(path, protocols) {
  const talk = new Talk(path, protocols);
  const { type } = await talk.next();
  if (type !== "open") throw new Error(type);
  return talk;
}
async function refused(path, protocols, origin) {
  const talk = new Talk(path, protocols, origin);
  const { type } = await talk.next();
  return [type, ...await talk.closed()];
}
</script>
"""

#: What a page is told of a WebSocket that was never open, whatever the reason.
REFUSED = ["error", "close", 1006, "", False]


class End(NamedTuple):
    """What a handler is told at the end."""

    code: int | None
    reason: str


class Sockets(Resource):
    """A page, and WebSockets for it."""

    def __init__(self) -> None:
        self.heard: SimpleQueue[Any] = SimpleQueue()
        self.group = WebSocketGroup()

    @get("/")
    def page(self, request: Request) -> Response:
        return HTMLResponse(PAGE)

    @websocket("/echo", subprotocols=["chat.v2", "chat.v1"])
    def echo(self, request: WebSocketRequest, opcode: int, payload: str | bytes) -> None:
        if opcode in (WebSocketOpCode.Text, WebSocketOpCode.Binary):
            request.send(payload)
        elif opcode == WebSocketOpCode.Close:
            self.heard.put(End(request.close_code, request.close_reason))

    @websocket("/plain", compression=False)
    def plain(self, request: WebSocketRequest, opcode: int, payload: str | bytes) -> None:
        self.echo(request, opcode, payload)

    @websocket("/pinging", pings=True)
    def pinging(self, request: WebSocketRequest, opcode: int, payload: str | bytes) -> None:
        if opcode == WebSocketOpCode.Open:
            request.ping(b"are you there?")
        elif opcode == WebSocketOpCode.Pong:
            assert isinstance(payload, bytes)
            request.send(payload.decode())

    @websocket("/told")
    def told(self, request: WebSocketRequest, opcode: int, payload: str | bytes) -> None:
        """Close as the client says: "code reason"."""
        if opcode == WebSocketOpCode.Text:
            assert isinstance(payload, str)
            code, _, reason = payload.partition(" ")
            request.close(int(code) or None, reason)
        elif opcode == WebSocketOpCode.Close:
            self.heard.put(End(request.close_code, request.close_reason))

    @websocket("/crowd")
    def crowd(self, request: WebSocketRequest, opcode: int, payload: str | bytes) -> None:
        if opcode == WebSocketOpCode.Open:
            self.group.add(request)
            self.heard.put(request)

    @websocket("/failing")
    def failing(self, request: WebSocketRequest, opcode: int, payload: str | bytes) -> None:
        if opcode == WebSocketOpCode.Text:
            raise RuntimeError("a defect of the handler")

    @websocket("/forbidden", check=lambda request: False)
    def forbidden(self, request: WebSocketRequest, opcode: int, payload: str | bytes) -> None:
        self.heard.put(opcode)

    @websocket("/refusing")
    def refusing(self, request: WebSocketRequest, opcode: int, payload: str | bytes) -> None:
        if opcode == WebSocketOpCode.Open:
            raise Forbidden

    @websocket("/open-to-all", origins="*")
    def open_to_all(self, request: WebSocketRequest, opcode: int, payload: str | bytes) -> None:
        self.echo(request, opcode, payload)

    @websocket_session("/sum")
    def sum(self, socket: WebSocketSession) -> None:
        """Add up the numbers that come, until an empty message asks for the sum."""
        total = 0
        try:
            while number := socket.receive():
                total += int(number)
        except WebSocketClosed as closed:
            self.heard.put(End(closed.code, closed.reason))
        else:
            socket.send(str(total))


class Page:
    """The page, in a browser."""

    def __init__(
        self, browser: Chrome, serve: Serve, sockets: Sockets, tls: ssl.SSLContext | None
    ) -> None:
        self.browser = browser
        self.sockets = sockets
        self.tls = tls
        self.server = serve(sockets, tls=tls)
        browser.set_script_timeout(PATIENCE)
        browser.get(self.server.url + "/")

    def run(self, script: str, *arguments: object) -> Any:
        """Run the body of an asynchronous function of `a, b`; what it throws fails the test."""
        done = """
            const [a, b, done] = [arguments[0], arguments[1], arguments[arguments.length - 1]];
            const answer = (async () => {%s})();
            answer.then((result) => done([result, ""]), (error) => done([null, `${error}`]));
        """
        result, error = self.browser.execute_async_script(done % script, *arguments)
        assert error == ""
        return result

    def heard(self) -> Any:
        """The next thing that a handler has heard."""
        return self.sockets.heard.get(timeout=PATIENCE)

    def errors(self) -> list[str]:
        """What the browser complained of."""
        browser: Any = self.browser
        return [entry["message"] for entry in browser.get_log("browser")]


@pytest.fixture
def sockets() -> Sockets:
    return Sockets()


@pytest.fixture(params=["http", "https"])
def page(request: pytest.FixtureRequest, serve: Serve, sockets: Sockets, browser: Chrome) -> Page:
    context = None
    if request.param == "https":
        import trustme

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return Page(browser, serve, sockets, context)


def test_text_comes_back_as_it_was_sent(page: Page) -> None:
    texts = ["Hello", "", "Grüße, 世界 🌍", "\0", "x" * 125, "x" * 126, "x" * 65536]
    script = """
        const talk = await opened("/echo");
        const answers = [];
        for (const text of a) answers.push(await talk.message(text));
        return answers;
    """
    assert page.run(script, texts) == texts
    assert page.errors() == []


def test_binary_comes_back_from_whatever_it_was_sent(page: Page) -> None:
    script = """
        const talk = await opened("/echo");
        const bytes = Uint8Array.from({ length: 256 }, (_, number) => number);
        const sent = [bytes.buffer, bytes.subarray(3, 7), new DataView(bytes.buffer, 250),
          new Blob([bytes, bytes]), new ArrayBuffer(0)];
        const answers = [];
        for (const data of sent) {
          answers.push([...new Uint8Array(await talk.message(data))]);
        }
        talk.socket.binaryType = "blob";
        const blob = await talk.message(bytes);
        answers.push([...new Uint8Array(await blob.arrayBuffer())]);
        return answers;
    """
    every = list(range(256))
    assert page.run(script) == [every, every[3:7], every[250:], every * 2, [], every]
    assert page.errors() == []


@pytest.mark.parametrize("path", ["/echo", "/plain"])
def test_a_mebibyte_comes_back(page: Page, path: str) -> None:
    script = """
        const talk = await opened(a);
        const noise = new Uint8Array(b);
        for (let start = 0; start < b; start += 65536) {
          crypto.getRandomValues(noise.subarray(start, start + 65536));
        }
        const echo = new Uint8Array(await talk.message(noise));
        if (echo.length !== b || echo.some((byte, index) => byte !== noise[index])) {
          throw new Error("the bytes differ");
        }
        const text = "0123456789abcdef".repeat(b / 16);
        return await talk.message(text) === text;
    """
    assert page.run(script, path, MIB) is True
    assert page.errors() == []


@pytest.mark.parametrize("path", ["/echo", "/plain"])
def test_a_larger_message_closes_with_1009(page: Page, path: str) -> None:
    script = """
        const talk = await opened(a);
        talk.socket.send("x".repeat(b + 1));
        return talk.closed();
    """
    kind, code, reason, clean = page.run(script, path, MIB)
    assert (kind, code, clean) == ("close", 1009, True)
    assert reason
    assert page.heard().code == 1009


def test_many_messages_stay_in_order(page: Page) -> None:
    script = """
        const talk = await opened("/echo");
        for (let number = 0; number < a; number++) {
          talk.socket.send(`${number} ${"x".repeat(number % 997)}`);
        }
        for (let number = 0; number < a; number++) {
          const answer = await talk.message();
          if (parseInt(answer) !== number) throw new Error(answer);
        }
        return talk.socket.bufferedAmount;
    """
    assert page.run(script, 5000) == 0


def test_compression_is_agreed_on_unless_the_route_has_none(page: Page) -> None:
    script = """
        const talk = await opened(a);
        const sent = "The same again and again. ".repeat(100);
        for (let number = 0; number < 10; number++) {
          if (await talk.message(sent) !== sent) throw new Error("it differs");
        }
        return talk.socket.extensions;
    """
    assert page.run(script, "/echo").startswith("permessage-deflate")
    assert page.run(script, "/plain") == ""
    assert page.errors() == []


def test_the_subprotocol_is_the_one_that_the_server_prefers(page: Page) -> None:
    script = "return (await opened('/echo', a)).socket.protocol"
    assert page.run(script, ["chat.v1", "chat.v2", "chat.v3"]) == "chat.v2"
    assert page.run(script, "chat.v1") == "chat.v1"
    assert page.run(script, []) == ""


def test_a_page_whose_subprotocols_are_unknown_gives_up(page: Page) -> None:
    # The server tells none; it is the browser that insists.
    assert page.run("return refused('/echo', ['other'])") == REFUSED
    assert page.heard().code == 1006


@pytest.mark.parametrize(
    ("code", "reason"), [(1000, ""), (3000, "bye"), (4999, "ä" * 61 + "!"), (1000, "done 🌍")]
)
def test_a_handler_is_told_why_the_page_closes(page: Page, code: int, reason: str) -> None:
    script = """
        const talk = await opened("/echo");
        talk.socket.close(a, b);
        return talk.closed();
    """
    kind, told, _, clean = page.run(script, code, reason)
    assert (kind, told, clean) == ("close", code, True)
    assert page.heard() == End(code, reason)


def test_a_page_may_close_without_a_code(page: Page) -> None:
    script = """
        const talk = await opened("/echo");
        talk.socket.close();
        return talk.closed();
    """
    assert page.run(script) == ["close", 1005, "", True]
    assert page.heard() == End(1005, "")


def test_a_handler_is_told_that_the_page_is_gone(page: Page) -> None:
    page.run("window.kept = await opened('/echo')")
    page.browser.switch_to.new_window("tab")
    page.browser.switch_to.window(page.browser.window_handles[0])
    page.browser.close()
    assert page.heard() in (End(1001, ""), End(1006, ""))
    page.browser.switch_to.window(page.browser.window_handles[0])


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1008, 1011, 1012, 1013, 3000, 4999])
def test_a_page_is_told_why_the_handler_closes(page: Page, code: int) -> None:
    script = """
        const talk = await opened("/told");
        talk.socket.send(`${a} ${b}`);
        return talk.closed();
    """
    assert page.run(script, code, "so schön 🌍") == ["close", code, "so schön 🌍", True]
    assert page.heard().code == code


def test_a_handler_may_close_without_a_code(page: Page) -> None:
    script = """
        const talk = await opened("/told");
        talk.socket.send("0");
        return talk.closed();
    """
    assert page.run(script) == ["close", 1005, "", True]


def test_what_was_sent_before_closing_arrives(page: Page) -> None:
    page.run("window.talk = await opened('/crowd')")
    request = page.heard()
    request.send("x" * MIB)
    request.send("the last")
    request.close(4000, "enough")
    script = """
        return [(await talk.message()).length, await talk.message(), await talk.closed()];
    """
    assert page.run(script) == [MIB, "the last", ["close", 4000, "enough", True]]


def test_any_thread_may_close_at_any_time(page: Page) -> None:
    page.run("window.talk = await opened('/crowd')")
    request = page.heard()
    assert not request.closed
    request.close(4001, "time is up")
    assert page.run("return talk.closed()") == ["close", 4001, "time is up", True]
    assert request.closed


def test_a_group_reaches_every_page(page: Page) -> None:
    page.run("window.talks = await Promise.all(a.map((path) => opened(path)))", ["/crowd"] * 20)
    for _ in range(20):
        page.heard()
    assert page.sockets.group.send("to all") == 20
    assert page.sockets.group.send(b"and bytes") == 20
    script = """
        return Promise.all(talks.map(async (talk) =>
          [await talk.message(), new TextDecoder().decode(await talk.message())]));
    """
    assert page.run(script) == [["to all", "and bytes"]] * 20


def test_the_browser_answers_pings(page: Page) -> None:
    assert page.run("return (await opened('/pinging')).message()") == "are you there?"


def test_a_handler_that_fails_closes_with_1011(
    page: Page, caplog: pytest.LogCaptureFixture
) -> None:
    script = """
        const talk = await opened("/failing");
        talk.socket.send("go");
        return talk.closed();
    """
    kind, code, reason, clean = page.run(script)
    assert (kind, code, clean) == ("close", 1011, True)
    assert "defect" not in reason
    assert "a defect of the handler" in caplog.text


@pytest.mark.parametrize("path", ["/forbidden", "/refusing", "/", "/nothing-here"])
def test_what_is_refused_is_an_error_to_the_page(page: Page, path: str) -> None:
    assert page.run("return refused(a)", path) == REFUSED
    assert page.sockets.heard.empty()


def test_pages_of_other_origins_are_refused(page: Page, serve: Serve) -> None:
    other = Sockets()
    url = serve(other, tls=page.tls).url
    assert page.run("return refused('/echo', [], a)", url) == REFUSED
    assert any("403" in message for message in page.errors())
    assert other.heard.empty()
    script = """
        const talk = new Talk("/open-to-all", [], a);
        await talk.next();
        return talk.message("hello");
    """
    assert page.run(script, url) == "hello"


def test_a_session_is_a_conversation(page: Page) -> None:
    script = """
        const talk = await opened("/sum");
        for (const number of a) talk.socket.send(number);
        return [await talk.message(""), await talk.closed()];
    """
    numbers = ["1", "20", "300"]
    assert page.run(script, numbers) == ["321", ["close", 1000, "", True]]


def test_a_session_is_told_that_the_page_closes(page: Page) -> None:
    script = """
        const talk = await opened("/sum");
        talk.socket.send("1");
        talk.socket.close(3001, "no more");
        return talk.closed();
    """
    kind, code, _, clean = page.run(script)
    assert (kind, code, clean) == ("close", 3001, True)
    assert page.heard() == End(3001, "no more")


@pytest.mark.parametrize("path", ["/echo", "/plain", "/sum"])
def test_a_server_that_stops_tells_its_pages(page: Page, path: str) -> None:
    page.run("window.talk = await opened(a)", path)
    assert page.server.stop()
    kind, code, _, clean = page.run("return talk.closed()")
    assert (kind, code, clean) == ("close", 1001, True)
    assert page.heard().code == 1001

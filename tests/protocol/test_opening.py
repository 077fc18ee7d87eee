"""RFC 6455 §4, §9.1, §11.3: the opening handshake, both roles."""

from __future__ import annotations

import base64
import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resource_server.errors import BadRequest, HandshakeError, UpgradeRequired
from resource_server.headers import Headers
from resource_server.protocol import deflate
from resource_server.protocol.opening import Accepted, Offer, accept, accept_key, parse_extensions
from resource_server.request import Request

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
DEFLATE = "permessage-deflate"
TOKENS = st.text(
    "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1
)
Lines = list[tuple[str, str]]


def handshake(*more: str, without: str = "", method: str = "GET", version: int = 11) -> Request:
    """Return the request of RFC 6455 §1.2 with some of its lines left out, and others added."""
    lines = [
        ("Host", "server.example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
    ]
    kept = [(name, value) for name, value in lines if name != without]
    for line in more:
        name, _, value = line.partition(":")
        kept.append((name, value.strip(" ")))
    request = Request(("192.0.2.1", 4000), method, "/chat", headers=kept)
    request.version = version
    return request


def told(accepted: Accepted, name: str) -> str | None:
    """Return the one value of a field of the response, or None."""
    return Headers(accepted.headers).get(f"Sec-WebSocket-{name}")


class TestServer:
    """RFC 6455 §4.2.1: what a request must be; §4.2.2: how it is answered."""

    def test_the_example(self) -> None:
        """§1.2, §1.3, §4.2.2: Connection is written with the response."""
        accepted = accept(handshake("Origin: http://example.com"))
        assert accepted.headers == [
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        ]
        assert accepted.subprotocol is None
        assert accepted.deflate is None

    @pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "PUT", "get", "CONNECT"])
    def test_the_method_is_get(self, method: str) -> None:
        """§4.2.1 1."""
        self.assert_upgrade_required(handshake(method=method))

    def test_http_1_0_cannot_upgrade(self) -> None:
        """§4.2.1 1: HTTP/1.1 or higher."""
        self.assert_upgrade_required(handshake(version=10))
        pretended = handshake(version=10)
        pretended.upgrade = ("websocket",)
        self.assert_upgrade_required(pretended)

    @pytest.mark.parametrize("value", ["", "h2c", "websockets", "web socket", "websocket/13"])
    def test_upgrade_names_websocket(self, value: str) -> None:
        """§4.2.1 3."""
        self.assert_upgrade_required(handshake(without="Upgrade"))
        self.assert_upgrade_required(handshake(f"Upgrade: {value}", without="Upgrade"))

    @pytest.mark.parametrize("value", ["WebSocket", "WEBSOCKET", "h2c, websocket", "websocket ,a"])
    def test_upgrade_is_a_list_without_case(self, value: str) -> None:
        """§4.2.1 3: the value as an ASCII case-insensitive one."""
        accept(handshake(f"Upgrade: {value}", without="Upgrade"))
        accept(handshake("Upgrade: h2c", f"Upgrade: {value}", without="Upgrade"))

    @pytest.mark.parametrize("value", ["", "close", "keep-alive", "upgrades", "up grade"])
    def test_connection_lists_upgrade(self, value: str) -> None:
        """§4.2.1 4."""
        self.assert_upgrade_required(handshake(without="Connection"))
        self.assert_upgrade_required(handshake(f"Connection: {value}", without="Connection"))

    @pytest.mark.parametrize("value", ["upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade ,te"])
    def test_connection_is_a_list_without_case(self, value: str) -> None:
        """§4.2.1 4; browsers send keep-alive as well."""
        accept(handshake(f"Connection: {value}", without="Connection"))
        accept(handshake("Connection: te", f"Connection: {value}", without="Connection"))

    @pytest.mark.parametrize(
        "value",
        ["", "0", "7", "8", "12", "14", "130", "013", "+13", "13.0", "13, 8", "8, 13", "13 8", "x"],
    )
    def test_any_version_but_13_is_told_the_one_that_is_spoken(self, value: str) -> None:
        """§4.2.1 6, §4.2.2 4, §4.4: 426 with Sec-WebSocket-Version."""
        lines = f"Sec-WebSocket-Version: {value}"
        self.assert_upgrade_required(handshake(lines, without="Sec-WebSocket-Version"))

    def test_the_version_must_be_there(self) -> None:
        """§4.2.1 6."""
        self.assert_upgrade_required(handshake(without="Sec-WebSocket-Version"))

    @pytest.mark.parametrize("value", ["13", "8"])
    def test_the_version_comes_once(self, value: str) -> None:
        """§11.3.5."""
        self.assert_upgrade_required(handshake(f"Sec-WebSocket-Version: {value}"))

    def test_the_version_is_told_before_the_key_is_looked_at(self) -> None:
        """§4.4: other versions may have other fields."""
        request = handshake("Sec-WebSocket-Version: 14", without="Sec-WebSocket-Version")
        request.headers["Sec-WebSocket-Key"] = "?"
        self.assert_upgrade_required(request)

    @pytest.mark.parametrize("size", [0, 1, 12, 13, 14, 15, 17, 18, 24, 32])
    def test_the_key_has_16_bytes(self, size: int) -> None:
        """§4.2.1 5."""
        self.assert_bad_key(base64.b64encode(bytes(size)).decode())

    @pytest.mark.parametrize(
        "value",
        [
            "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=", "dGhlIHNhbXBsZSBub25jZQ===",
            "dGhlIHNhbXBsZSBub25jZQ=a", "dGhlIHNhbXBsZSBub25jZ===", "dGhlIHNhbXBsZSBub25jZ-==",
            "dGhlIHNhbXBsZSBub25j_Q==", "dGhl IHNhbXBsZSBub25jZQ==", "dGhlIHNhb.BsZSBub25jZQ==",
            "dGhlIHNhbXBsZSBub25jZQ==,", '"dGhlIHNhbXBsZSBub25jZQ=="', "dGhlIHNhbXBsZSBub25jZé==",
        ],
    )  # fmt: skip
    def test_the_key_is_base64(self, value: str) -> None:
        """§4.2.1 5."""
        self.assert_bad_key(value)

    def test_the_key_must_be_there(self) -> None:
        """§4.2.1 5."""
        with pytest.raises(BadRequest, match="Sec-WebSocket-Key"):
            accept(handshake(without="Sec-WebSocket-Key"))

    def test_the_key_comes_once(self) -> None:
        """§11.3.1."""
        with pytest.raises(BadRequest, match="once"):
            accept(handshake(f"Sec-WebSocket-Key: {KEY}"))

    def test_the_key_is_not_decoded(self) -> None:
        """§4.2.2 5: Accept is made of the text, whatever its unused bits."""
        key = "AQIDBAUGBwgJCgsMDQ4PEC=="
        request = handshake(f"Sec-WebSocket-Key:  {key} ", without="Sec-WebSocket-Key")
        assert told(accept(request), "Accept") == accept_key(key)

    @given(st.binary(min_size=16, max_size=16))
    def test_every_key_is_accepted(self, nonce: bytes) -> None:
        """§4.2.1 5."""
        key = base64.b64encode(nonce).decode()
        request = handshake(f"Sec-WebSocket-Key: {key}", without="Sec-WebSocket-Key")
        assert told(accept(request), "Accept") == accept_key(key)

    @staticmethod
    def assert_upgrade_required(request: Request) -> None:
        with pytest.raises(UpgradeRequired) as caught:
            accept(request)
        assert caught.value.status_code == 426
        assert caught.value.headers == [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]

    @staticmethod
    def assert_bad_key(value: str) -> None:
        with pytest.raises(BadRequest, match="16 bytes in base64"):
            accept(handshake(f"Sec-WebSocket-Key: {value}", without="Sec-WebSocket-Key"))


class TestSubprotocols:
    """RFC 6455 §4.2.2 5, §11.3.4: which subprotocol a server chooses."""

    @pytest.mark.parametrize(
        "lines",
        [
            ["chat, superchat"],
            ["chat,superchat"],
            ["chat", "superchat"],
            ["superchat", "chat"],
            [",superchat, ,x ,", "chat"],
        ],
    )
    def test_the_one_that_the_server_likes_best(self, lines: list[str]) -> None:
        """§4.2.2 5; §11.3.4: several lines are one list."""
        request = handshake(*[f"Sec-WebSocket-Protocol: {line}" for line in lines])
        accepted = accept(request, subprotocols=["none", "superchat", "chat"])
        assert accepted.subprotocol == "superchat"
        assert told(accepted, "Protocol") == "superchat"

    def test_none_in_common(self) -> None:
        """§4.2.2 5: then no field is sent, and the client decides."""
        for subprotocols in ([], ["soap"]):
            accepted = accept(handshake("Sec-WebSocket-Protocol: chat"), subprotocols=subprotocols)
            assert accepted.subprotocol is None
            assert told(accepted, "Protocol") is None

    def test_none_offered(self) -> None:
        """§4.2.2 5: only what the client has offered may be chosen."""
        accepted = accept(handshake(), subprotocols=["chat"])
        assert accepted.subprotocol is None
        assert told(accepted, "Protocol") is None

    def test_they_are_compared_exactly(self) -> None:
        """§4.2.2 5, §11.5: names are not without case."""
        request = handshake("Sec-WebSocket-Protocol: Chat, chat.v1")
        assert accept(request, subprotocols=["chat"]).subprotocol is None
        assert accept(request, subprotocols=["chat", "Chat"]).subprotocol == "Chat"

    @pytest.mark.parametrize(
        "value", ["", ",", " , ", "a b", "a;b", '"a"', "a/b", "a, (b)", "é", "a, b=1", "[a]", "a@b"]
    )
    def test_they_are_tokens(self, value: str) -> None:
        """§4.1 10: not empty, and without separators."""
        with pytest.raises(BadRequest, match="list of tokens"):
            accept(handshake(f"Sec-WebSocket-Protocol: {value}"), subprotocols=["a"])

    @pytest.mark.parametrize("lines", [["a, a"], ["a, b", "a"], ["a,b,,a"]])
    def test_they_are_distinct(self, lines: list[str]) -> None:
        """§4.1 10."""
        request = handshake(*[f"Sec-WebSocket-Protocol: {line}" for line in lines])
        with pytest.raises(BadRequest, match="twice"):
            accept(request, subprotocols=["b"])

    @given(st.lists(TOKENS, unique=True, min_size=1), st.lists(TOKENS, unique=True))
    def test_the_first_of_the_server_that_was_offered(
        self, offered: list[str], spoken: list[str]
    ) -> None:
        """§4.2.2 5."""
        request = handshake(f"Sec-WebSocket-Protocol: {','.join(offered)}")
        subprotocols = [*spoken, offered[-1], *offered]
        common = [name for name in subprotocols if name in offered]
        assert accept(request, subprotocols=subprotocols).subprotocol == common[0]


class TestExtensions:
    """RFC 6455 §4.2.2 5, §9.1 and RFC 7692 §5: what a server makes of the extensions offered."""

    def agreed(self, *lines: str, context_takeover: bool = True) -> str | None:
        request = handshake(*[f"Sec-WebSocket-Extensions: {line}" for line in lines])
        accepted = accept(request, context_takeover=context_takeover)
        text = told(accepted, "Extensions")
        assert text == (None if accepted.deflate is None else str(accepted.deflate))
        return text

    def test_compression_is_agreed_on(self) -> None:
        """RFC 7692 §5.1."""
        assert self.agreed(DEFLATE) == f"{DEFLATE}; server_max_window_bits=12"
        assert self.agreed(f"{DEFLATE}; client_max_window_bits") == (
            f"{DEFLATE}; server_max_window_bits=12; client_max_window_bits=12"
        )

    def test_without_context_takeover(self) -> None:
        """RFC 7692 §7.1.1.1: the server may say so unasked."""
        assert self.agreed(DEFLATE, context_takeover=False) == (
            f"{DEFLATE}; server_no_context_takeover; server_max_window_bits=12"
        )

    def test_without_compression(self) -> None:
        """§9.1: what is not wanted is not accepted; RFC 7692 §5.1: and so declined."""
        accepted = accept(handshake(f"Sec-WebSocket-Extensions: {DEFLATE}"), compression=False)
        assert accepted.deflate is None
        assert told(accepted, "Extensions") is None

    def test_nothing_offered_nothing_accepted(self) -> None:
        """§4.2.2 5, §9.1: only what the client has offered."""
        assert self.agreed() is None

    def test_an_unknown_extension_is_not_accepted(self) -> None:
        """§9.1, §4.2.2 5."""
        assert self.agreed("foo, x-webkit-deflate-frame; bar=1") is None
        assert self.agreed(f"foo; client_max_window_bits, {DEFLATE}-2, {DEFLATE}") == (
            f"{DEFLATE}; server_max_window_bits=12"
        )

    def test_the_first_offer_that_can_be_accepted(self) -> None:
        """RFC 7692 §5: the order is the client's preference; those declined are passed over."""
        first, second = f"{DEFLATE}; server_max_window_bits=10", f"{DEFLATE}; unknown"
        third = f"{DEFLATE}; server_no_context_takeover; server_max_window_bits=9"
        for lines in ([first, third], [f"{second}, {first}, {third}"], [second, first]):
            assert self.agreed(*lines) == first
        assert self.agreed(second, third, first) == third
        assert self.agreed(second, f"{DEFLATE}; client_max_window_bits=7") is None

    def test_several_lines_are_one_list(self) -> None:
        """§9.1, §11.3.2: also where an offer is the second on its line."""
        text = f"{DEFLATE}; server_max_window_bits=12"
        assert self.agreed("foo", "bar; baz=2", f"qux, {DEFLATE}") == text

    @pytest.mark.parametrize(
        "value",
        [
            f"{DEFLATE};server_max_window_bits=10",
            f"{DEFLATE} ;\tserver_max_window_bits = 10 ",
            f'{DEFLATE}; server_max_window_bits="10"',
            f'{DEFLATE}; server_max_window_bits="1\\0"',
            f'{DEFLATE}; server_max_window_bits="\\1\\0"',
            "Permessage-Deflate; Server_Max_Window_Bits=10",
            f", ,{DEFLATE}; server_max_window_bits=10, ,",
        ],
    )
    def test_all_ways_to_write_it(self, value: str) -> None:
        """§9.1: quoted or not; names have no case."""
        assert self.agreed(value) == f"{DEFLATE}; server_max_window_bits=10"

    @pytest.mark.parametrize(
        "value",
        [
            "", ",", ";", ";a", "a;", "a; ", "a;;b", "a;b;", "a b", "a; b c", "a;b=", "a;=b", "a=b",
            "a;b=1 2", "a;b=1=2", 'a;b="', 'a;b="1', 'a;b="1\\"', 'a;b=""', 'a;b="1 2"',
            'a;b="1,2"', 'a;b="1;c"', 'a;b="1"2', '"a"', "a/b", "a;b/c", "é", "a;é", "a;b=é",
            'a;b="é"', "a;b=(c)", "a, b=c", "a,;b", 'a;b="\\ "', "a;b\\=c", "permessage-deflate;=",
        ],
    )  # fmt: skip
    def test_a_malformed_field_is_a_bad_request(self, value: str) -> None:
        """§9.1: a value that does not conform to the grammar; also when it would not be used."""
        for compression in (True, False):
            for lines in ([value], [DEFLATE, value] if value.strip(", ") else [value]):
                fields = [f"Sec-WebSocket-Extensions: {line}" for line in lines]
                with pytest.raises(BadRequest, match="malformed Sec-WebSocket-Extensions"):
                    accept(handshake(*fields), compression=compression)

    @given(
        st.lists(
            st.tuples(TOKENS, st.lists(st.tuples(TOKENS, st.none() | TOKENS), max_size=4)),
            min_size=1,
            max_size=4,
        ),
        st.randoms(use_true_random=False),
    )
    def test_parsing_undoes_writing(
        self, extensions: list[tuple[str, Lines]], random: object
    ) -> None:
        """§9.1, with white space, quotes and escapes anywhere."""
        choose = random.choice  # type: ignore[attr-defined]

        def space() -> str:
            return str(choose(["", " ", "\t", "  "]))

        def written(value: str) -> str:
            if choose([True, False]):
                return value
            return '"' + "".join(choose(["", "\\"]) + character for character in value) + '"'

        parts, expected = [], []
        for name, parameters in extensions:
            text = space() + name + space()
            for parameter, value in parameters:
                text += f";{space()}{parameter}{space()}"
                if value is not None:
                    text += f"={space()}{written(value)}{space()}"
            parts.append(text)
            pairs = [(parameter.lower(), value) for parameter, value in parameters]
            expected.append((name.lower(), pairs))
        assert parse_extensions(",".join(parts)) == expected

    @pytest.mark.parametrize(
        "value", [f"{DEFLATE}; a=1, " * 4000, "a;" + "b;" * 30_000, 'a;b="' + "\\a" * 30_000,
                  "," * 60_000, "a" + " " * 60_000 + "?"]
    )  # fmt: skip
    def test_a_long_field_is_read_in_linear_time(self, value: str) -> None:
        begin = time.process_time()
        with pytest.raises(ValueError, match="expected a token"):
            parse_extensions(value + ";")
        assert time.process_time() - begin < 2


def response(offer: Offer, *more: str, without: str = "") -> Headers:
    """Return the fields of a right answer with some of its lines left out, and others added."""
    lines = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Accept", accept_key(offer.key)),
    ]
    headers = Headers([(name, value) for name, value in lines if name != without])
    for line in more:
        name, _, value = line.partition(":")
        headers.add(name, value)
    return headers


class TestOffer:
    """RFC 6455 §4.1: what a client's request must have."""

    def test_its_fields(self) -> None:
        """§4.1 5, 6, 9: Upgrade, Connection, and version 13."""
        offer = Offer(compression=False)
        assert offer.headers == [
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", offer.key),
            ("Sec-WebSocket-Version", "13"),
        ]

    def test_its_key_is_16_random_bytes_in_base64(self) -> None:
        """§4.1 7: another for each connection."""
        keys = [Offer().key for _ in range(50)]
        assert len(set(keys)) == 50
        assert all(len(base64.b64decode(key, validate=True)) == 16 for key in keys)

    def test_its_subprotocols(self) -> None:
        """§4.1 10: in order of preference."""
        headers = Headers(Offer(subprotocols=["b", "a"]).headers)
        assert headers["Sec-WebSocket-Protocol"] == "b, a"
        assert "Sec-WebSocket-Protocol" not in Headers(Offer().headers)

    @pytest.mark.parametrize(
        "subprotocols", [[""], ["a b"], ["a", "b,c"], ["é"], ["a\r\nb"], "chat"]
    )
    def test_its_subprotocols_are_tokens(self, subprotocols: list[str]) -> None:
        """§4.1 10."""
        with pytest.raises(ValueError, match="a list of tokens"):
            Offer(subprotocols=subprotocols)

    def test_its_subprotocols_are_distinct(self) -> None:
        """§4.1 10."""
        with pytest.raises(ValueError, match="twice"):
            Offer(subprotocols=["a", "b", "a"])

    def test_its_extensions(self) -> None:
        """§4.1 11; RFC 7692 §5.1."""
        headers = Headers(Offer().headers)
        assert headers["Sec-WebSocket-Extensions"] == f"{DEFLATE}; client_max_window_bits"
        assert "Sec-WebSocket-Extensions" not in Headers(Offer(compression=False).headers)


class TestAnswer:
    """RFC 6455 §4.1: which answers a client must refuse."""

    def test_a_right_one(self) -> None:
        offer = Offer()
        accepted = offer.check(101, response(offer))
        assert accepted.headers == []
        assert accepted.subprotocol is None
        assert accepted.deflate is None

    @pytest.mark.parametrize("status", [100, 200, 302, 400, 401, 403, 426, 500])
    def test_the_status_is_101(self, status: int) -> None:
        """§4.1, response 1."""
        offer = Offer()
        with pytest.raises(HandshakeError, match=f"expected status 101, got {status}"):
            offer.check(status, response(offer))

    @pytest.mark.parametrize("value", ["", "websockets", "h2c", "websocket, h2c", "websocket/13"])
    def test_upgrade_is_websocket(self, value: str) -> None:
        """§4.1, response 2: that value, and no list."""
        self.assert_refused("wrong Upgrade", f"Upgrade: {value}", without="Upgrade")
        self.assert_refused("wrong Upgrade.*got none", without="Upgrade")
        self.assert_refused("wrong Upgrade", "Upgrade: websocket")

    def test_upgrade_has_no_case(self) -> None:
        """§4.1, response 2."""
        offer = Offer()
        offer.check(101, response(offer, "Upgrade: WebSocket", without="Upgrade"))

    @pytest.mark.parametrize("value", ["", "close", "keep-alive", "upgrades", "up grade"])
    def test_connection_lists_upgrade(self, value: str) -> None:
        """§4.1, response 3."""
        self.assert_refused("wrong Connection", f"Connection: {value}", without="Connection")
        self.assert_refused("wrong Connection.*got none", without="Connection")

    @pytest.mark.parametrize("value", ["upgrade", "UPGRADE", "keep-alive, Upgrade", "Upgrade ,te"])
    def test_connection_is_a_list_without_case(self, value: str) -> None:
        """§4.1, response 3: a token in it."""
        offer = Offer()
        offer.check(101, response(offer, f"Connection: {value}", without="Connection"))

    @pytest.mark.parametrize("value", ["", accept_key(KEY), KEY, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo"])
    def test_accept_is_that_of_the_key(self, value: str) -> None:
        """§4.1, response 4."""
        wrong, name = "wrong Sec-WebSocket-Accept", "Sec-WebSocket-Accept"
        self.assert_refused(wrong, f"{name}: {value}", without=name)
        self.assert_refused(f"{wrong}.*got none", without=name)

    def test_accept_has_case(self) -> None:
        """§4.1, response 4: base64 has."""
        offer = Offer()
        headers = response(offer)
        headers["Sec-WebSocket-Accept"] = headers["Sec-WebSocket-Accept"].swapcase()
        with pytest.raises(HandshakeError, match="wrong Sec-WebSocket-Accept"):
            offer.check(101, headers)

    def test_accept_may_have_white_space_around_it(self) -> None:
        """§4.1, response 4: leading and trailing white space is ignored."""
        offer = Offer()
        name = "Sec-WebSocket-Accept"
        line = f"{name}: \t {accept_key(offer.key)} \t"
        offer.check(101, response(offer, line, without=name))

    def test_accept_comes_once(self) -> None:
        """§11.3.3."""
        offer = Offer()
        line = f"Sec-WebSocket-Accept: {accept_key(offer.key)}"
        with pytest.raises(HandshakeError, match="wrong Sec-WebSocket-Accept"):
            offer.check(101, response(offer, line))

    def test_a_subprotocol_that_was_offered(self) -> None:
        """§4.1, response 6; §4.2.2 5: or none."""
        offer = Offer(subprotocols=["chat", "superchat"])
        accepted = offer.check(101, response(offer, "Sec-WebSocket-Protocol: superchat"))
        assert accepted.subprotocol == "superchat"
        assert offer.check(101, response(offer)).subprotocol is None

    @pytest.mark.parametrize("value", ["", "soap", "Chat", "chat, superchat", '"chat"'])
    def test_a_subprotocol_that_was_not_offered(self, value: str) -> None:
        """§4.1, response 6."""
        offer = Offer(subprotocols=["chat", "superchat"])
        with pytest.raises(HandshakeError, match=r"one of those offered \(chat, superchat\)"):
            offer.check(101, response(offer, f"Sec-WebSocket-Protocol: {value}"))
        self.assert_refused(r"offered \(none\)", f"Sec-WebSocket-Protocol: {value}")

    def test_one_subprotocol_comes_once(self) -> None:
        """§11.3.4."""
        offer = Offer(subprotocols=["chat", "superchat"])
        line = "Sec-WebSocket-Protocol: chat"
        with pytest.raises(HandshakeError, match="wrong Sec-WebSocket-Protocol"):
            offer.check(101, response(offer, line, line))

    def test_compression_that_was_offered(self) -> None:
        """§4.1, response 5; RFC 7692 §5.1, §7.1."""
        offer = Offer()
        text = f"{DEFLATE}; server_max_window_bits=10; client_max_window_bits=9"
        accepted = offer.check(101, response(offer, f"Sec-WebSocket-Extensions: {text}"))
        assert str(accepted.deflate) == text

    @pytest.mark.parametrize("value", ["foo", f"{DEFLATE}, foo", f"foo; a=1, {DEFLATE}"])
    def test_an_extension_that_was_not_offered(self, value: str) -> None:
        """§4.1, response 5; §9.1."""
        self.assert_refused("'foo', which was not offered", f"Sec-WebSocket-Extensions: {value}")

    def test_compression_that_was_not_offered(self) -> None:
        """§4.1, response 5; RFC 7692 §5.1."""
        offer = Offer(compression=False)
        with pytest.raises(HandshakeError, match="not offered"):
            offer.check(101, response(offer, f"Sec-WebSocket-Extensions: {DEFLATE}"))

    @pytest.mark.parametrize(
        "parameters", ["foo", "server_max_window_bits", "client_max_window_bits=16", "a=b"]
    )
    def test_compression_with_illegal_parameters(self, parameters: str) -> None:
        """RFC 7692 §7.1."""
        line = f"Sec-WebSocket-Extensions: {DEFLATE}; {parameters}"
        self.assert_refused("answered permessage-deflate wrongly", line)

    def test_compression_is_accepted_once(self) -> None:
        """RFC 7692 §5: one extension at most uses the bit RSV1."""
        line = f"Sec-WebSocket-Extensions: {DEFLATE}, {DEFLATE}"
        self.assert_refused("more than once", line)

    def test_the_field_of_extensions_comes_once(self) -> None:
        """§11.3.2: in a response, other than in a request."""
        line = f"Sec-WebSocket-Extensions: {DEFLATE}"
        self.assert_refused("Sec-WebSocket-Extensions more than once", line, line)

    @pytest.mark.parametrize("value", ["", ",", f"{DEFLATE};", f"{DEFLATE} x", f'{DEFLATE}; a="'])
    def test_malformed_extensions(self, value: str) -> None:
        """§9.1."""
        self.assert_refused("malformed", f"Sec-WebSocket-Extensions: {value}")

    def test_what_is_told_of_an_answer_is_short_and_ascii(self) -> None:
        offer = Offer()
        for name in ("Upgrade", "Connection", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"):
            headers = response(offer)
            headers[name] = "é\x9b31m" * 1000
            with pytest.raises(HandshakeError) as caught:
                offer.check(101, headers)
            assert str(caught.value).isascii()
            assert len(str(caught.value)) < 600

    @staticmethod
    def assert_refused(reason: str, *more: str, without: str = "") -> None:
        offer = Offer()
        with pytest.raises(HandshakeError, match=reason):
            offer.check(101, response(offer, *more, without=without))


@pytest.mark.parametrize(
    ("asks", "gives", "takeover", "subprotocols", "spoken"),
    list(
        itertools.product(
            [True, False], [True, False], [True, False], [(), ("a", "b")], [(), ("b", "a"), ("c",)]
        )
    ),
)
def test_both_roles_agree(
    asks: bool,
    gives: bool,
    takeover: bool,
    subprotocols: tuple[str, ...],
    spoken: tuple[str, ...],
) -> None:
    """RFC 6455 §4.1 and §4.2; RFC 7692 §5.1."""
    offer = Offer(subprotocols=subprotocols, compression=asks)
    request = Request(("", 0), "GET", "/", headers=[("Host", "a"), *offer.headers])
    answer = accept(request, subprotocols=spoken, compression=gives, context_takeover=takeover)
    result = offer.check(101, Headers([("Connection", "Upgrade"), *answer.headers]))
    assert result.subprotocol == answer.subprotocol
    assert result.subprotocol == ("b" if subprotocols and "b" in spoken else None)
    assert (result.deflate is not None) is (answer.deflate is not None) is (asks and gives)
    if result.deflate is not None:
        assert str(result.deflate) == str(answer.deflate)
        server = deflate.Deflate(result.deflate, client=False)
        client = deflate.Deflate(result.deflate, client=True)
        for text in (b"Hello", b"Hello"):
            assert client.decompress(server.compress(text), 5) + client.end_message(0) == text
            assert server.decompress(client.compress(text), 5) + server.end_message(0) == text

"""What proves who asks: basic, bearer and digest authentication of a client."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import Headers, HTTPClient, HTTPError, Redirect, Request, Resource, get, post
from resource_server.client import ClientErrorResponse, Outgoing
from resource_server.client.auth import basic, bearer, digest
from tests.client.misbehaving import PATIENCE, Misbehaving, Peer

if TYPE_CHECKING:
    from resource_server import HTTPServer
    from tests.conftest import Serve

USER, PASSWORD, REALM = "Mufasa", "Circle of Life", "http-auth@example.org"


def parameters(value: str) -> dict[str, str]:
    """The parameters of an Authorization, by means of the test's own."""
    assert value.startswith("Digest ")
    found = re.findall(r'([a-z*]+)=(?:"((?:[^"\\]|\\.)*)"|([^ ,]+))', value[7:])
    return {name: quoted or plain for name, quoted, plain in found}


class Guarded(Resource):
    """Wants a digest; `uses` are the nonces and counts that proofs came with."""

    def __init__(self, algorithm: str = "SHA-256", *, extra: str = "", realm: str = REALM) -> None:
        self.algorithm = algorithm
        self.extra = extra
        self.realm = realm
        self.nonce = "n0"
        #: what a nonce that is not the last is refused with
        self.refusal = ", stale=true"
        self.uses: list[tuple[str, str]] = []
        self.refused = 0
        self.lock = threading.Lock()

    def _hash(self, text: str) -> str:
        made = hashlib.md5 if "MD5" in self.algorithm.upper() else hashlib.sha256
        return made(text.encode()).hexdigest()

    def _refuse(self, why: str = "") -> HTTPError:
        self.refused += 1
        challenge = (
            f'Digest realm="{self.realm}", qop="auth, auth-int", algorithm={self.algorithm}, '
            f'nonce="{self.nonce}", opaque="op"{self.extra}{why}'
        )
        return HTTPError(status_code=401, headers=[("WWW-Authenticate", challenge)])

    def check(self, request: Request) -> str:
        with self.lock:
            value = request.headers.get("authorization")
            if value is None:
                raise self._refuse()
            given = parameters(value)
            assert given["algorithm"] == self.algorithm
            assert (given["qop"], given["opaque"]) == ("auth", "op")
            assert given["uri"] == request.headers["x-target"]
            if given["nonce"] != self.nonce:
                raise self._refuse(self.refusal)
            use = (given["nonce"], given["nc"])
            assert use not in self.uses, "used again"
            self.uses.append(use)
            secret = self._hash(f"{USER}:{self.realm}:{PASSWORD}")
            if self.algorithm.lower().endswith("-sess"):
                secret = self._hash(f"{secret}:{given['nonce']}:{given['cnonce']}")
            asked = self._hash(f"{request.method}:{given['uri']}")
            proof = ":".join(
                [secret, given["nonce"], given["nc"], given["cnonce"], given["qop"], asked]
            )
            if given["response"] != self._hash(proof):
                raise self._refuse()
            return given.get("userhash", given["username"])

    @get("/in")
    def enter(self, request: Request) -> str:
        return self.check(request)

    @post("/in")
    def bring(self, request: Request) -> bytes:
        self.check(request)
        return request.body()


def asks(server: HTTPServer, auth: Any, times: int = 1) -> list[int]:
    fields = {"X-Target": "/in?a=%20b"}
    with HTTPClient(server.address, auth=auth, headers=fields) as client:
        return [client.get("/in?a= b").result(PATIENCE).status_code for _ in range(times)]


class TestBasic:
    def test_user_and_password_are_sent_in_utf_8(self) -> None:
        request = Outgoing("GET", "http://h/", Headers({"Authorization": "old"}))
        basic("ü", "p:ö ")(request)
        kind, _, value = request.headers["authorization"].partition(" ")
        assert kind == "Basic"
        assert base64.b64decode(value).decode() == "ü:p:ö "

    @pytest.mark.parametrize(("user", "password"), [("a:b", "c"), ("a\n", "c"), ("a", "\x7f")])
    def test_what_it_cannot_carry_is_refused(self, user: str, password: str) -> None:
        with pytest.raises(ValueError, match=r".+"):
            basic(user, password)

    def test_it_is_sent_with_each_request_but_to_no_other_origin(self) -> None:
        def there(peer: Peer) -> None:
            peer.read_request()
            peer.answer(b"", f"Location: {here.url}/back", status="302 X")

        def script(peer: Peer) -> None:
            peer.read_request()
            peer.answer(b"", "Location: /again", status="302 X")
            peer.read_request()
            peer.answer(b"", f"Location: {other.url}/", status="302 X")
            # Back at its origin, nobody knows whether it was meant to be asked.
            peer.read_request()
            peer.answer(b"done")

        with (
            Misbehaving(script) as here,
            Misbehaving(there) as other,
            HTTPClient(here.address, auth=basic("me", "pw")) as client,
        ):
            assert client.get("/").result(PATIENCE).body == b"done"
            client.stop(PATIENCE)
            assert [b"\r\nAuthorization: Basic" in each for each in here.requests] == [
                True,
                True,
                False,
            ]
            assert not any(b"uthorization" in each for each in other.requests)

    def test_a_url_may_have_user_and_password(self) -> None:
        def script(peer: Peer) -> None:
            peer.read_request()
            peer.answer(b"done")

        with Misbehaving(script) as server:
            url = server.url.replace("://", "://m%65:p%3Aw@")
            with HTTPClient.from_url(url) as client:
                client.get("/").result(PATIENCE)
            expected = base64.b64encode(b"me:p:w")
            assert b"\r\nAuthorization: Basic " + expected + b"\r\n" in server.requests[0]


class TestBearer:
    def test_the_token_is_sent(self) -> None:
        request = Outgoing("GET", "http://h/", Headers())
        bearer("abc-._~+/12==")(request)
        assert request.headers["authorization"] == "Bearer abc-._~+/12=="

    @pytest.mark.parametrize("token", ["", "a b", "a\r\n", "=", "ü", "a=b"])
    def test_what_is_no_token_is_refused_and_not_shown(self, token: str) -> None:
        with pytest.raises(ValueError, match="a bearer token is made of letters"):
            bearer(token)


@pytest.mark.parametrize("auth", [basic("me", "pw"), bearer("pw"), digest("me", "pw")])
def test_none_shows_what_it_knows(auth: object) -> None:
    assert "pw" not in repr(auth)
    assert "me" not in repr(auth)


class TestDigest:
    ALGORITHMS = ("MD5", "SHA-256", "MD5-sess", "SHA-256-sess", "sha-256")

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_one_challenge_is_enough_for_many_requests(self, serve: Serve, algorithm: str) -> None:
        guarded = Guarded(algorithm)
        assert asks(serve(guarded), digest(USER, PASSWORD), 3) == [200, 200, 200]
        assert guarded.refused == 1
        assert guarded.uses == [("n0", f"0000000{count}") for count in (1, 2, 3)]

    @pytest.mark.parametrize("algorithm", ALGORITHMS)
    def test_a_wrong_password_is_tried_once(self, serve: Serve, algorithm: str) -> None:
        guarded = Guarded(algorithm)
        assert asks(serve(guarded), digest(USER, "wrong"), 2) == [401, 401]
        # The second has the nonce already, and is told that it is not that.
        assert (guarded.refused, len(guarded.uses)) == (3, 2)

    def test_a_payload_is_sent_again(self, serve: Serve) -> None:
        server = serve(Guarded())
        with HTTPClient(server.address, auth=digest(USER, PASSWORD)) as client:
            fields = {"X-Target": "/in"}
            assert client.post("/in", b"x" * 50_000, headers=fields).result(PATIENCE).ok
            iterator = iter([b"used", b"up"])
            assert client.post("/in", iterator, headers=fields).result(PATIENCE).body == b"usedup"

    @pytest.mark.parametrize("refusal", [", stale=TRUE", ", stale=false", ""])
    def test_a_new_nonce_is_taken(self, serve: Serve, refusal: str) -> None:
        guarded = Guarded()
        guarded.refusal = refusal
        server, auth = serve(guarded), digest(USER, PASSWORD)
        assert asks(server, auth) == [200]
        guarded.nonce = "n1"
        assert asks(server, auth, 2) == [200, 200]
        assert guarded.uses == [("n0", "00000001"), ("n1", "00000001"), ("n1", "00000002")]
        assert guarded.refused == 2

    def test_a_user_can_be_hashed(self, serve: Serve) -> None:
        server = serve(Guarded(extra=", userhash=true"))
        with HTTPClient(server.address, auth=digest(USER, PASSWORD)) as client:
            assert client.get("/in", headers={"X-Target": "/in"}).result(PATIENCE).text == "true"

    def test_threads_count_together(self, serve: Serve) -> None:
        guarded = Guarded()
        server, auth = serve(guarded), digest(USER, PASSWORD)
        with ThreadPoolExecutor(8) as threads:
            codes = [
                each
                for part in threads.map(lambda _: asks(server, auth, 5), range(8))
                for each in part
            ]
        assert codes == [200] * 40
        assert len(guarded.uses) == 40

    def test_it_is_not_sent_to_another_origin(self, serve: Serve) -> None:
        guarded = Guarded()
        server = serve(guarded)

        def script(peer: Peer) -> None:
            peer.read_request()
            challenge = 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"'
            peer.answer(b"", challenge, status="401 X")

        class Leads(Resource):
            @get("/out")
            def out(self, request: Request) -> Any:
                return Redirect(f"{other.url}/")

        away = serve(Leads)
        auth = digest(USER, PASSWORD)
        with Misbehaving(script) as other:
            assert asks(server, auth) == [200]
            with HTTPClient(away.address, auth=auth) as client:
                # Its nonce is another server's.
                assert client.get("/out").result(PATIENCE).status_code == 401
            assert len(other.requests) == 1
            assert b"uthorization" not in other.requests[0]

    # What the exchange is not needed for.

    def answered(self, *challenges: str, user: str = USER, url: str = "http://h/dir") -> str | None:
        """What is sent after a 401 with some challenges, None if there is no answer."""
        auth = digest(user, PASSWORD)
        request = Outgoing("GET", url, Headers())
        auth(request)
        assert "authorization" not in request.headers
        fields = Headers([("WWW-Authenticate", each) for each in challenges])
        again = auth.answer(ClientErrorResponse.received(401, fields, b"", request, 0.0))
        auth(request)
        assert again == ("authorization" in request.headers)
        return request.headers.get("authorization")

    @pytest.mark.parametrize(
        ("algorithm", "proof"),
        [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ],
    )
    def test_the_example_of_the_rfc(
        self, monkeypatch: pytest.MonkeyPatch, algorithm: str, proof: str
    ) -> None:
        # RFC 7616 §3.9.1.
        cnonce = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
        monkeypatch.setattr("secrets.token_hex", lambda size: cnonce)
        value = self.answered(
            f'Digest realm="{REALM}", qop="auth, auth-int", algorithm={algorithm}, '
            'nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", '
            'opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"',
            url="http://www.example.org/dir/index.html",
        )
        assert value is not None
        given = parameters(value)
        assert given["response"] == proof
        assert given["uri"] == "/dir/index.html"
        assert given["username"] == USER
        assert f"algorithm={algorithm}, qop=auth, nc=00000001, " in value

    @pytest.mark.parametrize(
        "challenge",
        [
            "",
            "Negotiate",
            'Basic realm="x"',
            'Digest realm="x", nonce="n"',
            'Digest realm="x", nonce="n", qop="auth-int"',
            'Digest nonce="n", qop="auth"',
            'Digest realm="x", qop="auth"',
            'Digest realm="x", nonce="n", qop="auth", algorithm=SHA-512-256',
            'Digest realm="x", nonce="n',
            'realm="x", nonce="n", qop="auth"',
            "Digest abcdef==",
            ",,, ,",
        ],
    )
    def test_what_cannot_be_answered_is_not(self, challenge: str) -> None:
        assert self.answered(challenge) is None

    def test_the_first_that_can_be_answered_is(self) -> None:
        value = self.answered(
            'Negotiate abc=, Basic realm="a, Digest nonce=b" , Bearer',
            'Digest realm="1", nonce="1", qop="auth", algorithm=SHA-512',
            'DIGEST Realm = "2" ,NONCE=2, qop=auth',
            'Digest realm="3", nonce="3", qop="auth", algorithm=MD5',
        )
        assert value is not None
        assert parameters(value)["realm"] == "2"
        assert parameters(value)["nonce"] == "2"

    def test_values_are_sent_back_as_they_came(self) -> None:
        value = self.answered(r'Digest realm="a \"b\" é", nonce="\\n", qop="auth"')
        assert value is not None
        assert r'realm="a \"b\" é", nonce="\\n"' in value
        assert "opaque" not in value

    @pytest.mark.parametrize(
        ("user", "sent"),
        [
            ('a "b" \\', r'username="a \"b\" \\"'),
            ("Jäsøn Doe", "username*=UTF-8''J%C3%A4s%C3%B8n%20Doe"),
        ],
    )
    def test_any_user_can_be_named(self, user: str, sent: str) -> None:
        value = self.answered('Digest realm="x", nonce="n", qop="auth"', user=user)
        assert value is not None
        assert value.startswith(f"Digest {sent}, ")

    def test_control_characters_are_refused(self) -> None:
        with pytest.raises(ValueError, match="control"):
            digest("a\r\nb", "c")

    @pytest.mark.parametrize(
        ("url", "target"),
        [
            ("http://h:1/a?b=/c", "/a?b=/c"),
            ("http+unix://%2Frun%2Fs/x", "/x"),
            ("http://h:1*", "*"),
        ],
    )
    def test_the_target_is_that_of_the_request(self, url: str, target: str) -> None:
        value = self.answered('Digest realm="x", nonce="n", qop="auth"', url=url)
        assert value is not None
        assert parameters(value)["uri"] == target

    def test_a_nonce_that_is_used_up_is_forgotten(self) -> None:
        auth = digest(USER, PASSWORD)
        request = Outgoing("GET", "http://h/", Headers())
        fields = Headers({"WWW-Authenticate": 'Digest realm="x", nonce="n", qop="auth"'})
        assert auth.answer(ClientErrorResponse.received(401, fields, b"", request, 0.0))
        auth._challenges["http://h"].count = 0xFFFFFFFE
        auth(request)
        assert "nc=ffffffff" in request.headers["authorization"]
        del request.headers["authorization"]
        auth(request)
        assert "authorization" not in request.headers

    def test_a_nonce_given_to_two_is_counted_on(self) -> None:
        auth = digest(USER, PASSWORD)
        fields = Headers({"WWW-Authenticate": 'Digest realm="x", nonce="n", qop="auth"'})
        counts = []
        for _ in range(2):
            # Neither had a proof when it was sent, if only by another scheme.
            sent = Outgoing("GET", "http://h/", Headers({"Authorization": "Basic eDp5"}))
            assert auth.answer(ClientErrorResponse.received(401, fields, b"", sent, 0.0))
            auth(sent)
            counts.append(parameters(sent.headers["authorization"])["nc"])
        assert counts == ["00000001", "00000002"]

    def test_garbage_takes_no_time(self) -> None:
        for garbage in ('"' * 30_000, "a=" * 30_000, "a " * 30_000, 'a="\\' * 15_000, "=" * 60_000):
            assert self.answered(f"Digest {garbage}") is None

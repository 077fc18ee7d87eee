"""What a test is answered: a response as a client sees it."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO

from ..errors import REASONS, UnsupportedMediaType
from ..headers import Headers, parse_parameters
from ..request import Request

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self


class TestResponse:
    """A response.

    `status_code`, and `headers` (Headers) as the server sends them; `request` is the Request as the
    handler saw it, `url` the absolute URL asked for. `cookies` are those that it sets, by name;
    `interim` the responses before it, each (status, Headers); `history` the redirects that led to
    it, the first one first. `closes` tells whether the server would close the connection.

    With ``stream=True`` the content is produced as the response is iterated over, each piece as the
    handler yielded it. `close`, or leaving it as a context manager, is then what a client does that
    has had enough. Reading the content otherwise reads all that is left.
    """

    __test__ = False  # so that pytest does not take it for a class of tests

    def __init__(
        self, request: Request, url: str, status_code: int, headers: Headers, pieces: Content
    ) -> None:
        self.request = request
        self.url = url
        self.status_code = status_code
        self.headers = headers
        self.cookies: dict[str, str] = {}
        self.interim: list[tuple[int, Headers]] = []
        self.history: list[TestResponse] = []
        self._pieces = pieces
        self._raw: bytes | None = None
        self._decoded: bytes | None = None

    def __repr__(self) -> str:
        return f"<TestResponse {self.status_code} {self.reason}>"

    @property
    def reason(self) -> str:
        """The reason phrase of the status, "" for one that has none."""
        return REASONS.get(self.status_code, "")

    @property
    def closes(self) -> bool:
        """Whether the server would close the connection behind it."""
        return "close" in self.headers.get("connection", "").lower()

    # The content.

    @property
    def raw(self) -> bytes:
        """The content as it is sent, without the framing of its chunks.

        Raises what the handler's stream raises, or Disconnected in its place.
        """
        if self._raw is None:
            self._raw = b"".join(self._pieces)
        return self._raw

    @property
    def body(self) -> bytes:
        """The content, out of the coding that it was sent in, unless that is not known.

        Raises as `raw`, and ValueError if it is not in that coding.
        """
        if self._decoded is None:
            self._decoded = raw = self.raw
            codings = self.headers.get("content-encoding")
            if raw and codings is not None:
                from ..client.decoding import decoded, decoders

                stages = decoders(codings)
                if stages is not None:
                    self._decoded = b"".join(decoded(stages, raw))
                    for stage in stages:
                        stage.finish()
        return self._decoded

    @property
    def trailers(self) -> Headers | None:
        """The fields that followed the content (RFC 9110 §6.5), None while it is not read."""
        return self._pieces.trailers

    @property
    def content_type(self) -> str:
        """The media type in lower case, "" for none."""
        return self.headers.get("content-type", "").partition(";")[0].strip(" \t").lower()

    @property
    def is_text(self) -> bool:
        """Whether the content is one of text."""
        return self.content_type.startswith("text/") or self.is_json

    @property
    def is_json(self) -> bool:
        """Whether the content says that it is JSON."""
        return self.content_type == "application/json" or self.content_type.endswith("+json")

    @property
    def text(self) -> str:
        """The content as text in its charset, which is UTF-8 if it names none.

        Raises UnicodeDecodeError if it is something else.
        """
        value = self.headers.get("content-type")
        charset = parse_parameters(value)[1].get("charset", "utf-8") if value else "utf-8"
        return self.body.decode(charset)

    def json(self) -> Any:
        """Return the value of content in JSON; raises ValueError if it is something else."""
        from json import loads

        return loads(self.body)

    @property
    def payload(self) -> Any:
        """What the content means, by its type.

        The value of JSON, the text of text, the message of a type that has a codec (see
        `register_message_codec`), other content as bytes; None if there is none.
        """
        if not self.body:
            return None
        if self.is_json:
            return self.json()
        if self.is_text:
            return self.text
        message = Request(
            ("", 0), "POST", "/", headers={"Content-Type": self.content_type or "unknown/unknown"}
        )
        message.stream = BytesIO(self.body)
        try:
            return message.message()
        except UnsupportedMediaType:
            return self.body

    # The content as it comes.

    def __iter__(self) -> Iterator[bytes]:
        """Return the pieces of the content that have not been read."""
        return iter(self._pieces) if self._raw is None else iter((self._raw,))

    def close(self) -> None:
        """Leave, as a client does that wants no more of it; what was not read is lost."""
        self._pieces.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class Content(Iterator[bytes]):
    """The pieces of a response's content, which can be closed."""

    @property
    def trailers(self) -> Headers | None:
        """What followed them."""
        return None

    def close(self) -> None:
        """Produce no more of them."""
        raise NotImplementedError

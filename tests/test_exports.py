"""The public names, so that none is lost or added by accident."""

from __future__ import annotations

import inspect

import pytest

import resource_server

NAMES = [
    "SAME_ORIGIN",
    "BadGateway",
    "BadRequest",
    "Cancelled",
    "ClientError",
    "ClientResponse",
    "ClientWebSocket",
    "Conflict",
    "ConnectError",
    "ContentTooLarge",
    "Converter",
    "Disconnected",
    "ErrorResponse",
    "Event",
    "EventChannel",
    "EventStream",
    "ExpectationFailed",
    "FieldError",
    "FileResource",
    "FileResponse",
    "Forbidden",
    "Form",
    "GatewayTimeout",
    "Gone",
    "HTMLResponse",
    "HTTPClient",
    "HTTPError",
    "HTTPNotImplemented",
    "HTTPServer",
    "HTTPVersionNotSupported",
    "HandshakeError",
    "Headers",
    "InternalServerError",
    "JsonResponse",
    "LatestFrame",
    "LengthRequired",
    "Limits",
    "MethodNotAllowed",
    "MisdirectedRequest",
    "NetworkAuthenticationRequired",
    "NotAcceptable",
    "NotFound",
    "PatternError",
    "PaymentRequired",
    "PreconditionFailed",
    "PreconditionRequired",
    "ProtocolError",
    "ProxyAuthenticationRequired",
    "RangeNotSatisfiable",
    "Reconnect",
    "Redirect",
    "RegistrationError",
    "Request",
    "RequestHandle",
    "RequestHeaderFieldsTooLarge",
    "RequestTimeout",
    "Resource",
    "ResourceServerError",
    "Response",
    "Router",
    "SerializableResponse",
    "ServiceUnavailable",
    "StreamResponse",
    "TLSError",
    "TextResponse",
    "Timeout",
    "TooLarge",
    "TooManyRedirects",
    "TooManyRequests",
    "URITooLong",
    "Unauthorized",
    "UnavailableForLegalReasons",
    "UnprocessableContent",
    "UnsupportedMediaType",
    "UpgradeRequired",
    "UploadProgress",
    "UploadedFile",
    "WebSocketClosed",
    "WebSocketGroup",
    "WebSocketOpCode",
    "WebSocketRefused",
    "WebSocketRequest",
    "WebSocketSession",
    "compression",
    "conditional",
    "WritableFileResource",
    "delete",
    "get",
    "head",
    "header",
    "options",
    "param",
    "patch",
    "path_join_safe",
    "post",
    "put",
    "register_message_codec",
    "route",
    "websocket",
    "websocket_session",
]

#: Those of an extra: not imported by "import *", which works without it.
EXTRA_NAMES = ["Serializable", "SerializableEnum", "SerializableError"]


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]


def print_nothing() -> None: ...


def test_these_are_the_public_names() -> None:
    assert sorted(resource_server.__all__) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_can_be_imported(name: str) -> None:
    assert getattr(resource_server, name) is not None
    assert name in dir(resource_server)


@pytest.mark.parametrize("name", EXTRA_NAMES)
def test_those_of_an_extra_can_be_imported_with_it(name: str) -> None:
    pytest.importorskip("msgspec")
    assert name not in resource_server.__all__
    assert getattr(resource_server, name).__name__ == name


def test_what_is_no_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        _ = resource_server.nonsense


def test_the_version_is_told() -> None:
    assert resource_server.__version__.count(".") == 2


class TestReference:
    """The names and signatures of the reference keep their spelling."""

    def test_functions(self) -> None:
        assert parameters(resource_server.path_join_safe) == ["root_directory", "filename"]
        for name in ("get", "delete", "websocket", "websocket_session"):
            assert parameters(getattr(resource_server, name))[:1] == ["path"]
        for name in ("put", "post"):
            decorator = getattr(resource_server, name)
            assert parameters(decorator)[:2] == ["path", "max_content_length"]
            default = inspect.signature(decorator).parameters["max_content_length"].default
            assert default == 5242880
        for name in ("header", "param"):
            assert parameters(getattr(resource_server, name))[0] == name
        decorate = resource_server.header(header="X-Key")
        assert resource_server.param(param="limit")(decorate(print_nothing)) is print_nothing
        expected = [(code.name, code) for code in resource_server.WebSocketOpCode]
        assert expected == [
            ("Text", 1),
            ("Binary", 2),
            ("Close", 8),
            ("Ping", 9),
            ("Pong", 10),
            ("Open", 255),
        ]

    @pytest.mark.parametrize(
        ("name", "names"),
        [
            ("Request", ["addr", "method", "path", "params", "fragment", "headers", "stream"]),
            ("Response", ["payload", "status_code", "headers", "compress"]),
            ("ErrorResponse", ["obj", "status_code", "headers"]),
            ("JsonResponse", ["obj", "status_code", "headers"]),
            ("SerializableResponse", ["obj", "status_code", "headers"]),
            ("StreamResponse", ["iterator", "status_code", "headers", "compress"]),
            ("HTTPServer", ["addr", "privkey", "cert"]),
            ("HTTPClient", ["addr", "protocol"]),
        ],
    )
    def test_constructors(self, name: str, names: list[str]) -> None:
        positional = [
            parameter.name
            for parameter in inspect.signature(getattr(resource_server, name)).parameters.values()
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
        ]
        assert positional == names

    @pytest.mark.parametrize(
        ("name", "attributes"),
        [
            ("Resource", "routes"),
            (
                "Request",
                "client_address fragment headers matches method params path stream json message",
            ),
            ("Router", "dispatch registerRoutes"),
            ("HTTPServer", "registerRoutes routes run"),
            ("HTTPClient", "delete get getResponses pending post put start stop update"),
        ],
    )
    def test_attributes(self, name: str, attributes: str) -> None:
        for attribute in attributes.split():
            assert hasattr(getattr(resource_server, name), attribute), attribute

    @pytest.mark.parametrize("name", ["Router", "HTTPServer"])
    def test_the_camel_case_names_are_aliases(self, name: str) -> None:
        cls = getattr(resource_server, name)
        assert cls.registerRoutes is cls.register_routes

    def test_the_methods_of_the_client(self) -> None:
        client = resource_server.HTTPClient
        assert client.getResponses is client.get_responses
        for name in ("get", "delete"):
            expected = ["self", "path", "query", "headers", "callback"]
            assert parameters(getattr(client, name))[:5] == expected
        for name in ("put", "post"):
            expected = ["self", "path", "payload", "query", "headers", "callback"]
            assert parameters(getattr(client, name))[:6] == expected

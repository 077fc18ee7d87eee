"""The note board of scripts/demo, as programs use it; tests/browser has what people see."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from resource_server import Request, Router
from scripts.demo.app import MAX_NOTES, MAX_TEXT_LENGTH, app

if TYPE_CHECKING:
    from collections.abc import Callable

    from resource_server import Response

    Ask = Callable[..., tuple[Response, Any]]


@pytest.fixture
def board() -> Router:
    return app()


@pytest.fixture
def ask(board: Router) -> Ask:
    """Send a request with JSON: ``ask(method, path, content) -> (response, its JSON)``."""

    def ask(
        method: str, path: str, content: object = None, content_type: str = "application/json"
    ) -> tuple[Response, Any]:
        stream = io.BytesIO(b"" if content is None else json.dumps(content).encode())
        headers = {"Content-Type": content_type}
        request = Request(("127.0.0.1", 50000), method, path, headers=headers, stream=stream)
        response = board.dispatch(request)
        return response, json.loads(response.body) if response.body else None

    return ask


def test_a_note_can_be_made_read_changed_and_deleted(ask: Ask) -> None:
    response, note = ask("POST", "/api/notes", {"text": " Buy milk ", "color": "green"})
    assert response.status_code == 201
    assert (note["text"], note["color"]) == ("Buy milk", "green")
    place = response.headers["Location"]
    assert ask("GET", place)[1] == note

    changed = ask("PUT", place, {"text": "Buy bread"})[1]
    assert (changed["text"], changed["color"]) == ("Buy bread", "yellow")
    assert changed["created"] == note["created"]
    assert ask("GET", "/api/notes")[1] == {"notes": [changed]}

    assert ask("DELETE", place)[0].status_code == 204
    assert ask("GET", "/api/notes")[1] == {"notes": []}


def test_the_newest_note_comes_first(ask: Ask) -> None:
    for text in ("one", "two", "three"):
        ask("POST", "/api/notes", {"text": text})
    assert [note["text"] for note in ask("GET", "/api/notes")[1]["notes"]] == [
        "three",
        "two",
        "one",
    ]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_a_note_that_does_not_exist_is_told_in_json(ask: Ask, method: str) -> None:
    response, told = ask(method, "/api/notes/7", {"text": "x"})
    assert response.status_code == told["status"] == 404
    assert "no such note" in told["message"]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([], "Send an object"),
        ({}, "needs some text"),
        ({"text": 5}, "needs some text"),
        ({"text": " \n"}, "needs some text"),
        ({"text": "x" * (MAX_TEXT_LENGTH + 1)}, f"at most {MAX_TEXT_LENGTH} characters"),
        ({"text": "x", "color": "black"}, "The color is one of"),
        ({"text": "x", "color": ["pink"]}, "The color is one of"),
    ],
)
def test_what_is_no_note_is_refused_with_a_reason(ask: Ask, content: object, expected: str) -> None:
    response, told = ask("POST", "/api/notes", content)
    assert response.status_code == 422
    assert expected in told["message"]


def test_what_a_form_of_another_site_could_send_is_refused(ask: Ask) -> None:
    response, _ = ask("POST", "/api/notes", {"text": "x"}, "text/plain")
    assert response.status_code == 415


def test_a_full_board_is_told(ask: Ask) -> None:
    for _ in range(MAX_NOTES):
        assert ask("POST", "/api/notes", {"text": "x"})[0].status_code == 201
    response, told = ask("POST", "/api/notes", {"text": "x"})
    assert response.status_code == 409
    assert "full" in told["message"]


def test_many_threads_may_write_at_once(ask: Ask) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: ask("POST", "/api/notes", {"text": "x"})[1], range(200)))
    assert len({note["id"] for note in made}) == 200
    assert len(ask("GET", "/api/notes")[1]["notes"]) == 200


def test_the_page_may_load_nothing_from_elsewhere(board: Router) -> None:
    for path in ("/", "/board.js", "/board.css", "/icon.svg"):
        response = board.dispatch(Request(("127.0.0.1", 50000), "GET", path))
        assert response.status_code == 200
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        response.close()

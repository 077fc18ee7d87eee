"""The note board of scripts/demo, as programs use it; tests/browser has what people see."""

from __future__ import annotations

import io
import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests
from websocket import ABNF, WebSocketBadStatusException, create_connection

from resource_server import Request, Router
from scripts.demo.app import (
    MAX_NAME_LENGTH,
    MAX_NOTES,
    MAX_TEXT_LENGTH,
    MAX_VISITORS,
    NAMES,
    Board,
    app,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resource_server import HTTPServer, Response
    from tests.conftest import Serve

    Ask = Callable[..., tuple[Response, Any]]
    OpenPage = Callable[..., "Page"]

#: Seconds until what is waited for has to be there.
PATIENCE = 30.0


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
    for path in ("/", "/asking.js", "/attachments.js", "/board.js", "/board.css", "/icon.svg"):
        response = board.dispatch(Request(("127.0.0.1", 50000), "GET", path))
        assert response.status_code == 200
        assert "default-src 'self'" in response.headers["Content-Security-Policy"]
        response.close()


class Page:
    """An open page: what its WebSocket has told it."""

    def __init__(self, server: HTTPServer, name: str = "", **options: Any) -> None:
        url = f"{server.url.replace('http', 'ws', 1)}/api/live?name={quote(name)}"
        # It is valid UTF-8 that is decoded; that each byte is looked at in Python beforehand, while
        # coverage is traced, takes the better part of a minute for a full board.
        options["skip_utf8_validation"] = True
        self.socket = create_connection(url, timeout=PATIENCE, **options)
        self.notes: dict[int, Any] = {}
        self.people: list[str] = []
        self.files: list[str] | None = None
        self.name = ""
        self.hear_until(lambda: self.loaded)

    loaded = False

    def hear_until(self, condition: Callable[[], object]) -> None:
        while not condition():
            for what, told in json.loads(self.socket.recv()).items():
                getattr(self, f"hear_{what}")(told)

    def hear_until_notes_are(self, notes: dict[int, Any]) -> None:
        self.hear_until(lambda: self.notes == notes)

    def hear_of(self, note: dict[str, Any]) -> None:
        self.hear_until(lambda: self.notes.get(note["id"]) == note)

    def hear_until_files_are(self, *names: str) -> None:
        self.hear_until(lambda: self.files == list(names))

    def hear_until_people_are(self, *names: str) -> None:
        self.hear_until(lambda: self.people == list(names))

    def hear_notes(self, notes: list[Any]) -> None:
        self.notes = {note["id"]: note for note in notes}
        self.loaded = True

    def hear_note(self, note: Any) -> None:
        older = self.notes.get(note["id"], note)
        assert older["changed"] <= note["changed"], "a change came before one that was made earlier"
        self.notes[note["id"]] = note

    def hear_gone(self, number: int) -> None:
        del self.notes[number]

    def hear_files(self, files: list[Any]) -> None:
        self.files = [file["name"] for file in files]

    def hear_people(self, names: list[str]) -> None:
        self.people = names

    def hear_you(self, name: str) -> None:
        self.name = name

    def hear_close(self) -> int:
        """Return the code with which the server closes."""
        while True:
            opcode, payload = self.socket.recv_data(control_frame=True)
            if opcode == ABNF.OPCODE_CLOSE:
                assert self.socket.sock is not None
                self.socket.sock.close()  # its Close has been sent
                return int.from_bytes(payload[:2], "big")


@pytest.fixture
def server(board: Router, serve: Serve) -> HTTPServer:
    return serve(board)


@pytest.fixture
def open_page(server: HTTPServer) -> Iterator[OpenPage]:
    """Open pages of the board: ``open_page(name="", **options of create_connection) -> Page``."""
    with ExitStack() as pages:

        def start(name: str = "", **options: Any) -> Page:
            page = Page(server, name, **options)
            pages.callback(page.socket.shutdown)
            return page

        yield start


@pytest.fixture
def restless() -> Iterator[None]:
    """Let threads take turns so often that what they do at once gets mixed."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def notes_of(ask: Ask) -> dict[int, Any]:
    """The notes as REST tells them."""
    return {note["id"]: note for note in ask("GET", "/api/notes")[1]["notes"]}


def test_every_open_page_hears_of_each_change(ask: Ask, open_page: OpenPage) -> None:
    old = ask("POST", "/api/notes", {"text": "old"})[1]
    pages = [open_page(), open_page()]
    for page in pages:
        assert page.notes == {old["id"]: old}

    new = ask("POST", "/api/notes", {"text": "new", "color": "pink"})[1]
    for page in pages:
        page.hear_until_notes_are({old["id"]: old, new["id"]: new})

    newer = ask("PUT", f"/api/notes/{new['id']}", {"text": "newer"})[1]
    ask("DELETE", f"/api/notes/{old['id']}")
    for page in pages:
        page.hear_until_notes_are({new["id"]: newer})


def test_pages_that_open_amid_changes_miss_none(
    ask: Ask, open_page: OpenPage, restless: None
) -> None:
    shared = ask("POST", "/api/notes", {"text": "shared"})[1]["id"]

    def change(number: int) -> None:
        note = ask("POST", "/api/notes", {"text": str(number)})[1]
        ask("PUT", f"/api/notes/{shared}", {"text": f"shared, changed by {number}"})
        if number % 3 == 0:
            ask("DELETE", f"/api/notes/{note['id']}")

    with ThreadPoolExecutor(4) as writers, ThreadPoolExecutor(4) as readers:
        written = writers.map(change, range(200))
        pages = list(readers.map(lambda _: open_page(), range(30)))
        list(written)
    last = ask("POST", "/api/notes", {"text": "last"})[1]
    for page in pages:
        page.hear_of(last)
        assert page.notes == notes_of(ask)


def test_a_page_that_comes_back_after_a_restart_is_up_to_date(
    ask: Ask, server: HTTPServer, open_page: OpenPage
) -> None:
    ask("POST", "/api/notes", {"text": "before"})
    page = open_page("Ann")
    with ThreadPoolExecutor() as pool:
        stopped = pool.submit(server.stop)
        assert page.hear_close() == 1001
    assert stopped.result()
    ask("POST", "/api/notes", {"text": "meanwhile"})
    server.start()
    back = open_page(page.name)
    assert [note["text"] for note in back.notes.values()] == ["before", "meanwhile"]
    assert back.people == ["Ann"]


def test_pages_know_who_else_is_there(open_page: OpenPage) -> None:
    ann, bea = open_page("Ann"), open_page("bea")
    for page in (ann, bea):
        page.hear_until_people_are("Ann", "bea")
    bea.socket.send("Cleo")
    for page in (ann, bea):
        page.hear_until_people_are("Ann", "Cleo")
    assert bea.name == "Cleo"
    bea.socket.close()
    ann.hear_until_people_are("Ann")


def test_who_is_cut_off_leaves_too(open_page: OpenPage) -> None:
    ann, bea = open_page("Ann"), open_page("Bea")
    ann.hear_until_people_are("Ann", "Bea")
    assert bea.socket.sock is not None
    bea.socket.sock.close()
    ann.hear_until_people_are("Ann")


def test_who_has_no_name_gets_a_friendly_one_of_his_own(open_page: OpenPage) -> None:
    names = [open_page(wish).name for wish in ("", " ", "\t\n", "\u202e")]
    assert set(names) <= set(NAMES)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("wish", "name"),
    [
        ("<b>Ann</b>", "<b>Ann</b>"),
        ("  Ann\u202e\nLee ", "AnnLee"),
        ("ä" * (MAX_NAME_LENGTH + 1), "ä" * MAX_NAME_LENGTH),
        ("🙂" * MAX_NAME_LENGTH, "🙂" * MAX_NAME_LENGTH),
    ],
)
def test_a_name_is_short_and_can_be_shown(open_page: OpenPage, wish: str, name: str) -> None:
    assert open_page(wish).name == name
    page = open_page("Ann")
    page.socket.send(wish[:MAX_NAME_LENGTH])
    page.hear_until_people_are(*sorted([name, name]))


def test_what_is_no_name_closes(open_page: OpenPage) -> None:
    page = open_page()
    page.socket.send("x" * (4 * MAX_NAME_LENGTH + 1))
    assert page.hear_close() == 1009
    page = open_page()
    page.socket.send_binary(b"Ann")
    assert page.hear_close() == 1003


def test_pages_of_other_sites_hear_nothing(open_page: OpenPage) -> None:
    with pytest.raises(WebSocketBadStatusException) as caught:
        open_page(origin="http://elsewhere.example")
    assert caught.value.status_code == 403


def test_too_many_visitors_are_told(open_page: OpenPage) -> None:
    pages = [open_page() for _ in range(MAX_VISITORS)]
    with pytest.raises(WebSocketBadStatusException) as caught:
        open_page()
    assert caught.value.status_code == 503
    assert caught.value.resp_body is not None
    assert "Too many people" in json.loads(caught.value.resp_body)["message"]
    pages[0].socket.close()
    other = pages[1]
    other.hear_until(lambda: len(other.people) == MAX_VISITORS)
    other.hear_until(lambda: len(other.people) == MAX_VISITORS - 1)
    open_page()


def test_a_full_board_reaches_a_page(ask: Ask, open_page: OpenPage) -> None:
    # Each character as long as JSON can make it; a lone surrogate is one that text cannot hold.
    text = "😀" * (MAX_TEXT_LENGTH - 1) + "\ud800"
    for _ in range(MAX_NOTES):
        ask("POST", "/api/notes", {"text": text})
    page = open_page()
    assert len(page.notes) == MAX_NOTES
    assert page.notes == notes_of(ask)


class TestAttachments:
    @pytest.fixture
    def url(self, server: HTTPServer) -> str:
        return f"{server.url}/files/"

    def upload(self, url: str, name: str, content: bytes = b"content", **fields: str) -> Any:
        headers = {"Accept": "application/json", **fields}
        return requests.post(
            url, files={"file": (name, content)}, headers=headers, timeout=PATIENCE
        )

    def test_every_page_hears_of_what_comes_and_goes(self, url: str, open_page: OpenPage) -> None:
        assert self.upload(url, "one.txt").status_code == 201
        pages = [open_page(), open_page()]
        for page in pages:
            page.hear_until_files_are("one.txt")
        made = self.upload(url, "two.txt").json()
        for page in pages:
            page.hear_until_files_are("one.txt", "two.txt")
        assert requests.delete(url.removesuffix("/files/") + made[0]["url"], timeout=PATIENCE).ok
        for page in pages:
            page.hear_until_files_are("one.txt")

    def test_a_name_that_is_taken_gets_a_number(self, url: str) -> None:
        names = [self.upload(url, "photo.jpg").json()[0]["name"] for _ in range(2)]
        assert names == ["photo.jpg", "photo (1).jpg"]

    def test_no_file_runs_as_a_page_of_the_board(self, url: str) -> None:
        self.upload(url, "page.html", b"<script>alert(1)</script>")
        answer = requests.get(f"{url}page.html", timeout=PATIENCE)
        assert answer.headers["Content-Security-Policy"] == "sandbox"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"

    def test_a_video_is_sent_in_parts(self, url: str) -> None:
        self.upload(url, "clip.webm", bytes(range(256)) * 1000)
        answer = requests.get(
            f"{url}clip.webm", headers={"Range": "bytes=1000-1009"}, timeout=PATIENCE
        )
        assert answer.status_code == 206
        assert answer.headers["Content-Type"] == "video/webm"
        assert answer.content == (bytes(range(256)) * 4)[1000:1010]

    def test_pages_of_other_sites_upload_nothing(self, url: str) -> None:
        answer = self.upload(url, "x.txt", Origin="http://elsewhere.example")
        assert answer.status_code == answer.json()["status"] == 403

    def test_files_are_added_by_form_only(self, url: str) -> None:
        assert requests.put(f"{url}x.txt", b"x", timeout=PATIENCE).status_code == 405

    def test_there_are_not_too_many(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("scripts.demo.app.MAX_FILES", 2)
        statuses = [self.upload(url, f"{number}.txt").status_code for number in range(3)]
        assert statuses == [201, 201, 409]

    def test_the_directory_goes_with_the_board(self) -> None:
        board = Board()
        directory = board.attachments.root
        assert os.path.isdir(directory)
        del board
        assert not os.path.exists(directory)

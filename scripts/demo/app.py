"""A note board that several people share: REST under /api/notes, and a page that uses it.

Files may be pinned to it as well, under /files. A WebSocket, /api/live, tells every open page of
each change at once, and of who else is there.

Start it with: python3 -m resource_server scripts/demo/app.py:app
"""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
import threading
import time
import weakref
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from resource_server import (
    Conflict,
    FileResource,
    HTTPError,
    JsonResponse,
    NotFound,
    Request,
    Resource,
    Response,
    Router,
    ServiceUnavailable,
    UnprocessableContent,
    UnsupportedMediaType,
    WebSocketGroup,
    WebSocketOpCode,
    WebSocketRequest,
    WritableFileResource,
    delete,
    get,
    post,
    put,
    websocket,
)
from resource_server.media_types import content_type_of
from resource_server.response import Handler

STATIC = Path(__file__).with_name("static")

MAX_NOTES = 500
MAX_TEXT_LENGTH = 2000
#: Bytes of a request's body: the longest text, each character escaped as JSON may, and the rest.
MAX_BODY = 12 * MAX_TEXT_LENGTH + 1000
COLORS = ("yellow", "green", "blue", "pink")

MAX_FILES = 100
#: Bytes of one file, and of all of them.
MAX_FILE_SIZE = 2_000_000_000
QUOTA = 4_000_000_000

MAX_VISITORS = 100
MAX_NAME_LENGTH = 30
ADJECTIVES = ("Brave", "Calm", "Clever", "Gentle", "Happy", "Merry", "Quiet", "Swift")
ANIMALS = ("Badger", "Crane", "Dolphin", "Fox", "Hedgehog", "Lynx", "Otter", "Panda", "Robin")
NAMES = [f"{adjective} {animal}" for adjective in ADJECTIVES for animal in ANIMALS]


@dataclass(frozen=True, slots=True)
class Note:
    """A note; times are in seconds since the epoch."""

    id: int
    text: str
    color: str
    created: float
    changed: float


class Audience:
    """Who has the page open; any thread may call any method, and none waits for a slow page."""

    def __init__(self) -> None:
        self._pages = WebSocketGroup()
        self._lock = threading.Lock()  # guards the names, and that the last list sent is right
        self._names: dict[WebSocketRequest, str] = {}

    def tell(self, **news: object) -> None:
        """Send news to every open page."""
        self._pages.send(json.dumps(news))

    def add(self, page: WebSocketRequest, name: str) -> None:
        """Let a visitor in; raises ServiceUnavailable when there are too many."""
        with self._lock:
            if len(self._names) >= MAX_VISITORS:
                raise ServiceUnavailable("Too many people look at the board.")
            self._pages.add(page)  # which it leaves by itself
            self._name(page, name)

    def rename(self, page: WebSocketRequest, name: str) -> None:
        """Give a visitor another name."""
        with self._lock:
            self._name(page, name)

    def remove(self, page: WebSocketRequest) -> None:
        """Forget a visitor, if it was let in."""
        with self._lock:
            if self._names.pop(page, None):
                self._tell_names()

    def _name(self, page: WebSocketRequest, wish: str) -> None:
        """Name a visitor as it wishes, if that can be shown, or else friendly."""
        name = "".join(filter(str.isprintable, wish))[:MAX_NAME_LENGTH].strip()
        if not name:
            free = [name for name in NAMES if name not in self._names.values()]
            name = random.choice(free or NAMES)
        self._names[page] = name
        page.send(json.dumps({"you": name}))
        self._tell_names()

    def _tell_names(self) -> None:
        self.tell(people=sorted(self._names.values(), key=str.casefold))


class Attachments(WritableFileResource):
    """The files on the board, in a directory that goes with it; any thread may call any method.

    Every page is told of all of them whenever one is added or removed.
    """

    def __init__(self, audience: Audience) -> None:
        directory = tempfile.mkdtemp(prefix="note-board-")
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        super().__init__(
            directory, max_file_size=MAX_FILE_SIZE, quota=QUOTA, collision="rename", index=""
        )
        self.audience = audience
        self._telling = threading.Lock()  # so that the last list sent is right

    #: The page has no use for it.
    put_file = None  # type: ignore[assignment]

    def all(self) -> list[dict[str, object]]:
        """Return name, size, type and URL of each file, the oldest first."""
        with os.scandir(self.root) as entries:
            found = [(entry.stat(), entry.name) for entry in entries if entry.name[0] != "."]
        found.sort(key=lambda each: each[0].st_mtime_ns)
        return [
            {
                "name": name,
                "size": status.st_size,
                "type": content_type_of(name),
                "url": f"/files/{quote(name)}",
            }
            for status, name in found
        ]

    def welcome(self, page: WebSocketRequest) -> None:
        """Show the files to a page that opens."""
        with self._telling:
            page.send(json.dumps({"files": self.all()}))

    def telling(self, handler: Handler) -> Handler:
        """Tell the pages what a request has changed, and let no file run as a page of the board."""

        def answer(request: Request) -> Response:
            changes = request.method in ("POST", "DELETE")
            if request.method == "POST" and len(self.all()) >= MAX_FILES:
                raise Conflict("There are too many files. Delete one first.")
            response = handler(request)
            if changes and response.status_code < 300:
                with self._telling:
                    self.audience.tell(files=self.all())
            response.headers["Content-Security-Policy"] = "sandbox"
            return response

        return answer


class Board:
    """The notes, in memory, bounded in number and size; any thread may call any method.

    A page gets the whole board when it opens its WebSocket, and each change after that. The lock is
    held while that is sent, so everybody hears of all changes, in the order in which they are made.
    """

    def __init__(self) -> None:
        self.audience = Audience()
        self.attachments = Attachments(self.audience)
        self._lock = threading.Lock()  # guards the two below
        self._notes: dict[int, Note] = {}
        # Not from 1: a page that was open while the server was started again must not take a new
        # note for an old one.
        self._next_id = int(time.time())

    def welcome(self, page: WebSocketRequest, name: str) -> None:
        """Show the board to a visitor, and whatever happens on it from now on."""
        with self._lock:
            self.audience.add(page, name)
            page.send(json.dumps({"notes": [asdict(note) for note in self._notes.values()]}))
        self.attachments.welcome(page)

    def all(self) -> list[Note]:
        """Return all notes, the newest first."""
        with self._lock:
            return list(reversed(self._notes.values()))

    def read(self, number: int) -> Note:
        """Return a note; raises NotFound."""
        with self._lock:
            return self._existing(number)

    def add(self, text: str, color: str) -> Note:
        """Pin a new note; raises Conflict when the board is full."""
        now = time.time()
        with self._lock:
            if len(self._notes) >= MAX_NOTES:
                raise Conflict("The board is full. Delete a note first.")
            note = Note(self._next_id, text, color, now, now)
            self._notes[note.id] = note
            self._next_id += 1
            self.audience.tell(note=asdict(note))
        return note

    def change(self, number: int, text: str, color: str) -> Note:
        """Replace text and color of a note; raises NotFound."""
        with self._lock:
            note = replace(self._existing(number), text=text, color=color, changed=time.time())
            self._notes[number] = note
            self.audience.tell(note=asdict(note))
        return note

    def remove(self, number: int) -> None:
        """Take a note off the board; raises NotFound."""
        with self._lock:
            self._existing(number)
            del self._notes[number]
            self.audience.tell(gone=number)

    def _existing(self, number: int) -> Note:
        try:
            return self._notes[number]
        except KeyError:
            raise NotFound("There is no such note. Somebody may have deleted it.") from None


class NotesApi(Resource):
    """The board as JSON, and live."""

    def __init__(self, board: Board) -> None:
        self.board = board

    @get("/notes")
    def read_all(self, request: Request) -> Response:
        """All notes, the newest first."""
        return JsonResponse({"notes": [asdict(note) for note in self.board.all()]})

    @post("/notes", max_content_length=MAX_BODY)
    def create(self, request: Request) -> Response:
        """Pin a note: {"text": ..., "color": ...}."""
        note = self.board.add(*_content(request))
        return JsonResponse(asdict(note), 201, {"Location": f"/api/notes/{note.id}"})

    @get("/notes/:id(int)")
    def read(self, request: Request) -> Response:
        """Read one note."""
        return JsonResponse(asdict(self.board.read(request.matches["id"])))

    @put("/notes/:id(int)", max_content_length=MAX_BODY)
    def write(self, request: Request) -> Response:
        """Replace a note's text and color."""
        return JsonResponse(asdict(self.board.change(request.matches["id"], *_content(request))))

    @delete("/notes/:id(int)")
    def remove(self, request: Request) -> None:
        """Delete a note."""
        self.board.remove(request.matches["id"])

    @websocket(
        "/live",
        max_message_size=4 * MAX_NAME_LENGTH,  # bytes
        # Room for the whole board. A page that reads too slowly is cut off, rather than anybody
        # waits for it: when it comes back it gets the board anew.
        max_buffered=MAX_NOTES * MAX_BODY,
        overflow="close",
    )
    def live(
        self, request: WebSocketRequest, opcode: WebSocketOpCode, payload: str | bytes
    ) -> None:
        """Tell a page what happens. All that it says itself is the name of its visitor."""
        match opcode, payload:
            case WebSocketOpCode.Open, _:
                self.board.welcome(request, request.query.get("name", ""))
            case WebSocketOpCode.Text, str(name):
                self.board.audience.rename(request, name)
            case WebSocketOpCode.Close, _:
                self.board.audience.remove(request)
            case _:
                request.close(1003, "Send a name, as text.")


def _content(request: Request) -> tuple[str, str]:
    """Return the text and color that the client sent, or raise what is wrong with them."""
    if request.content_type != "application/json":
        # A form on a foreign page cannot send this type, so no such page can write here.
        raise UnsupportedMediaType("Send JSON, with Content-Type: application/json.")
    sent: Any = request.json()
    if not isinstance(sent, dict):
        raise UnprocessableContent("Send an object with a text and a color.")
    text, color = sent.get("text"), sent.get("color", COLORS[0])
    if not isinstance(text, str) or not text.strip():
        raise UnprocessableContent("A note needs some text.")
    if len(text) > MAX_TEXT_LENGTH:
        raise UnprocessableContent(f"A note has at most {MAX_TEXT_LENGTH} characters.")
    if color not in COLORS:
        raise UnprocessableContent(f"The color is one of: {', '.join(COLORS)}.")
    return text.strip(), color


def as_json(request: Request, error: BaseException) -> Response:
    """Tell a program of an error as JSON, whatever it accepts."""
    assert isinstance(error, HTTPError)
    told = {"status": error.status_code, "error": error.reason, "message": error.message}
    return JsonResponse(told, error.status_code, error.headers)


def only_our_own(handler: Handler) -> Handler:
    """Let the page load nothing from elsewhere, and run no script that is in its text."""

    def answer(request: Request) -> Response:
        response = handler(request)
        headers = response.headers
        if "Content-Security-Policy" not in headers:
            headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'"
        headers["Cache-Control"] = "no-cache"
        return response

    return answer


def app() -> Router:
    """Make a board of its own, with everything that serves it."""
    board = Board()
    api = Router()
    api.register_routes(NotesApi(board))
    api.error_handler(HTTPError, as_json)
    files = Router(middlewares=[board.attachments.telling])
    files.register_routes(board.attachments)
    files.error_handler(HTTPError, as_json)
    router = Router(middlewares=[only_our_own])
    router.mount("/api", api)
    router.mount("/files", files)
    router.register_routes(FileResource(str(STATIC)))
    return router

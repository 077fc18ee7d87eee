"""A note board that several people share: REST under /api/notes, and a page that uses it.

Start it with: python3 -m resource_server scripts/demo/app.py:app
"""

from __future__ import annotations

import threading
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

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
    UnprocessableContent,
    UnsupportedMediaType,
    delete,
    get,
    post,
    put,
)
from resource_server.response import Handler

STATIC = Path(__file__).with_name("static")

MAX_NOTES = 500
MAX_TEXT_LENGTH = 2000
#: Bytes of a request's body: the longest text, each character escaped as JSON may, and the rest.
MAX_BODY = 12 * MAX_TEXT_LENGTH + 1000
COLORS = ("yellow", "green", "blue", "pink")


@dataclass(frozen=True, slots=True)
class Note:
    """A note; times are in seconds since the epoch."""

    id: int
    text: str
    color: str
    created: float
    changed: float


class Board:
    """The notes, in memory, bounded in number and size; any thread may call any method."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards the two below
        self._notes: dict[int, Note] = {}
        self._next_id = 1

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
        return note

    def change(self, number: int, text: str, color: str) -> Note:
        """Replace text and color of a note; raises NotFound."""
        with self._lock:
            note = replace(self._existing(number), text=text, color=color, changed=time.time())
            self._notes[number] = note
        return note

    def remove(self, number: int) -> None:
        """Take a note off the board; raises NotFound."""
        with self._lock:
            self._existing(number)
            del self._notes[number]

    def _existing(self, number: int) -> Note:
        try:
            return self._notes[number]
        except KeyError:
            raise NotFound("There is no such note. Somebody may have deleted it.") from None


class NotesApi(Resource):
    """The board as JSON."""

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
        response.headers["Content-Security-Policy"] = "default-src 'self'; frame-ancestors 'none'"
        response.headers["Cache-Control"] = "no-cache"
        return response

    return answer


def app() -> Router:
    """Make a board of its own, with everything that serves it."""
    api = Router()
    api.register_routes(NotesApi(Board()))
    api.error_handler(HTTPError, as_json)
    router = Router(middlewares=[only_our_own])
    router.mount("/api", api)
    router.register_routes(FileResource(str(STATIC)))
    return router

"""How far uploads have come, for other requests to ask: a page that shows a bar, for instance."""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict

from .errors import HTTPError

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    from .request import Request

#: The field in which a client names its upload, and the parameter of the query that may do it.
FIELD = "x-upload-id"
PARAMETER = "upload_id"
#: The client chooses the name at random: whoever knows it may ask. 16 characters cannot be guessed,
#: nobody needs more than 128.
_is_id = re.compile(r"[A-Za-z0-9_-]{16,128}").fullmatch
#: Uploads that are known at a time.
MAX_UPLOADS = 1000
#: Seconds that one is remembered after its end.
REMEMBERED = 60.0


class Progress:
    """How far an upload has come: a picture of one moment.

    `received` and `total` are bytes of the body as sent, `total` None if the client did not tell.
    `complete`: all of it has arrived. `ended`: its request has been answered, or its client has
    left; without `complete` it failed.
    """

    __slots__ = ("complete", "ended", "received", "total")

    def __init__(self, received: int, total: int | None, complete: bool, ended: bool) -> None:
        self.received = received
        self.total = total
        self.complete = complete
        self.ended = ended

    def __repr__(self) -> str:
        return (
            f"<Progress {self.received} of {self.total}, complete={self.complete},"
            f" ended={self.ended}>"
        )


class UploadProgress:
    """The uploads to some routes, by the names that their clients have chosen.

    ::

        uploads = UploadProgress()

        @post("/photos", progress=uploads)
        def upload(self, request): ...

        @get("/photos/progress/:id")
        def progress(self, request):
            state = uploads.get(request.matches["id"])
            return NotFound if state is None else {"received": state.received, "total": state.total}

    A client sends a name of 16 to 128 letters, digits, ``-`` or ``_``, which it makes up at random,
    as ``X-Upload-ID`` or as ``?upload_id=…``. Uploads without one, with the name of one that is
    under way, or beyond `max_uploads` are not followed. A finished one is remembered for
    `remembered` seconds, or until there are `max_uploads` younger ones.

    Any thread may call it: a lock guards the table, and what the engine counts is one number.
    """

    def __init__(self, *, max_uploads: int = MAX_UPLOADS, remembered: float = REMEMBERED) -> None:
        self._max_uploads = max_uploads
        self._remembered = remembered
        self._lock = threading.Lock()
        self._under_way: dict[str, _Upload] = {}
        # In the order in which they ended, with the moment at which they are forgotten.
        self._ended: OrderedDict[str, tuple[float, Progress]] = OrderedDict()

    def get(self, upload_id: str) -> Progress | None:
        """Return how far an upload has come, None if there is none of this name."""
        with self._lock:
            self._forget()
            upload = self._under_way.get(upload_id)
            if upload is not None:
                return upload.progress(ended=False)
            _, progress = self._ended.get(upload_id, (0.0, None))
            return progress

    # The engine.

    def begin(self, request: Request) -> None:
        """Follow the body that is about to come, if its client has named it."""
        upload_id = _named(request)
        if upload_id is None or request.exchange is None:
            return
        upload = _Upload(self, upload_id, request)
        with self._lock:
            if upload_id in self._under_way or len(self._under_way) >= self._max_uploads:
                return
            self._ended.pop(upload_id, None)
            self._under_way[upload_id] = upload
            self._forget()
        request.exchange.keep(upload)

    def _end(self, upload: _Upload) -> None:
        with self._lock:
            if self._under_way.pop(upload.id, None) is not None:
                due = time.monotonic() + self._remembered
                self._ended[upload.id] = (due, upload.progress(ended=True))
                self._forget()

    def _forget(self) -> None:
        """Drop those whose time is over, and the oldest beyond the bound. Holds the lock."""
        now = time.monotonic()
        ended = self._ended
        while ended:
            due, _ = next(iter(ended.values()))
            if due > now and len(ended) + len(self._under_way) <= self._max_uploads:
                break
            ended.popitem(last=False)


class _Upload:
    """An upload under way; the engine closes it with its request."""

    __slots__ = ("_request", "_total", "_uploads", "id")

    def __init__(self, uploads: UploadProgress, upload_id: str, request: Request) -> None:
        self.id = upload_id
        self._uploads = uploads
        self._request = request
        self._total = request.content_length

    def progress(self, *, ended: bool) -> Progress:
        """Return how far it is."""
        body = self._request.incoming
        received, complete = (0, False) if body is None else (body.size, body.complete)
        return Progress(received, self._total, complete, ended)

    def close(self) -> None:
        """Remember how far it came, and let go of the request."""
        self._uploads._end(self)


def _named(request: Request) -> str | None:
    """Return the name that a client has given to its upload, None if it is none."""
    try:
        upload_id = request.headers.get(FIELD) or request.query.get(PARAMETER)
    except HTTPError:
        # A malformed query, which the handler is going to answer.
        return None
    return upload_id if upload_id and _is_id(upload_id) else None

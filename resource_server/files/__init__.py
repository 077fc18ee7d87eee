"""Files of the disk as responses, and the guard that keeps a client inside one directory.

What a client names is judged three times: by its syntax, before the disk is touched and the same on
every system (``path_join_safe``); by where its links lead; and, once open, by its descriptor.
Whatever fails looks the same from outside: 404, as if there were nothing.
"""

from .paths import path_join_safe
from .resource import FileResource
from .response import FileResponse

__all__ = ["FileResource", "FileResponse", "path_join_safe"]

"""The command line: serve a directory, or an app given as ``module:name``.

::

    python3 -m resource_server                        the current directory
    python3 -m resource_server path/to/app.py:Name    what Name is in that file
    python3 -m resource_server package.module:name    what name is in that module

An app is a Resource class or instance, a Router, a list of routes, or a callable that makes one of
these. This is the only place that configures logging, handles signals or ends the process.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import sys
from contextlib import contextmanager

from resource_server import (
    FileResource,
    HTTPServer,
    Resource,
    ResourceServerError,
    Router,
    __version__,
)

TYPE_CHECKING = False  # importing typing itself takes 2 ms
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence
    from types import ModuleType
    from typing import Any, TextIO

    from resource_server.reloader import Watcher

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000

#: Seconds between the GIL's forced switches. The default of 5 ms is how long a CPU-bound handler
#: may keep the loop waiting after each system call; a process of our own may have it shorter.
SWITCH_INTERVAL = 0.001

DESCRIPTION = "Serve the current directory, or an app of your own, over HTTP."
EPILOG = """\
An app is FILE.py:NAME or MODULE:NAME, where NAME is a Resource class or instance, a Router,
a list of routes, or a function that makes one of these. Without :NAME it is `app`, or the only
Resource class defined there.

examples:
  %(prog)s                      the current directory on http://127.0.0.1:8000
  %(prog)s -d public 8080       the directory "public" on port 8080
  %(prog)s --reload app.py:Api  a Resource class, restarted when its code changes
"""


class Advice(Exception):  # noqa: N818 - it is what the user reads, not what went wrong inside
    """Why nothing can be served, and what to do about it, in one line for the user.

    ``files`` are those whose change may mend it; empty if no change of a file can.
    """

    def __init__(self, text: str, files: Iterable[str] = ()) -> None:
        super().__init__(text)
        self.files = list(files)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve as the arguments say (those of the process by default) until Ctrl-C or SIGTERM.

    Returns the exit code: 0 when stopped, 1 when it cannot serve, having said why in one line on
    standard error. Raises SystemExit as argparse does: 2 for arguments that make no sense.
    Call it in the main thread.
    """
    options = _parse(arguments)
    watcher = None
    if options.reload:
        from resource_server import reloader

        if not reloader.is_child():
            _interrupt_on_signals()
            return reloader.supervise()
        watcher = reloader.Watcher(_files_of(options.app))
    _interrupt_on_signals()
    try:
        if options.processes > 1:
            return _serve_in_processes(options)
        return _serve(options, watcher)
    except KeyboardInterrupt:
        return 0
    except Advice as advice:
        _say(f"resource_server: {advice}", sys.stderr)
        return 1


def _interrupt_on_signals() -> None:
    """Have Ctrl-C and SIGTERM raise KeyboardInterrupt in this, the main, thread.

    Also where a shell that starts a process in the background has had it ignore SIGINT.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


def _serve(options: argparse.Namespace, watcher: Watcher | None) -> int:
    try:
        router = _router(options)
    except Advice as advice:
        if watcher is None or not advice.files:
            raise
        _say(f"resource_server: {advice} (waiting for a change)", sys.stderr)
        watcher.add_modules()
        watcher.add(advice.files)
        watcher.wait()
        return _restart(watcher)
    if watcher is not None:
        # Before it is said that the server runs: a change right after that is seen.
        watcher.add_modules()
    _set_up_logging(access=options.access_log)
    sys.setswitchinterval(SWITCH_INTERVAL)
    server = _start(options, router)
    try:
        _say_where(options, server)
        if watcher is not None:
            watcher.on_change(server.stop)
        server.wait()
    except KeyboardInterrupt:
        _stop(server)
        return 0
    _stop(server)
    return 0 if watcher is None else _restart(watcher)


def _serve_in_processes(options: argparse.Namespace) -> int:
    """Serve in several processes, each of which loads the app: SIGHUP loads it anew."""
    handler = _set_up_logging(access=options.access_log)
    # What becomes of the processes is for who runs them.
    logging.getLogger("resource_server.processes").setLevel(logging.INFO)
    sys.setswitchinterval(SWITCH_INTERVAL)
    server = _server(options)

    def load() -> None:
        if handler is not None:
            # The app may set up logging for itself.
            logging.getLogger("resource_server").removeHandler(handler)
        try:
            server.router = _router(options)
        except Advice as advice:
            raise OSError(str(advice)) from advice
        _set_up_logging(access=options.access_log)

    try:
        server.run(
            processes=options.processes, prepare=load, ready=lambda: _say_where(options, server)
        )
    except ChildProcessError as error:
        raise Advice(str(error)) from error
    except RuntimeError as error:
        raise Advice(f"cannot serve with --processes: {error}") from error
    except (OSError, ValueError) as error:
        raise Advice(_advice_for_start(error, options)) from error
    _say("Stopped.", sys.stdout)
    return 0


def _say_where(options: argparse.Namespace, server: HTTPServer) -> None:
    what = options.app or os.path.abspath(options.directory or os.curdir)
    _say(f"Serving {what} on {server.url} (Ctrl-C stops it)", sys.stdout)


def _restart(watcher: Watcher) -> int:
    from resource_server.reloader import CHANGED

    if watcher.changed_file:
        _say(f"{watcher.changed_file} changed: restarting", sys.stdout)
    return CHANGED


def _stop(server: HTTPServer) -> None:
    # Whoever asks in both ways, as a parent and a terminal may, asks once; a second Ctrl-C
    # is impatience.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        server.stop()
    except KeyboardInterrupt:
        server.stop(0)
    _say("Stopped.", sys.stdout)


# Arguments


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    import argparse

    started_as_module = os.path.basename(sys.argv[0]) == "__main__.py"
    parser = argparse.ArgumentParser(
        prog="python3 -m resource_server" if started_as_module else "resource_server",
        usage="%(prog)s [options] [app] [port]",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_arguments(parser)
    options = parser.parse_intermixed_args(arguments)
    options.app = None
    for word in options.words:
        if word.isascii() and word.isdigit():
            if options.port is not None:
                parser.error("give the port once")
            options.port = _port(word, parser)
        elif options.app is not None:
            parser.error(f"one app can be served, not both {options.app} and {word}")
        else:
            options.app = word
    if options.app and options.directory is not None:
        parser.error("serve either an app or a directory (-d), not both")
    if options.tls_key and not options.tls_cert:
        parser.error("--tls-key needs --tls-cert")
    if options.reload and options.processes > 1:
        parser.error("--reload goes with one process; several load new code at SIGHUP")
    options.port = DEFAULT_PORT if options.port is None else options.port
    return options


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    import argparse

    def port(text: str) -> int:
        return _port(text, parser)

    def count(text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text)):
            raise argparse.ArgumentTypeError("at least 1 is needed")
        return int(text)

    add = parser.add_argument
    add("words", nargs="*", metavar="app|port", help="what to serve, and the port (default: 8000)")
    add("-p", "--port", type=port, help="port to listen on; 0 finds a free one (default: 8000)")
    add(
        "-b",
        "--bind",
        metavar="ADDRESS",
        default=DEFAULT_HOST,
        help="address to listen on: 0.0.0.0 for all of IPv4, :: for all, unix:/PATH "
        "(default: 127.0.0.1, this machine only)",
    )
    add("-d", "--directory", help="serve this directory (default: the current one)")
    add("--tls-cert", metavar="FILE", help="serve HTTPS with this certificate (chain) in PEM")
    add("--tls-key", metavar="FILE", help="its private key (default: in the certificate's file)")
    add(
        "--threads",
        type=count,
        default=64,
        help="how many handlers may run at once in workers (default: 64)",
    )
    add(
        "--processes",
        type=count,
        default=1,
        metavar="N",
        help="serve with N processes, for more than one core; each loads the app, and SIGHUP "
        "replaces them without a pause (default: 1)",
    )
    add("--reload", action="store_true", help="restart when a loaded Python file changes")
    add(
        "--access-log",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="a line for each request on standard error (default: on)",
    )
    add("--version", action="version", version=f"resource_server {__version__}")


def _port(text: str, parser: argparse.ArgumentParser) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        parser.error(f"a port is a number from 0 to 65535, not {text}")
    return int(text)


# Starting


def _start(options: argparse.Namespace, router: Router) -> HTTPServer:
    try:
        server = _server(options, router)
        server.start()
    except (OSError, ValueError) as error:
        raise Advice(_advice_for_start(error, options)) from error
    return server


def _server(options: argparse.Namespace, router: Router | None = None) -> HTTPServer:
    bind = options.bind
    address = bind if bind.startswith("unix:") else (bind.strip("[]"), options.port)
    key = options.tls_key or options.tls_cert
    for file in (options.tls_cert, key):
        if file and not os.path.isfile(file):
            raise Advice(f"there is no file {file}")
    return HTTPServer(address, key, options.tls_cert, router=router, threads=options.threads)


def _advice_for_start(error: Exception, options: argparse.Namespace) -> str:
    if options.tls_cert:
        import ssl

        if isinstance(error, ssl.SSLError | ValueError):
            files = f"{options.tls_cert} and {options.tls_key or options.tls_cert}"
            reason = getattr(error, "reason", None) or error
            return f"{files} are no PEM certificate with its unencrypted private key ({reason})"
    bind, port = options.bind, options.port
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return f"port {port} of {bind} is in use; choose another with --port, or 0 for a free one"
    if number in (errno.EACCES, errno.EPERM):
        if bind.startswith("unix:"):
            return f"no permission to make {bind.removeprefix('unix:')}"
        return f"no permission to use port {port} of {bind}; choose one from 1024 up with --port"
    if number == errno.EADDRNOTAVAIL:
        return f"{bind} is no address of this machine; choose another with --bind"
    return f"cannot listen on {bind}: {error}"


def _set_up_logging(*, access: bool) -> logging.Handler | None:
    """Write the server's log to standard error, unless the app has set up logging for itself.

    Returns the handler that does.
    """
    logger = logging.getLogger("resource_server")
    handler: logging.Handler | None = None
    if not logger.hasHandlers():
        # A windowed program has no standard error.
        handler = logging.NullHandler() if sys.stderr is None else logging.StreamHandler()
        handler.setFormatter(_Formatter())
        logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        # That it serves and where is said on standard output.
        logger.setLevel(logging.WARNING)
    logging.getLogger("resource_server.access").setLevel(
        logging.INFO if access else logging.WARNING
    )
    return handler


_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def _escaped(match: re.Match[str]) -> str:
    return f"\\x{ord(match[0]):02x}"


class _Formatter(logging.Formatter):
    """Time and message; the level as well, but for access lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own
        level = "" if record.name == "resource_server.access" else f"{record.levelname}: "
        return f"{self.formatTime(record)} {level}{record.message}"

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's own
        # An exception's text may repeat what a client sent: no line of it looks like a record, and
        # no control character reaches the terminal.
        lines = super().formatException(ei).split("\n")
        return "\n".join("  " + _CONTROLS.sub(_escaped, line) for line in lines)


# What to serve


def _router(options: argparse.Namespace) -> Router:
    if options.app:
        app = _load(options.app)
    else:
        directory = options.directory or os.curdir
        if not os.path.isdir(directory):
            raise Advice(f"there is no directory {directory}")
        app = FileResource(directory, listing=True)
    if isinstance(app, Router):
        return app
    router = Router()
    try:
        router.register_routes(app)
    except ResourceServerError as error:
        raise Advice(f"cannot serve {options.app}: {error}", _files_of(options.app)) from error
    return router


def _split(app: str) -> tuple[str, str]:
    """Split ``FILE.py:NAME`` or ``MODULE:NAME``; the colon of a drive (``C:\\app.py``) is none."""
    place, colon, name = app.rpartition(":")
    if colon and place and all(part.isidentifier() for part in name.split(".")):
        return place, name
    return app.removesuffix(":"), ""


def _is_path(place: str) -> bool:
    return place.endswith(".py") or "/" in place or os.sep in place


def _files_of(app: str | None) -> list[str]:
    """Name the files that hold an app, or would: those to watch while it cannot be imported."""
    if not app:
        return []
    place = _split(app)[0]
    if _is_path(place):
        return [os.path.abspath(place)]
    base = os.path.abspath(place.replace(".", os.sep))
    return [f"{base}.py", os.path.join(base, "__init__.py")]


def _load(app: str) -> object:
    """Import the module of an app and make what is to be served, or raise Advice."""
    place, name = _split(app)
    module = _import_file(place) if _is_path(place) else _import_module(place)
    found = _find(module, name, place) if name else _find_default(module, place)
    for _ in range(2):
        # Twice, since a function may give a class.
        if callable(found) and not isinstance(found, Router | Resource):
            with _code_of_the_app(f"cannot make {app}", place):
                found = found()
    if isinstance(found, Router | Resource | list | tuple):
        return found
    kind = type(found).__name__
    raise Advice(
        f"{app} gives an object of type {kind}, which cannot be served; it must be a Resource "
        "class or instance, a Router, a list of routes, or a function that makes one of these",
        _files_of(app),
    )


def _import_file(path: str) -> ModuleType:
    from importlib import util

    if os.path.isdir(path):
        raise Advice(f"{path} is a directory; serve its files with: -d {path}")
    if not os.path.isfile(path):
        hint = f"; did you mean {path}.py?" if os.path.isfile(f"{path}.py") else ""
        raise Advice(f"there is no file {path}{hint}", _files_of(path))
    absolute = os.path.abspath(path)
    directory, file = os.path.split(absolute)
    _put_on_path(directory)
    name = os.path.splitext(file)[0]
    if name in sys.modules:
        # Of the same name as a module of the library, which others need as it is.
        name = f"resource_server_app_{name}"
    spec = util.spec_from_file_location(name, absolute)
    if spec is None or spec.loader is None:
        raise Advice(f"{path} is no Python file (its name must end with .py)")
    module = sys.modules[name] = util.module_from_spec(spec)
    with _code_of_the_app(f"cannot import {path}", path):
        spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> ModuleType:
    from importlib import import_module
    from importlib.util import find_spec

    if os.path.isdir(name) and not os.path.isfile(os.path.join(name, "__init__.py")):
        raise Advice(f"{name} is a directory; serve its files with: -d {name}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise Advice(f"{name} is neither a Python file nor the name of a module")
    _put_on_path(os.getcwd())
    with _code_of_the_app(f"cannot import {name}", name):
        try:
            found = find_spec(name) is not None
        except ModuleNotFoundError as error:
            # A parent is missing, unless it is something that the parent's own code imports.
            if not f"{name}.".startswith(f"{error.name}."):
                raise
            found = False
        if found:
            return import_module(name)
    hint = f"; did you mean {name}.py?" if os.path.isfile(f"{name}.py") else ""
    raise Advice(f"there is no module {name} here or installed{hint}", _files_of(name))


def _put_on_path(directory: str) -> None:
    if sys.path[:1] != [directory]:
        sys.path.insert(0, directory)


def _find(module: ModuleType, name: str, place: str) -> object:
    found: object = module
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            from difflib import get_close_matches

            names = [known for known in dir(found) if not known.startswith("_")]
            near = get_close_matches(part, names, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise Advice(f"{place} has no {name}{hint}", _files_of(place)) from None
    return found


def _find_default(module: ModuleType, place: str) -> object:
    if hasattr(module, "app"):
        return module.app
    resources = [
        found
        for found in vars(module).values()
        if isinstance(found, type)
        and issubclass(found, Resource)
        and found.__module__ == module.__name__
    ]
    if len(resources) == 1:
        return resources[0]
    if resources:
        names = ", ".join(resource.__name__ for resource in resources)
        text = f"{place} has several Resource classes ({names}); name one, as in "
        raise Advice(f"{text}{place}:{resources[0].__name__}", _files_of(place))
    text = f"{place} has no `app` and no Resource class; name what to serve: {place}:NAME"
    raise Advice(text, _files_of(place))


@contextmanager
def _code_of_the_app(doing: str, place: str) -> Iterator[None]:
    """Turn whatever the app's own code raises, also SystemExit, into Advice; Ctrl-C stays itself.

    It tells the exception and the innermost line of the app's code.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        import traceback

        lines = [
            (frame.filename, frame.lineno)
            for frame in traceback.extract_tb(error.__traceback__)
            if frame.filename != __file__ and not frame.filename.startswith("<frozen ")
        ]
        what = str(error)
        if isinstance(error, SyntaxError) and error.filename:
            lines.append((error.filename, error.lineno))
            what = error.msg
        where = f"{lines[-1][0]}:{lines[-1][1]}: " if lines else ""
        files = [*_files_of(place), *(file for file, _ in lines)]
        raise Advice(f"{doing}: {where}{type(error).__name__}: {what}", files) from error


def _say(text: str, stream: TextIO | None) -> None:
    """Write one line at once; a stream that is missing or not read is no reason to fail."""
    if stream is None:
        return
    line = " ".join(text.split())
    encoding = stream.encoding or "ascii"
    try:
        print(line.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
    except OSError:
        # What is left in its buffer would make the interpreter complain at its end.
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())

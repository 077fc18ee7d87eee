"""Typed messages: classes of fields that become bytes or JSON, and are checked when they return.

::

    class Point(Serializable):
        x: int
        y: int = 0

    class Drawing(Serializable, type_id=7):
        title: str
        corners: list[Point] = []
        parent: Drawing | None = None

    data = Drawing("house", [Point(1, 2)]).dumpb()
    Drawing.loadb(data)         # a Drawing, or SerializableError
    Serializable.loadb(data)    # whatever message it is: its type_id is in the data

A message is a map of its fields by name and of its ``type_id``, in MessagePack (`dumpb`), JSON
text (`dumps`) or the plain values that JSON has (`to_json`). msgspec makes and reads them.

**Data from outside**: it holds no code, so none of it runs. What is allocated grows with what has
been read, never with a length that is announced; but a map of one byte may become a message with
200 bytes of defaults, so bound a list that may be long:
``Annotated[list[Point], msgspec.Meta(max_length=1000)]``. What is nested in more than 256 levels is
refused before it is decoded, as a decoder needs room on the stack of its thread for each.

**Types**: None, bool, int, float, str, bytes, datetime, UUID, Decimal, list, dict, tuple, set,
Optional, Union, Literal, Any, enumerations, other messages, dataclasses, and all else that msgspec
knows. In a field, a class means that class, not those derived from it: name those in a Union.
Types are checked when a message is loaded, not when it is made: that is the type checker's part.

**Change**: a field that is unknown is ignored, one that is missing takes its default. So old and
new programs understand each other as long as what is added has a default and what is removed had
one; a renamed field is another field. ``class Point(Serializable, forbid_unknown_fields=True)``
is strict; this and all other options of `msgspec.Struct` are given alike (``kw_only``, ``frozen``,
``omit_defaults``, ``rename``, …), but for those that decide the form of the data.

**Identity**: without ``type_id=`` a class is identified by a hash of its module and name: the same
in each process that imports it from the same place. Fix it for a class that will be moved or
renamed, or that is defined in a script: there the name of the module is ``__main__``.
"""

from __future__ import annotations

import re
from enum import Enum
from hashlib import blake2b
from threading import Lock
from typing import Any, ClassVar, Self, dataclass_transform

from .errors import ResourceServerError
from .nesting import json_is_too_deep, msgpack_is_too_deep
from .request import register_message_codec

try:
    import msgspec
    from msgspec import Struct, StructMeta, field
except ImportError as error:
    raise ImportError(
        "Serializable needs msgspec 0.20 or newer: pip install 'resource_server[serializable]'",
        name="msgspec",
    ) from error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Decode = Callable[[Any, type], Any]

__all__ = ["Serializable", "SerializableEnum", "SerializableError", "field", "load_message"]

#: Bytes (of text: characters) that are loaded unless another limit is given: those that a route
#: accepts.
MAX_SIZE = 5 * 1024 * 1024
#: Every number in JSON up to this one is exact in JavaScript as well (RFC 8259 §6).
MAX_TYPE_ID = 2**53 - 1

# An error may quote what was loaded, and a path grows with the nesting.
_MAX_TEXT = 200
_MAX_PATH = 120
_METHODS = frozenset(
    ["dumpb", "loadb", "dumps", "loads", "to_json", "from_json", "toJson", "fromJson"]
)
# They would change the form of the data, by which its type_id is found.
_DECIDED_HERE = ("tag", "tag_field", "array_like")

_lock = Lock()
# By type_id; guarded by `_lock` for writing.
_classes: dict[int, type[Serializable | SerializableEnum]] = {}


class SerializableError(ResourceServerError, ValueError):
    """Data is not the message that was expected, or a message cannot be put into bytes.

    The text begins with the place: ``$.items[3].name: expected str, got int``.
    """


def _identity(module: str, qualname: str, fixed: object) -> int:
    """Return the type_id of a class: `fixed`, or a hash of its name if that is None."""
    if fixed is None:
        name = f"{module}.{qualname}".encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(name, digest_size=8).digest(), "big") & MAX_TYPE_ID
    if isinstance(fixed, int) and not isinstance(fixed, bool) and 0 <= fixed <= MAX_TYPE_ID:
        return int(fixed)
    raise TypeError(f"the type_id of {qualname} is not an int from 0 to 2**53 - 1: {fixed!r}")


def _register(cls: type[Serializable | SerializableEnum]) -> None:
    """Make a class known by its type_id; TypeError if another class has it.

    A class of the same name replaces the earlier one, which it has when a module is reloaded.
    """
    name = _name(cls)
    with _lock:
        known = _classes.get(cls.type_id)
        if known is not None and _name(known) != name:
            raise TypeError(
                f"{name} has the type_id {cls.type_id} of {_name(known)}: give one of them another"
                f" by class {cls.__name__}(…, type_id=…)"
            )
        _classes[cls.type_id] = cls


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


# Said of the metaclass, not left to Struct, so that a type checker lets frozen=True be derived.
@dataclass_transform(field_specifiers=(field,))
class _SerializableMeta(StructMeta):
    """Gives each message class its type_id, and makes it known."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        /,
        *,
        type_id: int | None = None,
        **options: Any,
    ) -> Any:
        if not any(isinstance(base, _SerializableMeta) for base in bases):  # Serializable itself
            return super().__new__(mcls, name, bases, namespace, **options)
        for option in _DECIDED_HERE:
            if option in options:
                raise TypeError(f"{name} cannot have the option {option}: its type_id is its tag")
        if type_id is None:
            type_id = namespace.get("type_id")
        qualname = namespace.get("__qualname__", name)
        type_id = _identity(namespace.get("__module__", ""), qualname, type_id)
        namespace["type_id"] = type_id
        try:
            cls: Any = super().__new__(
                mcls, name, bases, namespace, tag=type_id, tag_field="type_id", **options
            )
        except ValueError as error:
            if "tag_field" not in str(error):
                raise
            raise TypeError(
                f"{name} cannot have a field type_id: to fix its type_id, write type_id = …"
                " without annotation"
            ) from error
        taken = _METHODS.intersection(cls.__struct_fields__)
        if taken:
            raise TypeError(f"{name} cannot have a field {min(taken)}: it is a method")
        _register(cls)
        return cls


class Serializable(Struct, metaclass=_SerializableMeta):
    """A message: derive a class, and annotate its fields.

    It is made with positional or keyword arguments, is compared field by field, and shows its
    fields in its repr. A default that can be changed is ``field(default_factory=…)``, or an empty
    ``[]``, ``{}`` or ``set()``, of which each message gets its own.

    Loading raises SerializableError for anything but a message of this class or of one derived
    from it; on Serializable itself, of any class that has been imported. Data without ``type_id``
    is taken for a message of the class that loads it; Serializable itself needs one. Other errors
    are the program's: NameError for an annotation that names nothing, TypeError for one that no
    data can have. A ``__post_init__`` checks more: its ValueError or TypeError is one of the data.

    Dumping raises SerializableError for a value that has no such form.
    """

    type_id: ClassVar[int]
    """What identifies the class in the data; see the module."""

    def dumpb(self) -> bytes:
        """Return the message as bytes, in MessagePack."""
        return _dumpb(self, self)

    @classmethod
    def loadb(
        cls, data: bytes | bytearray | memoryview, *, max_size: int | None = MAX_SIZE
    ) -> Self:
        """Return the message that bytes hold, `max_size` of them at most."""
        message: Self = _load(cls, _from_msgpack, data, max_size)
        return message

    def dumps(self) -> str:
        """Return the message as JSON text; bytes are in Base64. NaN and Infinity are refused."""
        return _dumps(self, self)

    @classmethod
    def loads(cls, text: str | bytes | bytearray, *, max_size: int | None = MAX_SIZE) -> Self:
        """Return the message that JSON text holds, `max_size` characters or bytes at most."""
        message: Self = _load(cls, _from_text, text, max_size)
        return message

    def to_json(self) -> dict[str, Any]:
        """Return the message as a dict that `JsonResponse` and `json.dumps` take.

        A tuple stays one, and a float may be NaN, which has no JSON.
        """
        return _to_json(self, self)

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Self:
        """Return the message that a dict of the values of JSON holds."""
        message: Self = _load(cls, _from_plain, obj, None)
        return message

    def toJson(self) -> dict[str, Any]:  # noqa: N802 - the reference's spelling
        """Return `to_json()`."""
        return self.to_json()

    @classmethod
    def fromJson(cls, obj: Mapping[str, Any]) -> Self:  # noqa: N802
        """Return `from_json(obj)`."""
        return cls.from_json(obj)


class SerializableEnum(Enum):
    """An enumeration whose members are messages as well; values are all int or all str.

    In a field of a Serializable a member is its value, as those of every Enum are; on its own it is
    the map ``{"type_id": …, "value": …}``. Methods and errors are those of Serializable. The
    type_id is fixed in the head alone: ``class Color(SerializableEnum, type_id=8)``.
    """

    type_id: ClassVar[int]

    def __init_subclass__(cls, *, type_id: int | None = None, **options: Any) -> None:
        super().__init_subclass__(**options)
        if not cls.__members__:
            return
        if "type_id" in cls.__members__:
            raise TypeError(
                f"type_id is a member of {cls.__qualname__}: fix it in the head,"
                f" class {cls.__name__}(SerializableEnum, type_id=…)"
            )
        kinds = {type(member.value) for member in cls}
        if kinds not in ({int}, {str}):
            raise TypeError(f"the values of {cls.__qualname__} are neither all int nor all str")
        cls.type_id = _identity(cls.__module__, cls.__qualname__, type_id)
        _register(cls)

    def dumpb(self) -> bytes:
        """Return the member as bytes, in MessagePack."""
        return _dumpb(self, _shape(type(self))(self))

    @classmethod
    def loadb(
        cls, data: bytes | bytearray | memoryview, *, max_size: int | None = MAX_SIZE
    ) -> Self:
        """Return the member that bytes hold, `max_size` of them at most."""
        member: Self = _load(cls, _from_msgpack, data, max_size)
        return member

    def dumps(self) -> str:
        """Return the member as JSON text."""
        return _dumps(self, _shape(type(self))(self))

    @classmethod
    def loads(cls, text: str | bytes | bytearray, *, max_size: int | None = MAX_SIZE) -> Self:
        """Return the member that JSON text holds, `max_size` characters or bytes at most."""
        member: Self = _load(cls, _from_text, text, max_size)
        return member

    def to_json(self) -> dict[str, Any]:
        """Return the member as a dict of its type_id and its value."""
        return _to_json(self, _shape(type(self))(self))

    @classmethod
    def from_json(cls, obj: Mapping[str, Any]) -> Self:
        """Return the member that such a dict holds."""
        member: Self = _load(cls, _from_plain, obj, None)
        return member

    def toJson(self) -> dict[str, Any]:  # noqa: N802 - the reference's spelling
        """Return `to_json()`."""
        return self.to_json()

    @classmethod
    def fromJson(cls, obj: Mapping[str, Any]) -> Self:  # noqa: N802
        """Return `from_json(obj)`."""
        return cls.from_json(obj)


def load_message(
    data: bytes | bytearray | memoryview, *, max_size: int | None = MAX_SIZE
) -> Serializable | SerializableEnum:
    """Return the message or member that bytes hold, of whatever class has been imported."""
    message: Serializable | SerializableEnum = _load(None, _from_msgpack, data, max_size)
    return message


# Dumping. What msgspec raises here is no error of data from outside, but has as many classes.


def _dumpb(message: object, struct: Struct) -> bytes:
    try:
        return msgspec.msgpack.encode(struct)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _undumpable(message, error) from error


def _dumps(message: object, struct: Struct) -> str:
    try:
        text = msgspec.json.encode(struct)
        if b"null" in text:
            _refuse_nan(struct)
        return text.decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _undumpable(message, error) from error


def _to_json(message: object, struct: Struct) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = msgspec.to_builtins(struct, str_keys=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise _undumpable(message, error) from error
    return plain


def _refuse_nan(struct: Struct) -> None:
    """Raise ValueError if msgspec has made a null of NaN or Infinity, which JSON has not."""
    from json import dumps

    dumps(msgspec.to_builtins(struct, str_keys=True), allow_nan=False)


def _undumpable(message: object, error: Exception) -> SerializableError:
    reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return SerializableError(f"{type(message).__qualname__}: {reason}")


# Loading. `decode` is one of these three: it turns data into an instance of a class.


def _from_msgpack(data: bytes, shape: type) -> Any:
    return msgspec.msgpack.decode(data, type=shape)


def _from_text(text: str | bytes, shape: type) -> Any:
    return msgspec.json.decode(text, type=shape)


def _from_plain(obj: object, shape: type) -> Any:
    return msgspec.convert(obj, shape, str_keys=True)


def _is_too_deep(decode: Decode, data: Any) -> bool:
    """Tell whether data would take too much stack; what is no data is the decoder's to refuse."""
    if decode is _from_msgpack and isinstance(data, (bytes, bytearray, memoryview)):
        return msgpack_is_too_deep(bytes(data))
    if decode is _from_text and isinstance(data, (str, bytes, bytearray)):
        return json_is_too_deep(data)
    return False


class _Head(Struct):
    """What is read to learn the class of a message."""

    type_id: int = -1  # if there is none


def _load(cls: type | None, decode: Decode, data: Any, max_size: int | None) -> Any:
    """Return the instance of `cls`, or of a class derived from it, that `data` holds."""
    if max_size is not None:
        size = data.nbytes if isinstance(data, memoryview) else len(data)
        if size > max_size:
            raise SerializableError(f"$: {size} bytes, where {max_size} are allowed")
    if _is_too_deep(decode, data):
        raise SerializableError("$: nested too deeply")
    try:
        if cls is None or "type_id" not in cls.__dict__:
            cls = _meant(cls, decode(data, _Head).type_id)
        try:
            found = decode(data, _shape(cls))
        except msgspec.ValidationError:
            # Most messages are of the class that loads them: only now ask for a derived one.
            other = _classes.get(decode(data, _Head).type_id)
            if other is None or other is cls or not issubclass(other, cls):
                raise
            found = decode(data, _shape(other))
    except (msgspec.MsgspecError, UnicodeError, OverflowError, RecursionError) as error:
        raise _refusal(cls, data, error) from error
    except TypeError as error:
        # All others are of the program: a type that no data can have, or no bytes as data.
        if "unhashable" in str(error):
            raise SerializableError("$: an item of a set, or a key, is an array or map") from error
        raise
    except NameError as error:
        error.add_note(
            f"An annotation of {cls and _name(cls)}, or of a class there, names it:"
            " it must be defined in the module, not in a function."
        )
        raise
    return found if isinstance(found, Serializable) else found.value


def _meant(cls: type | None, type_id: int) -> type:
    """Return the class of a type_id; SerializableError if there is none derived from `cls`."""
    if type_id < 0:
        raise SerializableError("$: the map has no type_id")
    found = _classes.get(type_id)
    if found is None:
        raise SerializableError(f"$.type_id: {type_id} is of no class that has been imported")
    if cls is not None and not issubclass(found, cls):
        raise SerializableError(
            f"$.type_id: expected {cls.__qualname__}, got {_described(type_id)}"
        )
    return found


def _shape(cls: type) -> type[Struct]:
    """Return what msgspec encodes and decodes for a class: itself, or the map of a member."""
    if issubclass(cls, Struct):
        return cls
    shape: type[Struct] | None = cls.__dict__.get("_shape_")
    if shape is None:
        assert issubclass(cls, SerializableEnum)
        options: dict[str, Any] = {"tag": cls.type_id, "tag_field": "type_id"}
        shape = msgspec.defstruct(cls.__name__, [("value", cls)], **options)
        cls._shape_ = shape  # type: ignore[attr-defined]
    return shape


_wrong_tag = re.compile(r"Invalid value (-?[0-9]+)").fullmatch


def _refusal(cls: type | None, data: Any, error: Exception) -> SerializableError:
    """Return the error for what msgspec, or Python below it, has found wrong with data."""
    if isinstance(error, RecursionError):
        return SerializableError("$: nested too deeply")
    if isinstance(error, UnicodeDecodeError):
        start = bytes(data).find(error.object) if isinstance(data, (bytes, bytearray)) else -1
        return SerializableError(
            f"byte {start + error.start}: not UTF-8" if start >= 0 else "$: not UTF-8"
        )
    if not isinstance(error, msgspec.ValidationError):
        return SerializableError(f"$: {_lowered(str(error))}")
    # "Expected `int`, got `str` - at `$.items[0]`"; for a key "… - at `key` in `$.items`".
    what, _, place = str(error).rpartition(" - at ")
    if not what:
        what, place = place, "$"
    path = place.replace("`", "")
    tag = _wrong_tag(what) if path.endswith(".type_id") else None
    if tag is not None:
        expected = cls.__qualname__ if cls and path == "$.type_id" else "another class"
        what = f"expected {expected}, got {_described(int(tag[1]))}"
    if len(path) > _MAX_PATH:
        path = f"{path[: _MAX_PATH // 2]}…{path[-_MAX_PATH // 2 :]}"
    return SerializableError(f"{path}: {_lowered(what)}")


def _described(type_id: int) -> str:
    cls = _classes.get(type_id)
    return f"the unknown {type_id}" if cls is None else cls.__qualname__


def _lowered(text: str) -> str:
    """Return a text of msgspec as the end of a line: it may quote anything that was loaded."""
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]}…"
    text = text.replace("`", "").encode("unicode_escape").decode("ascii")
    return text if text[:2].isupper() else text[:1].lower() + text[1:]  # but JSON


# A route has limited the body of a request already.
register_message_codec("application/x-serializable", lambda body: load_message(body, max_size=None))

"""A video that is generated: a WebM of one picture, as long as wanted, in which a browser can seek.

The container is written by hand (RFC 8794, RFC 9559): a cluster for each second with a key frame of
VP8, an index of them, and between them empty space, so that nobody loads all of it to show a part.
"""

from __future__ import annotations

import base64
import struct

#: A key frame of VP8, 64 by 48 pixels.
_FRAME = base64.b64decode(
    "kAMAnQEqQAAwAABHCIWFiJmEiAICAnWqA/gD+gIHO4YdMbPFmQD+/F5n/92FPdOM//3YX/+U9jivo/8oEA=="
)
_EBML, _SEGMENT, _INFO, _TRACKS, _CUES, _CLUSTER, _VOID = (
    0x1A45DFA3, 0x18538067, 0x1549A966, 0x1654AE6B, 0x1C53BB6B, 0x1F43B675, 0xEC,
)  # fmt: skip


def _element(number: int, *content: bytes) -> bytes:
    data = b"".join(content)
    return number.to_bytes((number.bit_length() + 7) // 8, "big") + _size(len(data)) + data


def _size(size: int) -> bytes:
    return (size | 1 << 56).to_bytes(8, "big")


def _number(element: int, value: int) -> bytes:
    return _element(element, value.to_bytes(8, "big"))


def _text(element: int, value: str) -> bytes:
    return _element(element, value.encode())


def webm(seconds: int, padding: int) -> bytes:
    """Return a video of so many seconds, each with ``padding`` bytes of nothing behind it."""
    head = _element(
        _EBML,
        _text(0x4282, "webm"),
        *[_number(number, value) for number, value in ((0x4287, 2), (0x4285, 2))],
    )
    info = _element(
        _INFO,
        _number(0x2AD7B1, 1_000_000),  # a tick is a millisecond
        _element(0x4489, struct.pack(">d", seconds * 1000.0)),
        _text(0x4D80, "test"),
        _text(0x5741, "test"),
    )
    tracks = _element(
        _TRACKS,
        _element(
            0xAE,
            *[_number(number, 1) for number in (0xD7, 0x73C5, 0x83)],
            _text(0x86, "V_VP8"),
            _element(0xE0, _number(0xB0, 64), _number(0xBA, 48)),
        ),
    )
    block = b"\x81\x00\x00\x80" + _FRAME
    clusters = [
        _element(_CLUSTER, _number(0xE7, second * 1000), _element(0xA3, block))
        + _element(_VOID, bytes(padding))
        for second in range(seconds)
    ]

    def cues(start: int) -> bytes:
        points = []
        for second in range(seconds):
            place = _element(0xB7, _number(0xF7, 1), _number(0xF1, start))
            points.append(_element(0xBB, _number(0xB3, second * 1000), place))
            start += len(clusters[second])
        return _element(_CUES, *points)

    # The index has the same length wherever the clusters begin, as all numbers have.
    before = len(info) + len(tracks) + len(cues(0))
    return head + _element(_SEGMENT, info, tracks, cues(before), *clusters)

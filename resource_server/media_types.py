"""Content types by file name, from a table that is part of the package.

The system's own tables (the registry of Windows, ``/etc/mime.types``) differ from machine to
machine and can be changed by any program installed there: scripts then arrive as ``text/plain`` and
are not run. Here a name has the same type everywhere. Sources: the IANA media types registry, RFC
9239 (JavaScript), RFC 7303 (XML), and the WHATWG MIME Sniffing standard for fonts, audio and video.
"""

from __future__ import annotations

from sys import intern

#: The type of what nothing is known about (RFC 2046 §4.5.1); a browser saves it.
DEFAULT_TYPE = "application/octet-stream"

_EXTENSIONS_OF_TYPE = {
    # Pages and what they are made of
    "text/html": "html htm",
    "text/css": "css",
    "text/javascript": "js mjs cjs",
    "text/vtt": "vtt",
    "text/cache-manifest": "appcache",
    "application/json": "json map",
    "application/ld+json": "jsonld",
    "application/geo+json": "geojson",
    "application/manifest+json": "webmanifest",
    "application/wasm": "wasm",
    "application/xml": "xml xsd rng",
    "application/xslt+xml": "xsl xslt",
    "application/xml-dtd": "dtd",
    "application/xhtml+xml": "xhtml xht",
    "application/rss+xml": "rss",
    "application/atom+xml": "atom",
    # Text; sources have no type that browsers show, so they are plain text
    "text/plain": (
        "txt text log conf cfg ini properties diff patch env "
        "py pyi pyw c h cc cpp hh hpp cs go rs java kt swift rb pl php lua r jl sql sh bash zsh "
        "bat ps1 tsx jsx vue svelte scss sass less tex bib asm s f90 m cmake gradle qml proto "
        "graphql"
    ),
    "text/markdown": "md markdown",
    "text/x-rst": "rst",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
    "text/calendar": "ics",
    "text/vcard": "vcf",
    "text/troff": "roff",
    "application/yaml": "yaml yml",
    "application/toml": "toml",
    "application/jsonl": "jsonl ndjson",
    "application/x-subrip": "srt",
    # Images
    "image/png": "png",
    "image/apng": "apng",
    "image/jpeg": "jpg jpeg jpe jfif",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/jxl": "jxl",
    "image/bmp": "bmp",
    "image/svg+xml": "svg",
    "image/tiff": "tif tiff",
    "image/x-icon": "ico cur",
    "image/vnd.adobe.photoshop": "psd",
    # Audio
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a m4b",
    "audio/aac": "aac",
    "audio/ogg": "oga ogg opus spx",
    "audio/wav": "wav",
    "audio/webm": "weba",
    "audio/flac": "flac",
    "audio/midi": "mid midi",
    "audio/aiff": "aif aiff",
    "audio/x-ms-wma": "wma",
    "audio/x-scpls": "pls",
    # Video, and the play lists and pieces of adaptive streaming
    "video/mp4": "mp4 m4v mp4v",
    "video/webm": "webm",
    "video/ogg": "ogv",
    "video/mpeg": "mpg mpeg mpe",
    "video/quicktime": "mov qt",
    "video/matroska": "mkv",
    "video/x-msvideo": "avi",
    "video/x-ms-wmv": "wmv",
    "video/x-flv": "flv",
    "video/3gpp": "3gp",
    "video/3gpp2": "3g2",
    "video/mp2t": "ts m2ts mts",
    "video/iso.segment": "m4s",
    "application/vnd.apple.mpegurl": "m3u8 m3u",
    "application/dash+xml": "mpd",
    # Fonts
    "font/woff": "woff",
    "font/woff2": "woff2",
    "font/ttf": "ttf",
    "font/otf": "otf",
    "font/collection": "ttc",
    "application/vnd.ms-fontobject": "eot",
    # Documents
    "application/pdf": "pdf",
    "application/postscript": "ps ai eps",
    "application/rtf": "rtf",
    "application/epub+zip": "epub",
    "application/msword": "doc dot",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt pps",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.presentation": "odp",
    "application/vnd.oasis.opendocument.graphics": "odg",
    # Archives, packages and programs
    "application/zip": "zip whl",
    "application/gzip": "gz tgz",
    "application/x-bzip2": "bz2 tbz2",
    "application/x-xz": "xz txz",
    "application/zstd": "zst",
    "application/x-7z-compressed": "7z",
    "application/vnd.rar": "rar",
    "application/x-tar": "tar",
    "application/java-archive": "jar",
    "application/vnd.android.package-archive": "apk",
    "application/vnd.debian.binary-package": "deb",
    "application/x-rpm": "rpm",
    "application/x-apple-diskimage": "dmg",
    "application/x-iso9660-image": "iso",
    "application/vnd.microsoft.portable-executable": "exe dll",
    "application/x-msi": "msi",
    "application/vnd.sqlite3": "sqlite sqlite3 db",
    "application/x-x509-ca-cert": "crt cer der",
    "application/x-pem-file": "pem",
    # Models, maps and data
    "model/gltf+json": "gltf",
    "model/gltf-binary": "glb",
    "model/obj": "obj",
    "model/stl": "stl",
    "application/gpx+xml": "gpx",
    "application/vnd.google-earth.kml+xml": "kml",
    "application/vnd.google-earth.kmz": "kmz",
    "application/vnd.apache.parquet": "parquet",
}

# Interned strings are immortal, and so found without the dict's lock where there is no GIL.
_TYPE_OF_EXTENSION = {
    intern(extension): media_type
    for media_type, extensions in _EXTENSIONS_OF_TYPE.items()
    for extension in extensions.split()
}

# Names without an extension that people open to read.
_TEXT_NAMES = frozenset(
    (
        *("authors", "changelog", "changes", "contributing", "copying", "dockerfile", "install"),
        *("license", "makefile", "news", "notice", "readme"),
    )
)


def content_type_of(filename: str) -> str:
    """Return the Content-Type for a file name or path, by its last extension in any case.

    Text types carry ``charset=utf-8``; what is unknown is ``DEFAULT_TYPE``. The file is not looked
    at: a type guessed from what someone uploaded is a way to run their script.

    >>> content_type_of("site/Index.HTML")
    'text/html; charset=utf-8'
    """
    name = filename.replace("\\", "/").rpartition("/")[2].lower()
    stem, dot, extension = name.rpartition(".")
    if dot and stem:
        media_type = _TYPE_OF_EXTENSION.get(extension, DEFAULT_TYPE)
    else:
        media_type = "text/plain" if name in _TEXT_NAMES else DEFAULT_TYPE
    if media_type.startswith("text/"):
        return media_type + "; charset=utf-8"
    return media_type

"""The encodings of text that a client may name.

Python has many more, some slow, some no character sets, and it remembers each unknown name it is
asked for, which a client could use to fill the memory.
"""

from __future__ import annotations

_NAMES = """
utf-8 utf8 utf-16 utf-16le utf-16be utf-32 utf-32le utf-32be us-ascii ascii latin1
iso-8859-1 iso-8859-2 iso-8859-3 iso-8859-4 iso-8859-5 iso-8859-6 iso-8859-7 iso-8859-8
iso-8859-9 iso-8859-10 iso-8859-11 iso-8859-13 iso-8859-14 iso-8859-15 iso-8859-16
windows-1250 windows-1251 windows-1252 windows-1253 windows-1254 windows-1255 windows-1256
windows-1257 windows-1258 koi8-r koi8-u macintosh
big5 euc-jp euc-kr gb18030 gb2312 gbk iso-2022-jp iso-2022-kr shift_jis
"""
CHARSETS = frozenset(_NAMES.split())

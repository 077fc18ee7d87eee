"""``python3 -m resource_server``: see ``resource_server.cli``."""

from __future__ import annotations

import sys

from resource_server.cli import main

if __name__ == "__main__":
    sys.exit(main())

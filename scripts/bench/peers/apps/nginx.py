"""nginx as the ceiling for what no interpreter does: writes its configuration, and becomes it.

python nginx.py COMMAND DIRECTORY
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path

from scripts.bench.peers.apps import work

CONFIGURATION = """
USER daemon off; worker_processes 1; pid DIRECTORY/pid; worker_rlimit_nofile 20000;
events { worker_connections 18000; use epoll; }
http {
    access_log off; keepalive_requests 100000000; keepalive_timeout 300s;
    sendfile on; tcp_nopush on; open_file_cache max=100;
    types { } default_type "text/plain; charset=utf-8";
    client_body_temp_path DIRECTORY/body; proxy_temp_path DIRECTORY/proxy;
    fastcgi_temp_path DIRECTORY/fastcgi; uwsgi_temp_path DIRECTORY/uwsgi;
    scgi_temp_path DIRECTORY/scgi;
    server {
        listen 127.0.0.1:PORT backlog=4096 TLS;
        location = / { return 200 "Hello, World!"; }
        location = /page { alias DIRECTORY/page; }
        location ~ ^/user/([^/]+)/item/([^/]+)$ {
            default_type application/json;
            return 200 '{"name": "$1", "item": "$2"}';
        }
        location /files/ { default_type application/octet-stream; alias FILES/; }
    }
}
"""


def main() -> None:
    command, directory = sys.argv[1:]
    tls = ""
    if work.TLS is not None:
        # The versions that all others speak; of itself an older nginx leaves out TLS 1.3.
        tls = (
            "ssl; ssl_protocols TLSv1.2 TLSv1.3;"
            f" ssl_certificate {work.TLS[1]}; ssl_certificate_key {work.TLS[0]}"
        )
    text = CONFIGURATION
    for name, value in (
        # Without it, one that root starts may not read what is only root's.
        ("USER", f"user {getpass.getuser()};" if os.geteuid() == 0 else ""),
        ("DIRECTORY", directory),
        ("FILES", work.FILES),
        ("PORT", str(work.PORT)),
        (" TLS", f" {tls}"),
    ):
        text = text.replace(name, value)
    Path(directory, "page").write_bytes(work.PAGE)
    configuration = Path(directory, "nginx.conf")
    configuration.write_text(text)
    log = os.path.join(directory, "error.log")
    os.execv(command, [command, "-p", directory, "-c", str(configuration), "-e", log])


if __name__ == "__main__":
    main()

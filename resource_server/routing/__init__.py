"""Which callable answers a request: patterns, resources and the router; no sockets."""

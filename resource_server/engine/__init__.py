"""Sockets and threads; knows no routes."""

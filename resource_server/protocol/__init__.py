"""Bytes to messages and back: no socket, thread, clock or file in here."""

"""Forms: what a page sends (RFC 7578, WHATWG URL §5.1). Imported when the first form is read."""

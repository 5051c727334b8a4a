"""Joins two machines by six words: `toxproxy invite` at the server, `toxproxy join` at the client."""

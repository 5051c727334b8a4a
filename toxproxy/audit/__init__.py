"""The audit: what each connection through a server was, a line at its end."""

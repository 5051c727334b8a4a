"""The two ends, wired together: the only room where the parts meet."""

from toxproxy.app.client import Client
from toxproxy.app.server import Server

__all__ = ["Client", "Server"]

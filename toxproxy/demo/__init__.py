"""`toxproxy demo`: fetches through a server and a client on a private Tox network, and compares."""

from toxproxy.demo.check import run
from toxproxy.demo.network import PrivateNetwork, ProcessFailed

__all__ = ["PrivateNetwork", "ProcessFailed", "run"]

"""`toxproxy demo`: a private Tox network on this machine, used, measured and checked byte by byte."""

from toxproxy.demo.check import run
from toxproxy.demo.network import PrivateNetwork, ProcessFailed

__all__ = ["PrivateNetwork", "ProcessFailed", "run"]

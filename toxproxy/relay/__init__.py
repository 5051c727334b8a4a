"""Joins two connections into one, at either end of the tunnel."""

from toxproxy.relay.half import FOR_EVER, Half, Halves, Watch, abort, join, pair, run

__all__ = ["FOR_EVER", "Half", "Halves", "Watch", "abort", "join", "pair", "run"]

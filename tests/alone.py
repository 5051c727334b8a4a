"""The configuration of a node that talks to nobody."""

from __future__ import annotations

ALONE = "[tox]\nbootstrap = none\nlocal_discovery = no\nport = 22000-22999\n"

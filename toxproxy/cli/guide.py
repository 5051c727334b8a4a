"""Where people read on about what is wrong."""

from __future__ import annotations

import sys
from pathlib import Path


def more_about(name: str) -> str | None:
    """A line with the place in the guide for this fault or finding; None where the guide is not installed."""
    places = Path(sys.prefix) / "share" / "doc" / "toxproxy", Path(__file__).parents[2] / "docs"
    guide = next((file for place in places if (file := place / "troubleshooting.md").is_file()), None)
    return None if guide is None else f"More about it: {guide}, at {name}"

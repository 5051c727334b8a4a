"""Only toxproxy/system/ asks the operating system."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "toxproxy"
QUESTIONS = re.compile(r"\bsys\.platform\b|\bos\.name\b|\bos\.get(?:e?uid|e?gid)\b|\bplatform\.\w+\(")
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE / "system")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_package_asks_for_the_platform_or_the_user(path: Path) -> None:
    assert QUESTIONS.findall(path.read_text()) == []

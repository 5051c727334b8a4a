"""What documents show: their blocks, with values in the place of those that a reader fills in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOX_ID = "A5A02FECA08E3EAC7E646B89C0507A8AAF9136E05DC756FF09F86230951820670F908F2E7719"
OTHER_ID = "1E" * 32 + "0" * 12

#: All documents, by their paths in the project.
DOCUMENTS = sorted(
    str(path.relative_to(ROOT)) for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"))
)

_FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Line:
    """A line that a page has people type, and what it shows that is said then."""

    typed: str
    shown: str


def read(page: str) -> str:
    """A document."""
    return (ROOT / page).read_text("utf-8")


def fenced(text: str) -> list[tuple[str, str]]:
    """The blocks of Markdown in their order: the kind of each, as `ini`, and its text."""
    return [
        (kind, "".join(line.removeprefix(indent) for line in block.splitlines(keepends=True)))
        for indent, kind, block in _FENCED.findall(text)
    ]


def blocks(text: str, kind: str) -> list[str]:
    """The blocks of Markdown that are of this kind."""
    return [block for each, block in fenced(text) if each == kind]


def typed(kind: str, block: str) -> Iterator[Line]:
    """The lines that a block has people type."""
    if kind == "sh":
        block = re.sub(r"(<<'(\w+)'\n)(?:.*\n)*?\2$", r"\1", block, flags=re.MULTILINE)  # a here-document
        for line in block.splitlines():
            if line and not line.startswith("#"):
                yield Line(line, "")
    elif kind == "console":
        for each in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, shown = each.partition("\n")
            yield Line(line, shown)


def filled_in(text: str) -> str:
    """A configuration with keys and IDs."""
    text = text.replace("DHTKEY", "1E" * 32).replace("CLIENTKEY", "2D" * 32)
    text = re.sub("(office|second) = TOXID", rf"\1 = {OTHER_ID}", text)
    return text.replace("TOXID", TOX_ID)


# What is shown, and what is said: the same in form

_FORMS = [
    (r" \.\.\. \d+ s$", ""),  # how long a status line has been shown
    (r"\b[0-9A-F]{12,}(?:…|\b)", "KEY"),
    (r"\S*/troubleshooting\.md", "GUIDE"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\dZ| UTC)", "WHEN"),
    (r"/\S*(?=/\.local/|/\.config/)", "/HOME"),
    (r"check words: \w+ \w+", "check words: WORDS"),
    (r"\b[a-z]{3,8}(?: [a-z]{3,8}){5}(?= *$|\"|  \()", "WORDS"),
    (r"\d+(?:\.\d+)? (?:B|kB|MB|GB)\b", "SIZE"),
    (r"\d+ (?:s|min|h|days?)\b(?: \d+ (?:s|min|h)\b)?", "TIME"),
    (r"\d+(?:\.\d+)*", "N"),
    (r" \(SIZE/s\)", ""),  # only while there is a rate
    (r"\b(connection|time)s\b", r"\1"),
    (r"connected (?:by UDP|by TCP|to local nodes only)", "connected HOW"),
    (r" +", " "),
]


def form(text: str) -> list[str]:
    """The lines that are not empty, without what differs from one time to the next."""
    for pattern, name in _FORMS:
        text = re.sub(pattern, name, text, flags=re.MULTILINE)
    return [line.strip() for line in text.splitlines() if line.strip()]


def agrees(shown: str, said: str) -> bool:
    """Whether what a page shows is what was said, in form. A line `...` stands for any lines."""
    parts = [re.escape(line) + "\n" if line != "..." else "(?:.*\n)*?" for line in form(shown)]
    lines = "".join(f"{line}\n" for line in form(said))
    return re.search("^" + "".join(parts), lines, re.MULTILINE) is not None

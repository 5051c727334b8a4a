"""An ini file as it was written: each value with its section, its key and its lines.

For `config`, which turns the values into settings. Written out rather than taken from the
standard library's configparser because every error, also one about the third item of a
list, shall name its line.

The format: `[section]`, `key = value`. A line that starts with `#` or `;` is a comment, and
so is the rest of a line after white space and `;`. There is no quoting: where a value is secret,
such a comment is an error, as it may be the rest of it (`Entry.whole`). A line that starts with
white space and has no `=` continues the value above; other lines may be indented as well. A
section may be opened again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

from toxproxy.address import shown
from toxproxy.errors import ConfigError

A = TypeVar("A")
T = TypeVar("T")

MAX_SECONDS = 3600

_BOOLEANS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
_COMMENT = re.compile(r"^\s*[#;].*|\s;.*")
_HEADER = re.compile(r"\[([^\[\]]*)\]")
_NO_TEXT = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(slots=True)
class Entry:
    """A value, and where it stands: its lines with their numbers, at least one."""

    file: str
    lines: list[tuple[int, str]]
    comment: str = ""  # what stands behind the value, on the line of the key

    @property
    def line(self) -> int:
        """The line of the key, counted from 1."""
        return self.lines[0][0]

    def error(self, text: str) -> ConfigError:
        """A `ConfigError` that says where this entry stands."""
        return error(self.file, self.line, text)

    def whole(self, what: str, *, cut: bool = True) -> None:
        """Raise `ConfigError` where a comment stands behind a value that it may have `cut`."""
        if self.comment and cut:
            raise self.error(
                f"expected {what} without a space before `;`, which begins a comment, found one: "
                "leave the space away, or put the comment on a line of its own"
            ) from None

    def parse(self, parser: Callable[[str], T]) -> T:
        """The value as `parser` makes it. Raises `ConfigError`, also where `parser` raises `ValueError`."""
        if len(self.lines) > 1:
            raise _neither(self.file, self.lines[1][0])
        return self._parse(parser, *self.lines[0])

    def items(self, parser: Callable[[str], T]) -> tuple[T, ...]:
        """At least one item, as `parser` makes them; commas and line ends divide them.

        Raises `ConfigError`, also where `parser` raises `ValueError`.
        """
        items = [(line, item.strip()) for line, text in self.lines for item in text.split(",")]
        values = tuple(self._parse(parser, line, item) for line, item in items if item)
        if not values:
            raise self.error("expected at least one item, found none")
        return values

    def _parse(self, parser: Callable[[str], T], line: int, text: str) -> T:
        try:
            return parser(text)
        except ValueError as found:
            raise error(self.file, line, str(found)) from None


Sections = dict[str, dict[str, Entry]]


def error(file: str, line: int, text: str) -> ConfigError:
    """A `ConfigError` that says where."""
    return ConfigError(f"{file}:{line}: {text}")


def read(text: str, file: str, known: Mapping[str, frozenset[str] | None]) -> Sections:
    """The entries of each section in `known`, by key; `known` says which keys a section has (None: any).

    A byte order mark and the line ends of Windows are fine. `file` names the text in errors.

    Raises `ConfigError`.
    """
    sections: Sections = {name: {} for name in known}
    section: str | None = None
    entry: Entry | None = None
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        comment = _COMMENT.search(raw)
        line = _COMMENT.sub("", raw.removesuffix("\r")).rstrip()
        content = line.lstrip()
        if not content:
            continue
        if bad := _NO_TEXT.search(line):
            raise error(file, number, f"expected text, found the character U+{ord(bad[0]):04X}")
        if header := _HEADER.fullmatch(content):
            section, entry = header[1], None
            if section not in known:
                found = f"{shown(content)}: did you mean [{nearest(section, known)}]?"
                raise error(file, number, f"expected a known section, found {found}")
        elif "=" in content:
            key, _, value = content.partition("=")
            entry = Entry(file, [(number, value.lstrip())], comment[0] if comment else "")
            _add(sections, known, section, key.rstrip(), entry)
        elif entry is not None and line != content:
            entry.lines.append((number, content))
        else:
            raise _neither(file, number)
    return sections


def _add(
    sections: Sections,
    known: Mapping[str, frozenset[str] | None],
    section: str | None,
    key: str,
    entry: Entry,
) -> None:
    if section is None:
        raise entry.error("expected a [section] before the first `key = value`, found none")
    if not key:
        raise entry.error("expected a key before `=`, found none")
    keys = known[section]
    if keys is not None and key not in keys:
        found = f"{shown(key)}: did you mean {nearest(key, keys)!r}?"
        raise entry.error(f"expected a known key of [{section}], found {found}")
    first = sections[section].setdefault(key, entry)
    if first is not entry:
        found = f"{shown(key)} on line {first.line} already"
        raise entry.error(f"expected each key of [{section}] once, found {found}")


def _neither(file: str, line: int) -> ConfigError:
    # The line is not repeated: it may hold a secret.
    return error(file, line, "expected `key = value` or [section], found neither")


def nearest(found: str, known: Iterable[str]) -> str:
    """The one of `known`, at least one, that is most like what was found."""
    return get_close_matches(found[:40].lower(), sorted(known), n=1, cutoff=0)[0]


def quietly(parser: Callable[[A], T], value: A, expected: str) -> T:
    """What `parser` makes of what may be a password. Raises a `ValueError` that repeats nothing of it."""
    try:
        return parser(value)
    except ValueError:
        raise ValueError(f"expected {expected}, found something else") from None


def parse_text(text: str, what: str, limit: int) -> str:
    """The text itself, 1 to `limit` bytes in UTF-8. Raises `ValueError`, which does not repeat it."""
    size = len(text.encode())
    if not 1 <= size <= limit:
        raise ValueError(f"expected {what} of 1 to {limit} bytes of UTF-8, found {size}")
    return text


def parse_boolean(text: str) -> bool:
    """`yes`, `on`, `true`, `no`, `off` or `false`, in any case. Raises `ValueError`."""
    if text.lower() not in _BOOLEANS:
        raise ValueError(f"expected yes or no, found {shown(text)}")
    return _BOOLEANS[text.lower()]


def parse_seconds(text: str, *, lowest: float, highest: int = MAX_SECONDS) -> float:
    """A decimal number of seconds, from `lowest` to `highest`. Raises `ValueError`."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text) or not lowest <= float(text) <= highest:
        raise ValueError(f"expected seconds from {lowest:g} to {highest}, found {shown(text)}")
    return float(text)


def parse_count(text: str, *, lowest: int, highest: int) -> int:
    """A whole number, from `lowest` to `highest`. Raises `ValueError`."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or not lowest <= int(text) <= highest:
        raise ValueError(f"expected a number from {lowest} to {highest}, found {shown(text)}")
    return int(text)

"""The format of the configuration file: sections, keys, values, and the line of each.

The standard library's configparser does not tell the lines, and every error names one.

- `[section]` begins a section. A section may be opened again.
- `key = value`. A key may be there once in its section.
- A line that starts with white space and has no `=` continues the value above it. Other lines may be
  indented too.
- A line that starts with `#` or `;` is a comment. After white space, `;` begins a comment too.
- There is no quoting. A secret with ` ;` in it would be cut there, so a comment behind a secret is
  an error (`Entry.whole`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

from toxproxy.address import shown
from toxproxy.errors import ConfigError

T = TypeVar("T")

_COMMENT = re.compile(r"^\s*[#;].*|\s;.*")
_HEADER = re.compile(r"\[([^\[\]]*)\]")
_NO_TEXT = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\ud800-\udfff]")


@dataclass(slots=True)
class Entry:
    """A value, and where it stands in the file."""

    file: str
    lines: list[tuple[int, str]]  # each with its number, at least one
    comment: str = ""  # behind the value, on the line of the key

    @property
    def line(self) -> int:
        """The line of the key, counted from 1."""
        return self.lines[0][0]

    def error(self, text: str) -> ConfigError:
        """A `ConfigError` that begins with the file and the line of this entry."""
        return error(self.file, self.line, text)

    def whole(self, what: str, *, cut: bool = True) -> None:
        """Raise `ConfigError` if there is a comment that may be the rest of the value.

        `what` is the value's name in the error. `cut` false: this comment cannot be.
        """
        if self.comment and cut:
            raise self.error(
                f"expected {what} without a space before `;`, which begins a comment, found one: "
                "remove the space, or put the comment on a line of its own"
            ) from None

    def parse(self, parser: Callable[[str], T]) -> T:
        """What `parser` makes of the value. Its `ValueError` becomes a `ConfigError` with the line.

        Raises `ConfigError`, also for a value of more than one line.
        """
        if len(self.lines) > 1:
            raise _neither(self.file, self.lines[1][0])
        return self._parse(parser, *self.lines[0])

    def items(self, parser: Callable[[str], T]) -> tuple[T, ...]:
        """What `parser` makes of each item, at least one. Commas and line ends divide the items.

        Raises `ConfigError`; a `ValueError` of `parser` becomes one with the item's line.
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


@dataclass(frozen=True, slots=True)
class Family:
    """Sections [word NAME] with names of the file's own. `instead` helps who took one for [word]."""

    word: str
    keys: frozenset[str]
    instead: str

    def named(self, header: str) -> str | None:
        """`word NAME` if the header is one of these."""
        word, *name = header.split() or [""]
        return " ".join((word, *name)) if word == self.word and name and header.isprintable() else None


class Section(dict[str, Entry]):
    """The entries of a section, by key. `line` is that of its first header, 0 if it is not in the file."""

    line = 0


Sections = dict[str, Section]


def error(file: str, line: int, text: str) -> ConfigError:
    """A `ConfigError` that begins with the file and the line."""
    return ConfigError(f"{file}:{line}: {text}")


def read(text: str, file: str, known: Mapping[str, frozenset[str] | None], family: Family) -> Sections:
    """The entries of each section, by key.

    `known` names the sections and the keys of each; None allows any key. Those of the `family` are in the
    file's order, by word and name. `file` names the text in errors. A byte order mark and the line ends of
    Windows are accepted. Raises `ConfigError`.
    """
    sections: Sections = {name: Section() for name in known}
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
            if (named := family.named(section)) is not None:
                section = named
                sections.setdefault(section, Section())
            elif section not in known:
                found = f"{shown(content)}: did you mean [{nearest(section, known)}]?"
                raise error(file, number, f"expected a known section, found {found}")
            sections[section].line = sections[section].line or number
        elif "=" in content:
            key, _, value = content.partition("=")
            entry = Entry(file, [(number, value.lstrip())], comment[0] if comment else "")
            _add(sections, known, family, section, key.rstrip(), entry)
        elif entry is not None and line != content:
            entry.lines.append((number, content))
        else:
            raise _neither(file, number)
    return sections


def section_text(text: str, name: str) -> str:
    """The lines of one section of a file that `read` accepts, with the header of each of its parts."""
    lines, inside = [], False
    for line in text.removeprefix("\ufeff").splitlines():
        if header := _HEADER.fullmatch(_COMMENT.sub("", line).strip()):
            inside = header[1] == name
        if inside:
            lines.append(line + "\n")
    return "".join(lines)


def _add(
    sections: Sections,
    known: Mapping[str, frozenset[str] | None],
    family: Family,
    section: str | None,
    key: str,
    entry: Entry,
) -> None:
    if section is None:
        raise entry.error("expected a [section] before the first `key = value`, found none")
    if not key:
        raise entry.error("expected a key before `=`, found none")
    keys = known.get(section, family.keys)
    if keys is not None and key not in keys:
        found = f"{shown(key)}: did you mean {nearest(key, keys)!r}?"
        found += f" {family.instead}" if section not in known else ""
        raise entry.error(f"expected a known key of [{section}], found {found}")
    first = sections[section].setdefault(key, entry)
    if first is not entry:
        found = f"{shown(key)} on line {first.line} already"
        raise entry.error(f"expected each key of [{section}] once, found {found}")


def _neither(file: str, line: int) -> ConfigError:
    # The line is not repeated: it may hold a secret.
    return error(file, line, "expected `key = value` or [section], found neither")


def nearest(found: str, known: Iterable[str]) -> str:
    """The most similar of the known words, of which there is at least one."""
    return get_close_matches(found[:40].lower(), sorted(known), n=1, cutoff=0)[0]

"""What the documentation's site has beside docs/: pages that stand elsewhere, and the commands.

A hook of mkdocs.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # mkdocs loads a hook by its path

import commandline
from commandline import ROOT, actions, commands

#: Files of the project that are pages of the site. README.md would be taken for another index.
PAGES = {
    "README.md": "overview.md",
    "SPEC.md": "spec.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
#: Folders whose files pages lead to; they are there to be downloaded.
FOLDERS = ("examples", "container")

_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Add the files that are not in docs/."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text("utf-8")))
    for folder in FOLDERS:
        paths = sorted(path for path in (ROOT / folder).iterdir() if path.is_file() and path.suffix != ".md")
        for path in paths:
            files.append(File.generated(config, f"{folder}/{path.name}", abs_src_path=str(path)))
        listed = "".join(f"- [{path.name}]({folder}/{path.name})\n" for path in paths)
        files.append(File.generated(config, f"{folder}.md", content=f"# {folder.capitalize()}\n\n{listed}"))
    files.append(File.generated(config, "reference/commands.md", content="\n".join(reference())))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Lead links to where their files are in the site."""
    here = page.file.src_uri
    if here in (f"{folder}.md" for folder in FOLDERS):
        return markdown
    source = next((name for name, built in PAGES.items() if built == here), f"docs/{here}")

    def moved(link: re.Match[str]) -> str:
        target = os.path.normpath(os.path.join(os.path.dirname(source), link[1]))
        built = f"{target}.md" if target in FOLDERS else PAGES.get(target, target.removeprefix("docs/"))
        return f"]({os.path.relpath(built, os.path.dirname(here))}{link[2] or ''})"

    return _LINK.sub(moved, markdown)


def reference() -> Iterator[str]:
    """Every command with its options, from the parser, as Markdown."""
    parser = commandline.parser()
    yield from ("# Commands", "", parser.description or "", "", "Every command has these options:", "")
    yield from options(actions(parser, {"--version"}))
    yield from ("", "`toxproxy --version` prints the versions.")
    for below, _ in commands(parser):
        yield from command(below, commandline.common(parser), 2)


def command(parser: argparse.ArgumentParser, common: set[str], level: int) -> Iterator[str]:
    """A command, and those below it."""
    usage = parser.format_usage().removeprefix("usage: ").rstrip()
    yield from ("", f"{'#' * level} {parser.prog}", "", "```text", usage, "```", "")
    yield from (plain(parser.description or ""), "")
    yield from options(actions(parser, common))
    if parser.epilog:
        yield from ("", "```text", parser.epilog.replace("%%", "%").strip("\n"), "```")
    for below, _ in commands(parser):
        yield from command(below, common, level + 1)


def options(actions: list[argparse.Action]) -> Iterator[str]:
    """A list of options and arguments."""
    for action in actions:
        value = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest)
        name = ", ".join(action.option_strings) or value
        if action.option_strings and action.nargs != 0:
            name = f"{name} {value}"
        yield f"- `{name}`: {plain((action.help or '').replace('%%', '%'))}"


def plain(text: str) -> str:
    """Text in which Markdown finds no markup but code."""
    return re.sub(r"([*_<>\[\]])", r"\\\1", text)

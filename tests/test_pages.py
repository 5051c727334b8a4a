"""What the pages have people type is typed, page by page, at a home and on a laptop; see `tests.houses`.

Configurations are written into the file that the page's commands name. What a page shows of an answer is
compared with what was said, in form.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.documents import DOCUMENTS, OTHER_ID, ROOT, Line, agrees, fenced, read, typed
from tests.houses import HOME, Machine, Typed, houses
from tests.isolated import needs_namespaces

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_namespaces]

#: The pages whose lines are typed, in this order. The README's walk begins with a client that is not let in.
PAGES = [
    "docs/index.md",
    *(f"docs/howto/{name}.md" for name in ("browser", "ssh", "git", "docker", "games", "remote-desktop")),
    *(f"docs/howto/{name}.md" for name in ("home-server", "reverse")),
    "docs/troubleshooting.md",
    "docs/web.md",
    "docs/running.md",
    "docs/library.md",
    "README.md",
    *(f"docs/howto/{name}.md" for name in ("hotspot", "own-network", "tor")),
]

#: Lines that are not typed here, by how they begin: the test that runs them, or why nothing does.
ELSEWHERE = {
    "chromium": "tests/end/test_browser.py",
    "toxproxy service install": "tests/test_cli_service.py",
    "make demo": "tests/end/test_demo.py",
    "xfreerdp": "not run: there is no remote desktop here",
    "vncviewer": "not run: there is no remote desktop here",
    "systemctl": "not run: there is no systemd where tests run; tests/program/test_unit.py has its units verified",
    "podman": "not run: an image is built from Debian's servers; tests/test_container.py reads its files",
    "make": "not run: a target of the Makefile; tests/test_site.py looks for it",
    "python -m": "not run: measures for hours; tests/test_site.py looks for the module",
    "pytest": "not run: this is one",
    "sudo apt": "not run: it changes the system; tests/test_install.py has tools/install, which does the same",
    "pipx install": "not run: it asks PyPI",
    "pip install": "not run: it asks PyPI",
    "python3 -m venv": "not run: only pip fills it",
    ". ": "not run: only the shell changes",
}

#: What a page takes for granted: in the file of the home, and of the laptop.
GIVEN = {
    "docs/index.md": ("", ""),
    "docs/howto/browser.md": ("", ""),
    "docs/howto/git.md": ("", "[socks]\nbrowser = 1080:TOXID\n"),
    "docs/troubleshooting.md": (
        "[access]\npermit = 127.0.0.1:22\n",
        "[client]\nssh = 2222:127.0.0.1:22:TOXID\nother = 9998:127.0.0.1:9999:TOXID\n[socks]\nbrowser = 1080:TOXID\n",
    ),
    "docs/web.md": ("[client laptop]\nkey = CLIENTKEY\n", "[socks]\nbrowser = 1080:TOXID\n"),
}
#: Blocks of configuration that are not for the end that their sections are of.
LAPTOPS = {("docs/howto/tor.md", 0)}
BOTH = {("docs/howto/own-network.md", 0)}
#: References, whose configurations are only parsed, by tests/test_examples.py.
PARSED = {"README.md"}

#: Where a command of toxproxy is typed. Others are typed on the laptop.
AT_HOME = {"server", "invite", "allow", "clients", "revoke", "block", "service", "reload"}
ON_LAPTOP = {("README.md", "toxproxy reload")}
#: The lines that go on.
ENDLESS = ("toxproxy server", "toxproxy client ", "toxproxy invite")


class Walk:
    """A home and a laptop, what runs there, and what was said so far."""

    def __init__(self, home: Machine, laptop: Machine) -> None:
        self.home, self.laptop = home, laptop
        self.page = ""
        self.said: dict[str, list[str]] = {}
        self.running: dict[str, Typed] = {}
        self._lines: dict[str, str] = {}
        self._sections: dict[str, dict[str, str]] = {}
        self._changed: set[str] = set()
        self.values: dict[str, str] = {"/home/me": str(home.home)}
        self._end: Typed | None = None

    # A page

    async def walk(self, page: str) -> None:
        """Type a page."""
        self.page = page
        self._sections = {"home": {}, "laptop": {}}
        self._changed = set()
        for machine, text in zip(("home", "laptop"), GIVEN.get(page, ("[access]\n", "")), strict=True):
            self._configure(machine, text)
        number = 0
        for kind, block in fenced(read(page)):
            if kind == "ini" and page not in PARSED:
                for machine in self._machines(page, number, block):
                    self._configure(machine, block)
                number += 1
            elif kind == "text" and block.startswith("Host "):
                (self.laptop.home / ".ssh" / "config").write_text(block)
            elif kind == "python":
                await self._program(block)
            for line in typed(kind, block):
                if not elsewhere(line.typed):
                    await self._line(line)
        await self._settle()

    def _machines(self, page: str, number: int, block: str) -> list[str]:
        if (page, number) in BOTH:
            return ["home", "laptop"]
        laptops = (page, number) in LAPTOPS or re.search(r"^\[(client|socks|exits|route|reverse)\]", block, re.M)
        return ["laptop" if laptops else "home"]

    def _configure(self, machine: str, text: str) -> None:
        """Put sections into a file; one that it has already is replaced."""
        for section in re.split(r"^(?=\[)", text, flags=re.MULTILINE):
            if section.strip():
                self._sections[machine][section.partition("\n")[0]] = section
                self._changed.add(machine)

    # A line

    async def _line(self, line: Line) -> None:
        words = line.typed.split()
        command = words[1] if words[0] == "toxproxy" else ""
        at_home = command in AT_HOME and (self.page, line.typed) not in ON_LAPTOP
        at_home = at_home or (command == "check" and words[2] != "cfg.ini") or self.page == "docs/web.md"
        machine = self.home if at_home else self.laptop
        if line.shown and any(agrees(line.shown, said) for said in self.said.get(line.typed, ())):
            return  # it was said on an earlier page
        if line.typed.startswith(ENDLESS):
            said = await self._endless(machine, line)
        else:
            await self._settle()
            said = await self._short(machine, line.typed)
        self.said.setdefault(line.typed, []).append(said)
        assert agrees(line.shown, said), f"{self.page}: {line.typed}\nsays now:\n{said}"

    async def _short(self, machine: Machine, line: str) -> str:
        filled = self.filled(line)
        if "clone" in line:
            filled = f'cd "$(mktemp -d)" && {filled}'
        if line.startswith("toxproxy join"):
            filled = f"toxproxy join {' '.join(self._words())}"
        status, said = await machine.type(filled, "exit\n" if line.startswith("ssh") else "y\n")
        assert status == (1 if line.startswith("toxproxy doctor") else 0), f"{machine.name}$ {filled}\n{said}"
        return said

    def _words(self) -> list[str]:
        (words,) = re.findall(r"^  toxproxy join (.*)$", self.running["invite"].said, re.MULTILINE)
        return str(words).split()

    # What goes on

    async def _endless(self, machine: Machine, line: Line) -> str:
        role = line.typed.split()[1]
        if role == "invite":
            if role in self.running:
                return self.running[role].said
            invite = self.running[role] = await machine.start(line.typed)
            await invite.until("^  toxproxy join .*\n")
            return invite.said
        await self._run(role, line.typed)
        return self.running[role].said

    async def _settle(self) -> None:
        """Have both ends run as the page says by now."""
        if "home" in self._changed:
            await self._run("server", f"toxproxy server {self.file('home')}")
        if "laptop" in self._changed:
            await self._run("client", f"toxproxy client {self.file('laptop')}")

    async def _run(self, role: str, line: str) -> None:
        """Have an end run by this line, with the file as the page has it by now."""
        name = "home" if role == "server" else "laptop"
        machine = self.home if role == "server" else self.laptop
        if name in self._changed and self._sections[name]:
            self._changed.discard(name)
            file = machine.home / self.file(name)
            text = self.filled("".join(self._sections[name].values()))
            file.touch(mode=0o600)
            restart = self._starts(text) != self._starts(file.read_text())
            file.write_text(text)
            if not restart and self._lines.get(role) == line:
                assert "restart" not in await machine.well(f"toxproxy reload --role {role}")
                return
        elif self._lines.get(role) == line:
            return
        since = len(self.running["client"].said) if "client" in self.running else 0
        if role in self.running:
            await self.running.pop(role).end()
        end = self.running[role] = await machine.start(line)
        self._lines[role] = line
        await end.until("Tox ID of this server:\n\n.*\n" if role == "server" else "^connected to .*\n")
        if role == "server":
            self.values["TOXID"] = (await self.home.well("toxproxy id server")).strip()
            if (client := self.running.get("client")) is not None:
                await client.until("^connected to ", since)

    def _starts(self, text: str) -> list[str]:
        """What of a file counts at the start only."""
        return [each for each in re.split(r"^(?=\[)", text, flags=re.M) if re.match(r"\[(tox|web|server)\]", each)]

    def file(self, machine: str) -> str:
        """The file that the page's commands name."""
        lines = [line.typed for kind, block in fenced(read(self.page)) for line in typed(kind, block)]
        names = re.findall(r"\S+\.ini", "\n".join(line for line in lines if line.startswith("toxproxy")))
        if machine == "laptop":
            return next((name for name in names if name != "home.ini" and name != "server.ini"), "cfg.ini")
        return next((name for name in names if name != "cfg.ini"), "server.ini")

    def filled(self, text: str) -> str:
        """A text with the values of this walk."""
        text = text.replace("office = TOXID", f"office = {OTHER_ID}")
        for name, value in self.values.items():
            text = text.replace(name, value)
        return text

    async def _program(self, text: str) -> None:
        """Run a program in Python on the laptop."""
        raise NotImplementedError

    async def end(self) -> None:
        """End what runs."""
        for each in reversed(self.running.values()):
            await each.end()


def elsewhere(line: str) -> str | None:
    """What runs a line that is not typed here, or why nothing does."""
    return next((where for begins, where in ELSEWHERE.items() if line.startswith(begins)), None)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def walk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Walk]:
    async with houses(tmp_path_factory.mktemp("houses")) as (home, laptop):
        walk = Walk(home, laptop)
        try:
            yield walk
        finally:
            await walk.end()


@pytest.mark.parametrize("page", PAGES)
async def test_what_a_page_has_people_type_works(walk: Walk, page: str) -> None:
    await walk.walk(page)

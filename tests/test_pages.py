"""What the pages have people type is typed, page by page, at a home and on a laptop; see `tests.houses`.

Configurations are written into the file that the page's commands name. What a page shows of an answer is
compared with what was said, in form.
"""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from tests.documents import OTHER_ID, Line, agrees, fenced, read, typed
from tests.houses import Houses, Machine, Typed, houses
from tests.isolated import needs_namespaces

pytestmark = [pytest.mark.asyncio(loop_scope="module"), needs_namespaces]

#: The pages whose lines are typed, in this order.
PAGES = [
    "docs/index.md",
    *(f"docs/howto/{name}.md" for name in ("browser", "ssh", "git", "docker", "games", "remote-desktop")),
    *(f"docs/howto/{name}.md" for name in ("home-server", "reverse")),
    "docs/troubleshooting.md",
    "docs/control.md",
    "docs/web.md",
    "docs/running.md",
    "docs/library.md",
    "README.md",
    "docs/looking.md",
    *(f"docs/howto/{name}.md" for name in ("hotspot", "own-network")),
]

#: Pages whose lines are not typed, and why.
UNWALKED = {
    "docs/howto/tor.md": "not run: there is no Tor here, and libtoxcore takes no local address for a relay"
}

#: Lines that are not typed here, by how they begin: the test that runs them, or why nothing does.
ELSEWHERE = {
    "chromium": "tests/end/test_browser.py",
    "toxproxy service install": "tests/test_cli_service.py",
    "make demo": "tests/end/test_demo.py",
    "toxproxy server --state": "not run: tests/end/test_several_processes.py has two such processes",
    "xfreerdp": "not run: there is no remote desktop here",
    "vncviewer": "not run: there is no remote desktop here",
    "systemctl": "not run: no systemd where tests run; tests/program/test_unit.py has its units verified",
    "podman": "not run: an image is made of Debian's; tests/test_container.py reads its files",
    "make ": "not run: tests/test_site.py looks for the target",
    "python -m ": "not run: some take hours; tests/test_site.py looks for the module",
    "pytest ": "not run: this is one",
    "sudo apt": "not run: it changes the system; tests/test_install.py runs tools/install",
    "pipx install": "not run: it asks PyPI",
    "pip install": "not run: it asks PyPI",
    "python3 -m venv": "not run: only pip fills it",
    ". ": "not run: only the shell changes",
}
#: What ends the laptop's session, each time that it is typed.
ENDING = ("toxproxy block", "toxproxy revoke")
#: What a system may lack.
SKIPPED = {"docker": "docker"}

_BOTH = "[client]\nssh = 2222:127.0.0.1:22:TOXID\n[socks]\nbrowser = 1080:TOXID\n"
_PATIENT = f"{_BOTH}[tox]\nwait = 90\n"  # a program of the page's, with a new key
_NODE = "192.0.2.1:33445:DHTKEY"
#: What a page takes for granted: in the file of the home, and of the laptop.
GIVEN = {
    "docs/index.md": ("", ""),
    "docs/howto/browser.md": ("", ""),
    "docs/howto/git.md": ("", "[socks]\nbrowser = 1080:TOXID\n"),
    "docs/troubleshooting.md": ("[access]\n", f"{_BOTH}[client]\nweb = 9998:127.0.0.1:9999:TOXID\n"),
    "docs/control.md": ("[access]\n", _BOTH),
    "docs/web.md": ("[access]\n[client laptop]\nkey = CLIENTKEY\n", ""),
    "docs/library.md": ("[access]\npermit = printer.lan:80\n", _PATIENT),
    "README.md": ("", _PATIENT),
    "docs/looking.md": ("", _BOTH),
    "docs/howto/hotspot.md": ("[access]\n", _BOTH),
    "docs/howto/own-network.md": ("", _BOTH),
}
#: Blocks of configuration, by their page and number, that are not for the end that their sections are of.
BOTH = {("docs/howto/own-network.md", 0)}
NODES = {("docs/howto/own-network.md", 1)}
#: References, whose configurations tests/test_examples.py has parsed.
PARSED = {"docs/configuration.md", "README.md"}

#: Where a command of toxproxy is typed. Others are typed on the laptop.
AT_HOME = {"server", "invite", "allow", "clients", "revoke", "block", "service", "reload"}
ON_LAPTOP = {("docs/looking.md", "toxproxy reload")}
#: The lines that go on.
ENDLESS = ("toxproxy server", "toxproxy client ", "toxproxy invite")
#: The lines that take long, and are typed on one page only.
ONCE = {"toxproxy speedtest"}
#: What a line asks, and the answer.
_SHELL = (r"[#$] $", "exit\n")
ANSWERS = {
    "toxproxy allow": (r"\[y/N\] $", "y\n"),
    "ssh -p 2222 me@localhost": _SHELL,
    "ssh nas.lan": _SHELL,
}
#: The lines that end with another status than 0: something has to be mended.
STATUS = {"toxproxy doctor": 1}


class Walk:
    """A home and a laptop, what runs there, and what was said so far."""

    def __init__(self, houses: Houses) -> None:
        self.home, self.laptop = houses.home, houses.laptop
        self.page = ""
        #: What is shown in another form than it was said.
        self.differing: list[str] = []
        #: A page that went wrong, and may have left anything.
        self.broken: str | None = None
        #: What was said to each line, on any page.
        self.said: dict[str, list[str]] = {}
        #: What runs: `server`, `client` and others.
        self.running: dict[str, Typed] = {}
        #: What stands in the place of what a reader fills in.
        self.values = {
            "office = TOXID": f"office = {OTHER_ID}",
            "[client guest]\nkey = CLIENTKEY": f"[client guest]\nkey = {'2D' * 32}",
            "/home/me": str(self.home.home),
            _NODE: houses.node,
        }
        #: Whether the next client has to be let in first.
        self.strange = False
        self._lines: dict[str, str] = {}
        self._sections: dict[str, dict[str, str]] = {}
        self._changed: set[str] = set()

    async def walk(self, page: str) -> None:
        """Type a page."""
        self.page = page
        self._sections = {"home": {}, "laptop": {}}
        self._changed = set()
        for machine, text in zip(("home", "laptop"), GIVEN.get(page, ("[access]\n", "")), strict=True):
            self.configure(machine, text)
        if page in BEFORE:
            await BEFORE[page](self)
        number = 0
        for kind, block in fenced(read(page)):
            if kind == "ini" and page not in PARSED:
                self._configured(block, number)
                number += 1
            elif kind == "text" and block.startswith("Host "):
                (self.laptop.home / ".ssh" / "config").write_text(block)
            elif kind == "python":
                await self._program(block)
            elif kind == "yaml":
                await self._prometheus(block)
            for line in typed(kind, block):
                if not elsewhere(line.typed):
                    await self._line(line)
        await self.settle()
        if page in AFTER:
            await AFTER[page](self)

    # Configurations

    def _configured(self, block: str, number: int) -> None:
        place = (self.page, number)
        if place in NODES:
            return
        laptops = re.search(r"^\[(client|socks|exits|route|reverse)\]", block, re.MULTILINE)
        if place in BOTH or laptops:
            self.configure("laptop", block)
        if place in BOTH or not laptops:
            self.configure("home", block)

    def configure(self, machine: str, text: str) -> None:
        """Put sections into a file; one that it has already is replaced."""
        for section in re.split(r"^(?=\[)", text, flags=re.MULTILINE):
            if section.strip():
                self._sections[machine][section.partition("\n")[0]] = section
                self._changed.add(machine)

    def write(self, machine: str) -> bool:
        """Write the file of an end. Returns whether that needs a restart."""
        self._changed.discard(machine)
        where = self.home if machine == "home" else self.laptop
        file = where.home / self.file(machine)
        file.touch(mode=0o600)
        before, text = file.read_text(), self.filled("".join(self._sections[machine].values()))
        file.write_text(text)
        return _at_start(before) != _at_start(text)

    def file(self, machine: str) -> str:
        """The file that the page's commands name."""
        lines = [line.typed for kind, block in fenced(read(self.page)) for line in typed(kind, block)]
        names = re.findall(r"[\w-]+\.ini", "\n".join(line for line in lines if line.startswith("toxproxy")))
        other, usual = ("cfg.ini", "server.ini") if machine == "home" else ("server.ini", "cfg.ini")
        return next((name for name in names if name not in (other, "home.ini")), usual)

    def filled(self, text: str) -> str:
        """A text with the values of this walk."""
        for name, value in self.values.items():
            text = text.replace(name, value)
        return text

    # A line

    async def _line(self, line: Line) -> None:
        if (needed := SKIPPED.get(line.typed.split()[0])) is not None and shutil.which(needed) is None:
            return
        runs_on = line.typed.startswith(ENDLESS) and "invite" not in line.typed
        if not runs_on and not line.typed.startswith(ENDING) and line.shown and self._was_said(line):
            return  # on an earlier page
        if line.typed in ONCE and line.typed in self.said and not line.shown:
            return
        if hook := BEFORE.get(f"{self.page}: {line.typed}"):
            await hook(self)
        if line.typed.startswith(ENDLESS):
            said = await self._endless(line.typed)
        else:
            await self.settle()
            said = await self.short(line.typed)
        self.said.setdefault(line.typed, []).append(said)
        if not agrees(line.shown, said):
            self.differing.append(f"{self.page} shows for {line.typed}\n{line.shown}\nand it says\n{said}")
        if hook := AFTER.get(f"{self.page}: {line.typed}"):
            await hook(self)

    def _was_said(self, line: Line) -> bool:
        return any(agrees(line.shown, said) for said in self.said.get(line.typed, ()))

    async def short(self, line: str) -> str:
        """Type a line that ends by itself."""
        words = line.split()
        at_home = words[0] == "toxproxy" and words[1] in AT_HOME and (self.page, line) not in ON_LAPTOP
        at_home = at_home or (words[:2] == ["toxproxy", "check"] and words[2] != "cfg.ini")
        machine = self.home if at_home or self.page == "docs/web.md" else self.laptop
        filled = self.filled(line)
        if line.startswith("toxproxy join"):
            (asked,) = re.findall(r"^  toxproxy join (.*)$", self.running["invite"].said, re.MULTILINE)
            filled = f"toxproxy join {asked}"
        if "clone" in words:  # each of them is another way to the same folder
            filled = f'cd "$(mktemp -d)" && {filled}'
        began = time.monotonic()
        status, said = await machine.type(filled, *ANSWERS.get(line, ()))
        print(f"{time.monotonic() - began:6.1f} s  {self.page}: {line}")
        expected = next((value for begins, value in STATUS.items() if line.startswith(begins)), 0)
        assert status == expected, f"{machine.name}$ {filled}\n{said}"
        return said

    # What goes on

    async def _endless(self, line: str) -> str:
        role = line.split()[1]
        if role == "client" and "home" in self._changed:
            await self.run("server", f"toxproxy server {self.file('home')}")
        if role != "invite":
            await self.run(role, line)
        elif role not in self.running:  # it takes half a minute, and is the same on each page
            invite = self.running[role] = await self.home.start(line)
            await invite.until("^  toxproxy join .*\n(.*\n)*Ctrl-C")
        return self.running[role].shown

    async def settle(self) -> None:
        """Have both ends run, with the files as the page has them by now."""
        if "home" in self._changed:
            await self.run("server", f"toxproxy server {self.file('home')}")
        if "laptop" in self._changed:
            await self.run("client", f"toxproxy client {self.file('laptop')}")

    async def run(self, role: str, line: str) -> None:
        """Have an end run by this line. One that does already reads its file again, if that is enough."""
        name, machine = ("home", self.home) if role == "server" else ("laptop", self.laptop)
        runs = self._lines.get(role) == line
        if name in self._changed and ".ini" in line:
            if not self.write(name) and runs:
                await machine.well(f"toxproxy reload --role {role}")
                return
        elif runs:
            return
        client = self.running.get("client")
        since = 0 if client is None else len(client.said)
        await self.stop(role)
        end = self.running[role] = await machine.start(f"exec {line}")
        self._lines[role] = line
        if role == "client":
            await end.until("^waiting to be allowed " if self.strange else "^connected to ")
            self.values["CLIENTKEY"] = (await self.laptop.well("toxproxy id client"))[:64]
            self.values["9142"] = self.values["CLIENTKEY"][:4]
        else:
            await end.until("Tox ID of this server:\n\n.*\n")
            self.values["TOXID"] = (await self.home.well("toxproxy id server")).strip()
            if client is not None:
                await client.until("^connected to ", since)

    async def start(self, name: str, machine: Machine, line: str, pattern: str) -> None:
        """Have something else run, until it says that it does."""
        self.running[name] = await machine.start(f"exec {line}")
        if pattern:
            await self.running[name].until(pattern)

    async def stop(self, role: str) -> None:
        """End an end, if it runs."""
        self._lines.pop(role, None)
        if role in self.running:
            await self.running.pop(role).end()

    async def again(self) -> None:
        """Let the laptop in again."""
        client = self.running["client"]
        since = len(client.said)
        await self.home.well(f"toxproxy allow {self.values['CLIENTKEY']} --name laptop")
        await client.until("^connected to ", since)

    async def connected(self) -> None:
        """Wait until the laptop is."""
        await self.running["client"].until("^connected to ")

    async def end(self) -> None:
        """End what runs."""
        for each in reversed(self.running.values()):
            await each.end()

    # Other blocks

    async def _program(self, text: str) -> None:
        """Run a program in Python on the laptop. What is no whole program is one in a coroutine."""
        await self.settle()
        await self.stop("client")  # the program is one itself, with the same ports
        if "asyncio.run" not in text:
            imports, _, rest = text.partition("\n\n")
            inside = textwrap.indent(rest, "    ")
            text = f"import asyncio\n{imports}\nasync def main():\n{inside}\nasyncio.run(main())\n"
        (self.laptop.home / "program.py").write_text(text)
        identity = await self.laptop.well("toxproxy id client --state state")
        await self.home.well(f"toxproxy allow {identity.strip()}")
        self.laptop.environment["PYTHONWARNINGS"] = "error"
        said = await self.laptop.well(f"{shlex.quote(sys.executable)} program.py")
        assert "print(" not in text or "a page of the home" in said

    async def _prometheus(self, text: str) -> None:
        if shutil.which("promtool") is not None:
            (self.laptop.home / "prometheus.yml").write_text(text)
            await self.laptop.well("promtool check config --syntax-only prometheus.yml")


def _at_start(text: str) -> list[str]:
    """What of a file counts at the start only."""
    sections = re.split(r"^(?=\[)", text, flags=re.MULTILINE)
    return [each for each in sections if re.match(r"\[(tox|web|server)\]", each)]


def elsewhere(line: str) -> str | None:
    """What runs a line that is not typed here, or why nothing does."""
    return next((where for begins, where in ELSEWHERE.items() if line.startswith(begins)), None)


# What else has to be so on a page


async def _copied(walk: Walk) -> None:
    assert (walk.home.home / "notes.txt").read_text() == "a note\n"
    assert (walk.home.home / "photos" / "one.jpg").read_text() == "a picture\n"


async def _reversed(walk: Walk) -> None:
    serving = f"{shlex.quote(sys.executable)} -m http.server 3000 --bind 127.0.0.1 --directory web"
    await walk.start("laptop's web", walk.laptop, serving, "Serving HTTP")
    assert await walk.home.well("curl -sS http://127.0.0.1:8080/") == "a page of the home\n"


async def _secret(walk: Walk) -> None:
    walk.home.environment["SECRET"] = "yet another pass phrase"


async def _stranger(walk: Walk) -> None:
    """The laptop is another one, which nobody has let in."""
    walk.strange = True
    await walk.home.well(f"toxproxy revoke {walk.values['CLIENTKEY'][:12]}")
    await walk.stop("client")
    shutil.rmtree(walk.laptop.home / ".local" / "state" / "toxproxy" / "client")


async def _asked(walk: Walk) -> None:
    await walk.running["server"].until("waits to be let in")


async def _waits(walk: Walk) -> None:
    walk.strange = False
    walk.said.setdefault("toxproxy status", []).append(await walk.short("toxproxy status"))


async def _other_forwards(walk: Walk) -> None:
    walk._sections["laptop"] = {}
    forwards, _, _ = _BOTH.partition("[socks]")
    walk.configure("laptop", f"{forwards}wiki = 8080:wiki.lan:80:TOXID\n[tox]\nport = 33500-33599\n")
    walk.write("laptop")


async def _relay(walk: Walk) -> None:
    """A relay of one's own, at the home, with the configuration that the page has for one."""
    (_, text) = (block for kind, block in fenced(read(walk.page)) if kind == "ini")
    (walk.home.home / "relay.ini").write_text(text)
    await walk.start("relay", walk.home, "toxproxy server relay.ini --state relay", "Tox ID")
    assert "LISTEN" in await walk.home.well("ss -Hltn sport = :443")
    await walk.stop("relay")


async def _fetched(walk: Walk) -> None:
    await walk.settle()
    got = await walk.laptop.well("curl -sS -x socks5h://127.0.0.1:1080 http://printer.lan/")
    assert got == "a page of the home\n"


#: By page, or page and line.
BEFORE: dict[str, Callable[[Walk], Awaitable[None]]] = {
    "docs/web.md": _secret,
    "README.md": _stranger,
    "README.md: toxproxy allow": _asked,
    "docs/looking.md": _fetched,
    "docs/looking.md: toxproxy check cfg.ini": _other_forwards,
}
AFTER: dict[str, Callable[[Walk], Awaitable[None]]] = {
    "docs/howto/ssh.md": _copied,
    "docs/howto/home-server.md": Walk.again,
    "docs/howto/reverse.md": _reversed,
    "docs/web.md": Walk.again,
    "docs/looking.md": Walk.again,
    "README.md: toxproxy client cfg.ini": _waits,
    "README.md: toxproxy allow": Walk.connected,
    "docs/howto/own-network.md": _relay,
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def walk(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Walk]:
    async with houses(tmp_path_factory.mktemp("houses")) as made:
        (made.home.home / "home.ini").symlink_to("server.ini")
        walk = Walk(made)
        try:
            yield walk
        finally:
            await walk.end()


@pytest.mark.parametrize("page", PAGES)
async def test_what_a_page_has_people_type_works(walk: Walk, page: str) -> None:
    if walk.broken is not None:
        pytest.skip(f"{walk.broken} went wrong before")
    walk.broken = page
    await walk.walk(page)
    walk.broken = None
    differing, walk.differing = walk.differing, []
    assert not differing, "\n".join(differing)

"""`toxproxy invite` and `toxproxy join`: what they print, and the configuration file that is written."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
from pathlib import Path
from shlex import quote
from typing import Self

import segno

from toxproxy import config
from toxproxy.address import ToxId, parse_port
from toxproxy.app.allowing import allow
from toxproxy.config.ini import section_text
from toxproxy.config.settings import DEFAULT, Config, ToxSettings
from toxproxy.errors import ConfigError, ToxproxyError
from toxproxy.pairing import meeting, place
from toxproxy.pairing.exchange import Reason
from toxproxy.pairing.meeting import Absent, PairingFailed, Step
from toxproxy.pairing.words import link, new_words, parse_words
from toxproxy.program import runner
from toxproxy.program.interrupts import Interrupts
from toxproxy.program.logs import Console
from toxproxy.system import files, privileges
from toxproxy.system.state import StateFolder, option
from toxproxy.tox import identity, library
from toxproxy.tunnel.friend import short

log = logging.getLogger(__name__)

_MINUTES = int(meeting.LIFETIME / 60)

_STEPS = {
    Step.AGAIN: "nobody met yet: looking again with a new node",
    Step.NO_NETWORK: "looking for the Tox network",
    Step.NETWORK: "waiting for the other machine",
    Step.MET: "the other machine is there; comparing the words",
}

_INVITER = {
    Reason.WRONG: "somebody came with a wrong word and was told nothing. The invitation is over: make a new "
    "one with `toxproxy invite`",
    Reason.VERSION: "the other machine runs a toxproxy of another version: update both, then invite again",
    Reason.OVER: "somebody began again and again and never proved the words. The invitation is over: make a "
    "new one with `toxproxy invite`",
    Reason.EXPIRED: f"nobody joined within {_MINUTES} minutes. The words are void: make new ones with "
    "`toxproxy invite`",
    Reason.FAILED: "the other machine sent a key that cannot be one. The invitation is over",
}

_JOINER = {
    Reason.WRONG: "a word is wrong. The invitation is over: ask for a new one",
    Reason.VERSION: "the server runs a toxproxy of another version: update both, then ask for new words",
    Reason.OVER: "the words were used already: ask for new ones",
    Reason.EXPIRED: "the words are too old: ask for new ones",
    Reason.CANCELLED: "the invitation was taken back: ask for a new one",
    Reason.FAILED: "the server could not let this machine in; its terminal says why",
}

_NOBODY = (
    "nobody waits for these words. A word may be wrong, the words may have been used already, or they are "
    f"older than {_MINUTES} minutes: compare them, or ask for new ones"
)


def invite(folder: Path, file: Path | None, console: Console) -> bool:
    """Invite one client to the server with the state in `folder`, and let it in. Whether one was let in.

    `file` is the server's configuration, if it has one. Raises `ToxproxyError`.
    """
    settings = config.load(file) if file else DEFAULT
    _close_up()
    state = StateFolder(folder)
    own = identity.tox_id(state)
    words = new_words()
    meet = place.derive(words)
    let_in: list[str | None] = []

    async def admit(key: bytes) -> ToxId:
        let_in.append(await allow(state, key))
        log.info("client %s is let in", short(key))
        return own

    async def run() -> meeting.Joined | None:
        with Interrupts() as interrupts, _Countdown(console, meeting.LIFETIME) as countdown:
            async with interrupts.ending():
                return await meeting.invite(words, meet, settings.tox, admit, countdown.tell)
        return None

    print(_invitation(" ".join(words), link(words), file, settings), flush=True)
    try:
        joined = runner.run_loop(run())
    except PairingFailed as failed:
        raise ToxproxyError(f"{_INVITER[failed.reason]}. {_attempts(failed.attempts)}") from None
    if joined is None:
        log.info("the invitation is over%s", "; the client stays let in" if let_in else ": nobody was let in")
        return False
    print(_welcomed(joined, state, file, settings, runs=let_in[0] is not None), flush=True)
    return True


def join(folder: Path, text: str, console: Console, *, output: Path, port: str, tox: Path | None) -> bool:
    """Be let in by the words in `text`, and write the configuration file `output`. Whether that was done.

    The client is the one with its state in `folder`. Without a `text` it is asked for. `port` is the proxy
    port of the file. `tox` is a configuration file whose [tox] holds here and is copied.

    Raises `ConfigError` before anything is sent, and `ToxproxyError`.
    """
    try:
        parse_port(port)
        words = parse_words(text or input("The words of the invitation: "))
    except EOFError:
        raise ConfigError("join: expected six words, found none") from None
    except ValueError as error:
        raise ConfigError(f"join: {error}") from None
    settings = config.load(tox).tox if tox else ToxSettings()
    copied = tox.read_text("utf-8") if tox else ""
    _close_up()
    replacing = may_write(output)
    state = StateFolder(folder)
    key = identity.tox_id(state).public_key
    meet = place.derive(words)

    async def run() -> meeting.Joined | None:
        with Interrupts() as interrupts, _Countdown(console, meeting.PATIENCE) as countdown:
            async with interrupts.ending():
                return await meeting.join(words, meet, settings, key, countdown.tell)
        return None

    try:
        joined = runner.run_loop(run())
    except PairingFailed as failed:
        raise ToxproxyError(_JOINER[failed.reason]) from None
    except Absent as absent:
        raise ToxproxyError("the server stopped answering: try again" if absent.met else _NOBODY) from None
    if joined is None:
        return False
    write(output, configuration(joined.server, port, copied), replacing=replacing)
    print(_what_next(joined, state, output, port), flush=True)
    return True


class _Countdown:
    """Shows the step and the time left: in the status line, or without one as lines of the log."""

    def __init__(self, console: Console, seconds: float) -> None:
        self._console = console
        self._left = seconds
        self._text = ""
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        if warning := library.warning():
            log.warning("%s", warning)
        self._end = asyncio.get_running_loop().time() + self._left
        self._tick()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._text = ""
        self._console.show("")

    def tell(self, step: Step) -> None:
        """Show a step."""
        text = _STEPS[step]
        if step is Step.AGAIN or (text != self._text and not self._console.live):
            log.info("%s", text)
        self._text = text
        self._draw()

    def _tick(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(1.0, self._tick)
        self._draw()

    def _draw(self) -> None:
        left = max(0, round(self._end - asyncio.get_running_loop().time()))
        self._console.show(f"{self._text} ... {left // 60}:{left % 60:02} left" if self._text else "")


def _close_up() -> None:
    """As `runner.run`: the process has keys in memory, and C code that reads what the network sends."""
    privileges.forbid_memory_locking()
    if runner.INSPECTABLE not in os.environ:
        privileges.close_memory()
    privileges.keep_capabilities(())


# What is printed


def _invitation(words: str, url: str, file: Path | None, settings: Config) -> str:
    text = f"""\
On the other machine, within {_MINUTES} minutes:

  toxproxy join {words}

{_qr_code(url)}The words let one machine in, once, whichever comes first: tell them to nobody else.
Ctrl-C takes the invitation back.
"""
    if settings.tox.bootstrap is not None:
        text += f"""
{file} names a Tox network of its own. The other machine needs a file with the same
[tox] bootstrap: toxproxy join --tox FILE ...
"""
    return text


def _qr_code(url: str) -> str:
    """The link, and its QR code if this is a terminal that can show one."""
    drawn = io.StringIO()
    segno.make(url, error="l", micro=False).terminal(drawn, border=2, compact=True)
    text = f"or this link instead of the words:\n\n  {url}\n\n"
    try:
        drawn.getvalue().encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        return text
    return text + drawn.getvalue() + "\n" if sys.stdout.isatty() else text


def _attempts(number: int) -> str:
    return f"{number} attempt{'' if number == 1 else 's'} with these words reached this machine"


def _welcomed(
    joined: meeting.Joined, state: StateFolder, file: Path | None, settings: Config, *, runs: bool
) -> str:
    key = joined.client.hex().upper()
    text = f"""\
Joined: the client {key} is let in.

  check words: {" ".join(joined.check)}

The other machine must show the same two. If it does not, somebody else was let in. Shut it out:

  toxproxy block {key}{option(state.path, "server")}
"""
    if joined.attempts > 1:
        text += f"""
{_attempts(joined.attempts)}; the others were not let in.
"""
    if not joined.confirmed:
        text += """
The other machine did not confirm that it knows. If `toxproxy join` failed there, invite it again.
"""
    if runs:
        return text
    command = "toxproxy server" + (f" {quote(str(file))}" if file else "") + option(state.path, "server")
    text += f"""
No server runs with this state folder yet. Start it:

  {command}
"""
    if settings.access.permit is None:
        text += f"""
Clients then reach 127.0.0.1:22, the ssh of this machine, and nothing else. For a browser, let them
reach everything that this machine reaches:

  {command} --permit '*:*'
"""
    return text


def _what_next(joined: meeting.Joined, state: StateFolder, output: Path, port: str) -> str:
    return f"""\
Joined: the server {joined.server} lets this machine in.

  check words: {" ".join(joined.check)}

The server must show the same two. If it does not, somebody is in between: delete {output}.

{output} is written. Next:

  toxproxy client {quote(str(output))}{option(state.path, "client")}
  curl -x socks5h://127.0.0.1:{port} URL

Where to is up to the server: its ssh (see the example in {output}), or what --permit says there.
"""


# The configuration file


def configuration(server: ToxId, port: str, other: str) -> str:
    """The text of a client's file: a proxy port, an example of a forward, and [tox] of the text `other`."""
    return (
        f"""\
; Written by `toxproxy join`. Start it with: toxproxy client FILE

[socks]
; a SOCKS and HTTP proxy on this machine; what connects through it leaves from the server
browser = {port}:{server}

[client]
; a port here that leads to one of the server's, as ssh -L; then: ssh -p 2222 localhost
; ssh = 2222:127.0.0.1:22:{server}

{section_text(other, "tox")}""".rstrip()
        + "\n"
    )


def may_write(path: Path) -> bool:
    """Whether `path` is to be replaced; False if there is no such file. Raises `ConfigError`."""
    if not os.access(path.parent, os.W_OK):
        raise ConfigError(
            f"join: expected a folder where {path} can be written: choose another with --output"
        )
    if not path.exists():
        return False
    question = f"{path} is there already. Replace it? [y/N] "
    if sys.stdin is not None and sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes"):
        return True
    raise ConfigError(f"join: expected no file {path}, found one: choose another with --output")


def write(path: Path, text: str, *, replacing: bool) -> None:
    """Write a file that only this user can read. If that fails, the text is printed: it is needed."""
    how = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if replacing else os.O_EXCL)
    try:
        with open(os.open(path, how, 0o600), "w", encoding="utf-8") as file:
            files.close_to_others(file.fileno())
            file.write(text)
    except OSError as error:
        print(text)
        raise ToxproxyError(
            f"{path} cannot be written: {error.strerror}. Joined all the same: put these lines into a file"
        ) from None

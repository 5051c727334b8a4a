"""The options of the commands that fit toxproxy into a machine: `service` and `completion`."""

from __future__ import annotations

import argparse
from pathlib import Path

from toxproxy.cli import completion, service
from toxproxy.cli.adding import ROLES, Add, Command, adder

_SERVICE_EPILOG = """\
As a user: a service of yours, with the identity that `toxproxy server` and `toxproxy client` use.
As root: a service of the system, as a user that exists only for it and with an identity of its own in
/var/lib/toxproxy-server or -client; with --run-as USER as that user, and with that user's identity.
"""

_INSTALL_EPILOG = """\
The unit is written, and nothing is started: what to type next is printed. The configuration is read anew
by `systemctl reload`. The service may write to its state folder and nothing else (docs/security.md).
"""

_COMPLETION_EPILOG = """\
  bash:  toxproxy completion bash > ~/.local/share/bash-completion/completions/toxproxy
  zsh:   toxproxy completion zsh > ~/.zfunc/_toxproxy    with fpath+=~/.zfunc before compinit
  fish:  toxproxy completion fish > ~/.config/fish/completions/toxproxy.fish
"""


def add_to(add: Add) -> None:
    """Add the commands to a parser."""
    text = "have systemd start a server or a client, and keep it running"
    actions = add("service", service.status_command, text, _SERVICE_EPILOG).add_subparsers(
        title="actions", metavar="ACTION", required=True
    )

    add_action = adder(actions)

    def action(name: str, run: Command, text: str, epilog: str | None = None) -> argparse.ArgumentParser:
        parser = add_action(name, run, text, epilog)
        whose = parser.add_mutually_exclusive_group()
        for scope, what in (("user", "of this user"), ("system", "of the system")):
            whose.add_argument(
                f"--{scope}", dest="scope", action="store_const", const=scope, help=f"a service {what}"
            )
        return parser

    install = action("install", service.install_command, "write the service's unit", _INSTALL_EPILOG)
    install.add_argument("role", choices=ROLES, help="which end")
    install.add_argument("config", metavar="CONFIG", type=Path, nargs="?", help="its configuration file")
    install.add_argument("--permit", metavar="RULES", help="as of `toxproxy server`")
    install.add_argument("--run-as", metavar="USER", help="a user of the machine, for one of the system")
    install.add_argument("--print", action="store_true", help="only show the unit, and write nothing")
    uninstall = action("uninstall", service.uninstall_command, "stop the service and remove its unit")
    uninstall.add_argument("role", choices=ROLES, help="which end")
    text = "say which services there are, and whether they run"
    status = action("status", service.status_command, text)
    status.add_argument("role", choices=ROLES, nargs="?", help="which end (default: both)")

    text = "print what has a shell complete toxproxy's commands, options and words"
    complete = add("completion", completion.completion_command, text, _COMPLETION_EPILOG)
    complete.add_argument("shell", choices=completion.SHELLS, help="which shell")

"""What an end does, for a browser, for Prometheus and for dashboards: [web]. A view of the control plane."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager

from toxproxy.app.client import Client
from toxproxy.app.server import Server
from toxproxy.errors import ConfigError


def beside(end: Server | Client) -> AbstractAsyncContextManager[Mapping[str, object]] | None:
    """What has to run beside `end`; None without [web]. It returns the address, for the ready file.

    Raises `ConfigError` if the packages of the extra `web` are not installed.
    """
    if (settings := end.config.web) is None:
        return None
    try:
        from toxproxy.web.server import WebServer
    except ImportError as error:
        raise ConfigError(
            f"{settings.where}: [web] needs the packages aiohttp and prometheus-client, and {error.name} is "
            "not installed: pip install 'toxproxy[web]', or remove [web]"
        ) from None
    return WebServer(end, settings)

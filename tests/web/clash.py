"""A client for the Clash API, written after its documents and after what dashboards send.

It stands for a dashboard at another address: each request has an Origin, and the secret is in the
header, or for a WebSocket in its address. https://wiki.metacubex.one/api/ has the values.
"""

from __future__ import annotations

import json
from typing import Any

import aiohttp

DASHBOARD = "https://dashboard.example"


class Dashboard:
    """Raises `AssertionError` where a browser would not let the page read the answer."""

    def __init__(self, http: aiohttp.ClientSession, url: str, secret: str) -> None:
        self._http = http
        self._url = url
        self._secret = secret

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """The status, and the JSON body or None. Asks before, as a browser does (CORS preflight)."""
        asking = {
            "Origin": DASHBOARD,
            "Access-Control-Request-Method": method,
            "Access-Control-Request-Headers": "authorization,content-type",
            "Access-Control-Request-Private-Network": "true",
        }
        async with self._http.options(self._url + path, headers=asking) as response:
            assert response.status in (200, 204)
            assert response.headers["Access-Control-Allow-Origin"] in (DASHBOARD, "*")
            assert method in response.headers["Access-Control-Allow-Methods"]
            assert "authorization" in response.headers["Access-Control-Allow-Headers"].lower()
            assert response.headers["Access-Control-Allow-Private-Network"] == "true"
        headers = {
            "Origin": DASHBOARD,
            "Authorization": f"Bearer {self._secret}",
            "Content-Type": "application/json",
        }
        async with self._http.request(method, self._url + path, headers=headers, **options) as response:
            assert response.headers["Access-Control-Allow-Origin"] in (DASHBOARD, "*")
            text = await response.text()
            return response.status, json.loads(text) if text else None

    async def messages(self, path: str, count: int, **query: str) -> list[Any]:
        """The first messages of a WebSocket."""
        url = f"{self._url}{path}".replace("http:", "ws:")
        params = {"token": self._secret, **query}
        async with self._http.ws_connect(url, params=params, origin=DASHBOARD) as socket:
            return [await socket.receive_json(timeout=30) for _ in range(count)]

    async def lines(self, path: str, count: int) -> list[Any]:
        """The first lines of an endless body, which is what a program without WebSockets reads."""
        headers = {"Authorization": f"Bearer {self._secret}"}
        async with self._http.get(self._url + path, headers=headers) as response:
            assert response.status == 200
            return [json.loads(await response.content.readline()) for _ in range(count)]

"""The Tox network: libtoxcore through cffi, and a node that asyncio drives."""

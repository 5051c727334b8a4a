"""The Tox network: libtoxcore through cffi, and a node driven by asyncio."""

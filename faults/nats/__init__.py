"""NATs: a client and a server, each behind a router of its own, on a Tox network of namespaces."""

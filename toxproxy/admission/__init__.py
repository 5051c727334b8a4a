"""Who may be a client of the server: friend requests, the record of clients, Tox friends."""

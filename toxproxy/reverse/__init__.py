"""The other direction: a server listens for a client, and what comes there leaves at the client."""

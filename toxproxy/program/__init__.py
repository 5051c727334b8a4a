"""The process that runs a server or a client: start and stop, signals, progress, log."""

"""A process around one end: its start and stop, signals, progress, logs."""

"""The control plane: what a running program tells of itself, and the socket on which it is asked."""

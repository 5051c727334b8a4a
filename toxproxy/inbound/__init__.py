"""What clients of the near end speak: SOCKS and HTTP, and the ports they come to."""

"""Reading HTTP/1.1 messages as real clients and servers send them. Pure: bytes in, events out."""

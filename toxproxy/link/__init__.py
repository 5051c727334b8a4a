"""Links: packets to one peer and back, over whatever carries datagrams. Some are lost."""

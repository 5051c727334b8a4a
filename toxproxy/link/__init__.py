"""Links: reliable, ordered channels to one peer, over whatever carries datagrams."""

"""Who may be a client: requests, records, friends."""

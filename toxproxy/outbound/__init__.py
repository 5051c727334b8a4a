"""How the far end connects: names looked up, rules asked, addresses tried, other proxies."""

"""llama-server's own endpoints, for the clients that are made for it."""

"""Training of the tiny models that ship with Motet. A development tool: it needs torch."""

"""Motet in the tools of others. Each module is imported by its tool, and by nothing in Motet."""

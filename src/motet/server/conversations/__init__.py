"""Conversations that the server keeps: memory as a resource, on every kind of model."""

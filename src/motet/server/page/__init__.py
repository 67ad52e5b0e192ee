"""The page to chat at, which browsers get at ``/``: files of our own, served as they are."""

"""``motet serve``: a model behind HTTP, for the clients that people have; the extra "serve"."""

"""Making model files of model files: other formats, other types, and what is needed for them."""

"""A directory's tokenizer as GGUF's keys: ``reading.read_tokenizer``."""

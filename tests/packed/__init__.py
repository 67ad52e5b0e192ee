"""Packed files: the same bits as what they were packed of, or a clear refusal."""

"""What is on disk: model files as named tensors, and the block formats they are stored in."""

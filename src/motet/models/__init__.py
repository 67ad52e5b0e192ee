"""Model families: what a file declares, and the arithmetic that runs it. One file a family."""

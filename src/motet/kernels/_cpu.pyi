def supported() -> list[str]:
    """Instruction sets that this processor and system can run, best first."""

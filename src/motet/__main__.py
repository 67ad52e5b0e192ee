"""``python -m motet``, the same as the ``motet`` command."""

from motet.cli import main

if __name__ == "__main__":
    main(prog_name="motet")

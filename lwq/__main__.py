"""``python -m lwq``."""

from lwq.cli import main

if __name__ == "__main__":
    main()

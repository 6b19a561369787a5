"""``python -m lwq``."""

from lwq.cli.main import main

if __name__ == "__main__":
    main()

"""``python -m ecluse``."""

from ecluse.cli.main import main

if __name__ == "__main__":
    main()

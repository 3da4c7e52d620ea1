"""``python -m bmo``."""

import sys

from bmo.cli import main

if __name__ == "__main__":
    sys.exit(main())

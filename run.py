"""Start tokenwire from a checkout: `python run.py [flags]`, `python run.py check-config [flags]`."""

import sys

from server.cli import main

if __name__ == "__main__":
    sys.exit(main())

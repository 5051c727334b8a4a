"""`python -m toxproxy`."""

import sys

from toxproxy.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""`python -m cellblock_worker FD`: one worker on the socket FD."""

import sys

from cellblock_worker.session import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))

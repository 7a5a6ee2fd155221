"""Where random numbers begin, for those who were copied: forks, sandboxes that were restored."""

import sys


def renew():
    """Copies of one process must not draw the same numbers."""
    random = sys.modules.get("random")
    if random is not None:
        random.seed()
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()

"""Prints `passed failed skipped` of a JUnit file that pytest or meson wrote."""

import sys
import xml.etree.ElementTree as ElementTree


def counts(path):
    """The three numbers of one file."""
    passed = failed = skipped = 0
    for case in ElementTree.parse(path).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif case.find("skipped") is not None:
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


if __name__ == "__main__":
    try:
        print(*counts(sys.argv[1]))
    except (OSError, ElementTree.ParseError) as problem:
        sys.exit(str(problem))

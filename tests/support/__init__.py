"""The harness that the Python suites share."""

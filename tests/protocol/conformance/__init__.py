"""The official conformance suite."""

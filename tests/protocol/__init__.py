"""The protocol suite."""

"""The official clients."""

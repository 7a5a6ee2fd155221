"""A server that plays Modal: its control plane, its task command router, and sandboxes of bwrap."""

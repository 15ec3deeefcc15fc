"""Images: where they come from, decoded once, shared and split. Without torch."""

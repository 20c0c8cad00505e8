"""Re-keys the frames of feed by their minute into the topic bucketed."""

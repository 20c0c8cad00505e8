"""Replays files of frames into the topic feed."""

"""The bytes of each topic, both directions, and what the offset commits carry. Pure."""

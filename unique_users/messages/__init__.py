"""The bytes of each topic, in both directions, and the metadata of offset commits. Pure."""

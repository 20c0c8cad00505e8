"""A real Kafka broker without Docker or Java. Imports nothing else of ours; needs the extra `local`."""

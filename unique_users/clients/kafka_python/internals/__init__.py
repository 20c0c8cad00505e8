"""Everything that uses private names of kafka-python; tested with release 3.0.12."""

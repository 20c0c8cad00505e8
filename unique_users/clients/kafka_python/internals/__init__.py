"""All that uses private names of kafka-python: what is done here was tested with release 3.0.12."""

"""Runs the scripts on a Kafka of their own, and proves that their counts are exact."""

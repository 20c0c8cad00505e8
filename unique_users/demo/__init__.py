"""The scripts on a Kafka of their own, and the proof that their counts are exact."""

"""Kafka behind protocols; the only room that imports a Kafka client."""

"""Kafka behind protocols; alone imports a Kafka client."""

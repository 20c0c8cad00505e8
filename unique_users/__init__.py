"""Unique users per minute, exact, from a stream of JSON frames in Kafka.

Pure (no I/O, no wall clock):  frames, buckets, clock, rekey, tally, report, recounting
Loops (clients and clocks are arguments):  replay, bucketing, counting; positions and schedule help them
Edges:  clients/ (the only place that imports a Kafka client), topics, frame_files, local_kafka
Around them:  config, errors, lifecycle, command_line

Arrows go one way: scripts → loops and edges → pure.
"""

"""Unique users per minute, exact, from a stream of JSON frames in Kafka.

Pure (no I/O, no wall clock):  frames, buckets, clock, rekey, layout, cascade, tally, estimates, sketches, report
Loops (clients given):  replay, bucketing, counting, recounting, querying, publish
Parts of loops:  opening, ledger, refill, positions, schedule
Edges:  clients/ (alone imports Kafka clients), topics, store, saved, state_form, state_lock, frame_files, sample
Around:  config, config_file, config_checks, yaml_text, hiding, errors, lifecycle, watchdog, read_ahead, command_line
Local Kafka:  local_kafka, local_data, local_cluster, local_security
Its processes:  zookeeper, java_daemon, daemons, broker_probe, kafka_jars, kafka_tools
Demo:  demonstration, demo_place, demo_scripts, demo_stop

Arrows go one way: scripts → loops and edges → pure.
"""

"""Unique users per minute, exact, from a stream of JSON frames in Kafka.

Pure (no I/O, no wall clock):  frames, buckets, clock, rekey, layout, cascade, tally, estimates, sketches, report
Pure, what is remembered:  marks, generations, checkpoints, facts, offset_metadata, low_watermark
Pure, what is sent:  published, dead_letters
Loops (clients given):  replay, bucketing, counting, recounting, querying, publish
Parts of loops:  line, sending, opening, ledger, refill, drops, positions, past, history_check, schedule, renewed
Edges:  clients/ (alone imports Kafka clients), topics, frame_files, sample
Edges, the state:  store, saved, state_form, state_lock, state_rights, state_copies
Around them:  line_watch, config, config_file, config_checks, topic_settings, yaml_text, hiding, errors
Around them, the process:  lifecycle, watchdog
Around files and terminals:  read_ahead, decompression, command_line, state
Local Kafka:  local_kafka, local_data, local_cluster, local_security
Its processes:  zookeeper, java_daemon, daemons, broker_probe, kafka_jars, kafka_tools
Demo:  demonstration, demo_place, demo_scripts, demo_stop

Arrows go one way: scripts → loops and edges → pure.
"""

"""A process's life: signals, timers, the log, the watchdog."""

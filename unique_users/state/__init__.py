"""The SQLite files of a counter."""

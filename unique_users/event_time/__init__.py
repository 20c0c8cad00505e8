"""Minutes, longer intervals, and the stream clock. Pure: imports nothing of ours."""

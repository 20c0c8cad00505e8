"""The unique users of a bucket: sets, sketches, counts, and the marks of counts that may be wrong. Pure."""

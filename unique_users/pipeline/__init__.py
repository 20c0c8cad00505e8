"""How far the whole pipeline is, as the commits of both consumer groups tell it; for counters and for the page."""

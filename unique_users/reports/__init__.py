"""What the commands print on stdout: lines for people, or JSON lines. Pure."""

"""Every key: declared once, read once, checked once."""

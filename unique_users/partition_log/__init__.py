"""The log of a partition under its reader: whether it was cut back, and which records were deleted unread."""

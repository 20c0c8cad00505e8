"""Looks at everything a running system needs, changes nothing, and says in words what is wrong and what to do."""

"""Windlass measured from inside: programs that time one operation of the runtime."""

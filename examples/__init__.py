"""Programs that a user of Windlass would write, each short enough to be the documentation."""

__all__: list[str] = []

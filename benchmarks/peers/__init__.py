"""The others: the programs and configurations that stand beside Windlass."""

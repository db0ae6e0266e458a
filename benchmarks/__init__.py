"""What Windlass costs, beside its peers: each job run on this machine, in the same minutes as the others.

The figure that travels between machines is the CPU time of the server process per request, as a ratio to a
peer. So every server is pinned to one core, the load to the others, peers take turns in every round, and
medians count. A peer that is not installed is reported as absent; nothing is reported that was not measured.
"""

"""What a train step needs on machines that are not there: memory, work, traffic, time."""

"""The log and the job index in memory: for unit tests and simulations, under the same contract as PostgreSQL's."""

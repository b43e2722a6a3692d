"""The book as a batch of jobs, for an engine that runs them on many nodes (`workflow/`): which runs
are missing, as jobs of a useful length; what each needs; and a job as it runs on its node.
"""

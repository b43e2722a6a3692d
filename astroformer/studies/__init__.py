"""Sets of runs that answer one question together, and the tables of what was measured on a data
set.
"""

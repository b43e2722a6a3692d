"""Counting what a network costs: parameters, operations, memory, time; in closed form and by
tracing.
"""

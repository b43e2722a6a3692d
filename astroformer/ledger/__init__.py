"""What was measured (`records`), what the papers report (`claims`), and the tables that set them
side by side (`tables`).
"""

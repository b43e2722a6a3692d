"""A verdict for each reported number, what was found in the sources, and what shows it."""

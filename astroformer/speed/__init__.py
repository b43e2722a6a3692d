"""How fast networks train here, beside timm's own, beside other networks and beside what the device
can do at most.

Reads: roofline (the device), contestants (who is compared), floors (the least time), bench (taking
turns), epochs (with data), processes (side by side), kept (the records),
answers (what they say), memory_lines (memory by the number of images).
"""

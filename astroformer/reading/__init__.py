"""What the pages ask that read networks, recipes and augmentation."""

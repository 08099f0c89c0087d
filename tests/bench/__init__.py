"""`make bench`: how fast the main paths are, as ratios against a floor taken in the same run."""

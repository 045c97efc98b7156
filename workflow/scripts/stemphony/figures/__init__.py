"""Figures of results: images, curves, profiles, patterns and deflections, ready for a slide or a paper."""

"""What `import stemphony` offers: results as labelled arrays, and checks and runs of a config from Python."""

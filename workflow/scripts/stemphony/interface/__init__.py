"""What `import stemphony` gives: results as labelled arrays, checks and runs from Python."""

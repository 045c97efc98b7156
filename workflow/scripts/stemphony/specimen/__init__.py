"""Structure files in, atoms in an orthogonal cell out."""

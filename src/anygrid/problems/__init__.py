"""Equations with their samplers and verified solvers, one a file."""

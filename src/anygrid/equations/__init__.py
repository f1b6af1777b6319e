"""A partial differential equation written as text: its system, its solver, its residual."""

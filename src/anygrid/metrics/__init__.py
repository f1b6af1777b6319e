"""Errors, spectra and skill, as integrals over the domain."""
